//! Ctrl-C, and a request to end: a QEMU that was started must not stay behind, and a migration is ended in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cpreg_qemu::qmp::Patience;

use crate::failure::Failure;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What is done besides.
type Act = Box<dyn Fn() + Send>;
static ACT: Mutex<Option<Act>> = Mutex::new(None);
static IS_PREPARED: Mutex<bool> = Mutex::new(false);

/// From here on Ctrl-C, or a request to end, ends this process no more.
fn prepare() -> Result<(), Failure> {
    let mut is_prepared = IS_PREPARED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*is_prepared {
        ctrlc::set_handler(|| {
            INTERRUPTED.store(true, Ordering::Relaxed);
            if let Some(act) = &*ACT.lock().unwrap_or_else(PoisonError::into_inner) {
                act();
            }
        })
        .map_err(|error| Failure::new("cannot prepare for Ctrl-C").because(error))?;
        *is_prepared = true;
    }
    Ok(())
}

/// Does this when the user presses Ctrl-C or asks this process to end, instead of ending it.
pub(crate) fn instead(act: impl Fn() + Send + 'static) -> Result<(), Failure> {
    *ACT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(act));
    prepare()
}

/// So many seconds for each step of talking to a QEMU; from here on Ctrl-C ends the waiting, and what was started with it.
pub(crate) fn patience(seconds: u64) -> Result<Patience<'static>, Failure> {
    prepare()?;
    Ok(Patience {
        timeout: Duration::from_secs(seconds),
        interrupted: Some(&INTERRUPTED),
    })
}
