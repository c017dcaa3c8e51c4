//! Ctrl-C, and a request to end: a QEMU that was started must not stay behind, and a migration is ended in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cpreg_qemu::qmp::WaitOptions;

use crate::failure::Failure;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What is done besides.
type InterruptHandler = Box<dyn Fn() + Send>;
static HANDLER: Mutex<Option<InterruptHandler>> = Mutex::new(None);
static IS_HANDLER_INSTALLED: Mutex<bool> = Mutex::new(false);

/// From here on Ctrl-C, or a request to end, ends this process no more.
fn prepare() -> Result<(), Failure> {
    let mut is_prepared = IS_HANDLER_INSTALLED
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if !*is_prepared {
        ctrlc::set_handler(|| {
            INTERRUPTED.store(true, Ordering::Relaxed);
            if let Some(act) = &*HANDLER.lock().unwrap_or_else(PoisonError::into_inner) {
                act();
            }
        })
        .map_err(|error| Failure::new("cannot prepare for Ctrl-C").with_cause(error))?;
        *is_prepared = true;
    }
    Ok(())
}

/// Does this when the user presses Ctrl-C or asks this process to end, instead of ending it.
pub(crate) fn on_interrupt(act: impl Fn() + Send + 'static) -> Result<(), Failure> {
    *HANDLER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(act));
    prepare()
}

/// So many seconds for each step of talking to a QEMU; from here on Ctrl-C ends the waiting, and what was started with it.
pub(crate) fn wait_options(seconds: u64) -> Result<WaitOptions<'static>, Failure> {
    prepare()?;
    Ok(WaitOptions {
        timeout: Duration::from_secs(seconds),
        interrupted: Some(&INTERRUPTED),
    })
}
