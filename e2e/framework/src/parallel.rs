//! Work on many things, several at a time.

use std::sync::Mutex;
use std::thread;

/// Does `work` with each thing, on so many threads; they are taken in their order.
pub fn for_each<T: Send>(
    jobs: usize,
    things: impl Iterator<Item = T> + Send,
    work: impl Fn(T) + Sync,
) {
    let waiting = Mutex::new(things);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
                    let Some(thing) = next else { return };
                    work(thing);
                }
            });
        }
    });
}
