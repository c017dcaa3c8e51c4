//! [`Cancel`]: something that every wait looks at too.
//!
//! An `eventfd` that nobody reads: once it has been written to, every `poll` that has it among its descriptors comes back,
//! now and later. So a wait without an end can be ended by any thread, and none has to look at the clock.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::error::Error;

/// Ends waits from elsewhere. A clone is the same one.
#[derive(Clone)]
pub struct CancelToken(Arc<Inner>);

struct Inner {
    cancelled: AtomicBool,
    event: OwnedFd,
    children: Mutex<Vec<Weak<Self>>>,
}

impl CancelToken {
    /// One that has not been cancelled.
    ///
    /// # Errors
    /// If this process may open no more descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            cancelled: AtomicBool::new(false),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            children: Mutex::default(),
        })))
    }

    /// One that is cancelled with this one, and can be cancelled alone.
    ///
    /// # Errors
    /// Those of [`Cancel::new`].
    pub fn child(&self) -> io::Result<Self> {
        let child = Self::new()?;
        let mut children = self.children();
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&child.0));
        drop(children);
        // Cancelled meanwhile or long ago: whoever did it may have gone over the children already.
        if self.is_cancelled() {
            child.cancel();
        }
        Ok(child)
    }

    /// Ends what waits now and whatever will wait.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        // It can only fail if the counter is full, which says the same.
        let _ = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
        let children: Vec<_> = self.children().iter().filter_map(Weak::upgrade).collect();
        for child in children {
            Self(child).cancel();
        }
    }

    /// Whether it has been cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Waits until it is cancelled, or until then; says whether it is cancelled.
    ///
    /// # Errors
    /// If the system does not wait.
    pub fn wait(&self, until: Option<Instant>) -> io::Result<bool> {
        match wait(&[], until, &[self]) {
            Ok(_) => Ok(false),
            Err(error) if error.is_cancelled() => Ok(true),
            Err(error) => Err(error.into_io()),
        }
    }

    fn children(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Inner>>> {
        self.0
            .children
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelToken")
            .field(&self.is_cancelled())
            .finish()
    }
}

/// Cancels when it is dropped, however that comes about.
#[derive(Debug)]
pub struct CancelOnDrop<'c>(pub &'c CancelToken);

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Waits until one of the descriptors is ready (and says so), or until then; a cancelled one goes before both.
pub(crate) fn wait(
    files: &[PollFd<'_>],
    until: Option<Instant>,
    cancels: &[&CancelToken],
) -> Result<bool, Error> {
    loop {
        if cancels.iter().any(|cancel| cancel.is_cancelled()) {
            return Err(Error::cancelled());
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let mut all: Vec<PollFd<'_>> = files.to_vec();
        let own = all.len();
        all.extend(
            cancels
                .iter()
                .map(|cancel| PollFd::new(&cancel.0.event, PollFlags::IN)),
        );
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut all, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) if all[..own].iter().any(|file| !file.revents().is_empty()) => {
                return Ok(true);
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for one descriptor.
pub(crate) fn wait_for(
    file: impl AsFd,
    what: PollFlags,
    until: Option<Instant>,
    cancels: &[&CancelToken],
) -> Result<bool, Error> {
    wait(&[PollFd::new(&file, what)], until, cancels)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn ends_a_wait_in_another_thread_and_every_later_one() {
        let cancel = CancelToken::new().unwrap();
        let other = cancel.clone();
        let waits = thread::spawn(move || other.wait(None).unwrap());
        assert!(!cancel.is_cancelled());
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(!cancel.wait(Some(soon)).unwrap());
        assert!(Instant::now() >= soon);
        cancel.cancel();
        assert!(waits.join().unwrap());
        assert!(cancel.wait(None).unwrap());
    }

    #[test]
    fn is_cancelled_with_its_parent_and_alone() {
        let parent = CancelToken::new().unwrap();
        let (one, two) = (parent.child().unwrap(), parent.child().unwrap());
        let grandchild = two.child().unwrap();
        one.cancel();
        assert!(one.is_cancelled() && !two.is_cancelled() && !parent.is_cancelled());
        parent.cancel();
        assert!(two.is_cancelled() && grandchild.is_cancelled());
        assert!(parent.child().unwrap().is_cancelled());
    }
}
