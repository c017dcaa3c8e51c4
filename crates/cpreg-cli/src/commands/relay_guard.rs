//! `cpreg __relay-guard`: the process that sees to it that the VM runs on exactly one side. `cpreg relay` starts it; it is not for users.
//!
//! It outlives the relay: it leaves its session, and is not ended by the signals that end other commands. It ends when its work is
//! done, which is soon after its standard input has ended. Its last word goes to standard error if the relay is not there to hear it.

use std::io;

use cpreg_relay::guard;

use crate::failure::{Failure, Status};
use crate::interrupt;
use crate::printer::Printer;

pub(crate) fn run(printer: &mut Printer) -> Result<Status, Failure> {
    printer.report_to_stderr();
    // One that was started by hand may lead its process group already; then it stays where it is.
    let _ = guard::leave_session();
    interrupt::on_interrupt(|| {})?;
    let served = guard::run(io::stdin(), io::stdout().lock());
    if let (Some(whereabouts), false) = (served.vm_location, served.relay_notified) {
        printer.line(format_args!("cpreg relay is gone. {whereabouts}"));
        for done in &whereabouts.actions {
            printer.line(format_args!("  told {done}"));
        }
        for advice in &whereabouts.advice {
            printer.line(format_args!("  do: {advice}"));
        }
    }
    Ok(Status::Success)
}
