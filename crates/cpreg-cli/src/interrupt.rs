//! Handling of Ctrl-C and SIGTERM: cpreg ends every QEMU that it started, and cancels a migration
//! cleanly.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cpreg_qemu::qmp::WaitOptions;

use crate::failure::Failure;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Action of a command on a signal, in addition to setting [`INTERRUPTED`].
type InterruptHandler = Box<dyn Fn() + Send>;
static HANDLER: Mutex<Option<InterruptHandler>> = Mutex::new(None);
static IS_HANDLER_INSTALLED: Mutex<bool> = Mutex::new(false);

/// Installs the handler of Ctrl-C and SIGTERM. Afterwards these signals no longer terminate this
/// process.
fn install_handler() -> Result<(), Failure> {
    let mut is_installed = IS_HANDLER_INSTALLED
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if !*is_installed {
        ctrlc::set_handler(|| {
            INTERRUPTED.store(true, Ordering::Relaxed);
            if let Some(handler) = &*HANDLER.lock().unwrap_or_else(PoisonError::into_inner) {
                handler();
            }
        })
        .map_err(|error| Failure::new("cannot install a handler for Ctrl-C").with_cause(error))?;
        *is_installed = true;
    }
    Ok(())
}

/// Calls `handler` on Ctrl-C or SIGTERM instead of terminating this process.
pub(crate) fn on_interrupt(handler: impl Fn() + Send + 'static) -> Result<(), Failure> {
    *HANDLER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(handler));
    install_handler()
}

/// Returns options that wait up to `seconds` for each step with a QEMU.
///
/// After this call Ctrl-C ends the wait, and also the QEMU that cpreg started.
pub(crate) fn wait_options(seconds: u64) -> Result<WaitOptions<'static>, Failure> {
    install_handler()?;
    Ok(WaitOptions {
        timeout: Duration::from_secs(seconds),
        interrupted: Some(&INTERRUPTED),
    })
}
