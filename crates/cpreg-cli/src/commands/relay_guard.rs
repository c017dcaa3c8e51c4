//! `cpreg __relay-guard`: process that ensures that exactly one side runs the VM.
//!
//! `cpreg relay` starts the guard; users do not. The guard outlives the relay, even if a signal
//! ends the relay and its session: the guard has its own session and ignores these signals. It
//! exits when it has determined which side has the VM. If the relay has exited, the guard prints
//! the VM's location to standard error.

use std::io;

use cpreg_relay::guard;

use crate::failure::{Failure, Status};
use crate::interrupt;
use crate::printer::Printer;

pub(crate) fn run(printer: &mut Printer) -> Result<Status, Failure> {
    printer.report_to_stderr();
    // setsid(2) fails if a user started the guard as the leader of a process group. The guard then
    // stays in the session of its starter.
    let _ = guard::leave_session();
    interrupt::on_interrupt(|| {})?;
    let result = guard::run(io::stdin(), io::stdout().lock());
    if let (Some(location), false) = (result.vm_location, result.relay_notified) {
        printer.line(format_args!("cpreg relay has exited. {location}"));
        for action in &location.actions {
            printer.line(format_args!("  sent to {action}"));
        }
        for advice in &location.advice {
            printer.line(format_args!("  fix: {advice}"));
        }
    }
    Ok(Status::Success)
}
