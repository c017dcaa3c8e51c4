//! `cpreg guest-check`: checks inside a guest, before and after a move.

use cpreg_guest_check::arguments::GuestCheckArgs;
use cpreg_guest_check::check::CheckResult;
use cpreg_guest_check::error::Error;
use cpreg_guest_check::run;
use cpreg_report::names::FailureKind;

use crate::failure::{Failure, Status};
use crate::printer::Printer;

pub(crate) fn run(arguments: &GuestCheckArgs, printer: &mut Printer) -> Result<Status, Failure> {
    let mut output = Vec::new();
    let result = run::run(arguments, &mut output).map_err(|error| failure(&error))?;
    // Values from the guest are numbers and names of this program, without control characters.
    printer.append(&String::from_utf8_lossy(&output));
    Ok(match result {
        CheckResult::Absent | CheckResult::Unchanged => Status::Success,
        CheckResult::Found => Status::Refused,
        CheckResult::Unknown => Status::Unknown,
    })
}

/// Returns the failure of this command for an error of the library.
fn failure(error: &Error) -> Failure {
    let kind = match error {
        Error::Record { .. } => FailureKind::DOCUMENT,
        Error::Io { .. } => FailureKind::IO,
        _ => FailureKind::INPUT,
    };
    Failure::new(error.to_string()).with_kind(kind)
}
