//! [`CancelToken`]: ends every wait that includes it.
//!
//! The token is an `eventfd` that nothing reads. Once a thread has written to it, every present and
//! later `poll` that includes it returns. Any thread can thus end a wait without timeout, and no
//! wait needs a timeout to check for cancellation.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::error::Error;

/// Token that ends waits in other threads. A clone is the same token.
#[derive(Clone)]
pub struct CancelToken(Arc<Inner>);

struct Inner {
    cancelled: AtomicBool,
    event: OwnedFd,
    children: Mutex<Vec<Weak<Self>>>,
}

impl CancelToken {
    /// Creates a token that is not cancelled.
    ///
    /// # Errors
    /// Returns an error if this process may open no more descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            cancelled: AtomicBool::new(false),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            children: Mutex::default(),
        })))
    }

    /// Creates a token that is cancelled with this one. A cancellation of the new token alone
    /// leaves this one unchanged.
    ///
    /// # Errors
    /// Those of [`CancelToken::new`].
    pub fn child(&self) -> io::Result<Self> {
        let child = Self::new()?;
        let mut children = self.children();
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&child.0));
        drop(children);
        // A concurrent or earlier `cancel` may have visited the children before this one was added.
        if self.is_cancelled() {
            child.cancel();
        }
        Ok(child)
    }

    /// Ends all present and later waits that include this token.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        // The write fails only if the counter is full, and a full counter also wakes the waits.
        let _ = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
        let children: Vec<_> = self.children().iter().filter_map(Weak::upgrade).collect();
        for child in children {
            Self(child).cancel();
        }
    }

    /// Returns `true` if the token has been cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Waits until the token is cancelled or the deadline has passed. Returns `true` if the token
    /// is cancelled.
    ///
    /// # Errors
    /// Returns an error if the system call fails.
    pub fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        match wait(&[], deadline, &[self]) {
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

/// Guard that cancels the token when it is dropped.
#[derive(Debug)]
pub struct CancelOnDrop<'c>(pub &'c CancelToken);

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Waits until a descriptor is ready or the deadline has passed. Returns `true` if one is ready. A
/// cancellation takes precedence over both.
pub(crate) fn wait(
    files: &[PollFd<'_>],
    deadline: Option<Instant>,
    cancels: &[&CancelToken],
) -> Result<bool, Error> {
    loop {
        if cancels.iter().any(|cancel| cancel.is_cancelled()) {
            return Err(Error::cancelled());
        }
        let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut polled: Vec<PollFd<'_>> = files.to_vec();
        polled.extend(
            cancels
                .iter()
                .map(|cancel| PollFd::new(&cancel.0.event, PollFlags::IN)),
        );
        let timeout = remaining.and_then(|remaining| Timespec::try_from(remaining).ok());
        match poll(&mut polled, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_)
                if polled[..files.len()]
                    .iter()
                    .any(|file| !file.revents().is_empty()) =>
            {
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
    flags: PollFlags,
    deadline: Option<Instant>,
    cancels: &[&CancelToken],
) -> Result<bool, Error> {
    wait(&[PollFd::new(&file, flags)], deadline, cancels)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn cancel_ends_present_and_later_waits() {
        let cancel = CancelToken::new().unwrap();
        let other = cancel.clone();
        let waiter = thread::spawn(move || other.wait(None).unwrap());
        assert!(!cancel.is_cancelled());
        let deadline = Instant::now() + Duration::from_millis(20);
        assert!(!cancel.wait(Some(deadline)).unwrap());
        assert!(Instant::now() >= deadline);
        cancel.cancel();
        assert!(waiter.join().unwrap());
        assert!(cancel.wait(None).unwrap());
    }

    #[test]
    fn child_is_cancelled_alone_or_with_its_parent() {
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
