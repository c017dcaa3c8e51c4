//! Ctrl-C, and a request to end: a QEMU that was started must not stay behind, and a migration is ended in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cpreg_qemu::qmp::Patience;

use crate::failure::Failure;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Does this when the user presses Ctrl-C or asks this process to end, instead of ending it.
pub(crate) fn instead(act: impl Fn() + Send + 'static) -> Result<(), Failure> {
    ctrlc::set_handler(act)
        .map_err(|error| Failure::new("cannot prepare for Ctrl-C").because(error))
}

/// So many seconds for each step of talking to a QEMU; from here on Ctrl-C ends the waiting, and what was started with it.
pub(crate) fn patience(seconds: u64) -> Result<Patience<'static>, Failure> {
    instead(|| INTERRUPTED.store(true, Ordering::Relaxed))?;
    Ok(Patience {
        timeout: Duration::from_secs(seconds),
        interrupted: Some(&INTERRUPTED),
    })
}
