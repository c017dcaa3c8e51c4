//! Execution of the same work for many items, several items at a time.

use std::sync::Mutex;
use std::thread;

/// Runs `work` for each item on `jobs` threads. The threads take the items in their order.
pub fn for_each<T: Send>(
    jobs: usize,
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) + Sync,
) {
    let queue = Mutex::new(items);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.next());
                    let Some(item) = next else { return };
                    work(item);
                }
            });
        }
    });
}
