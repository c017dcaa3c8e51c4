//! What is said of a migration that has ended, and the exit status: with the guard, what the guard has seen; without, what passed through the relay.

use cpreg_relay::guard;
use cpreg_relay::{MigrationOutcome, MigrationResult, VmLocation};

use super::super::check;
use super::planner::PolicyReport;
use crate::arguments::{self, Format};
use crate::failure::{Failure, Status};
use crate::printer::{Printer, style, styled};
use cpreg_report::check::CheckFindings;

/// Reports one migration.
pub(super) fn print_outcome(
    arguments: &arguments::Relay,
    decided: PolicyReport<'_>,
    ended: Result<Option<MigrationResult>, cpreg_relay::Error>,
    settled: Option<&guard::VmLocationReport>,
    printer: &mut Printer,
) -> Result<Option<Status>, Failure> {
    let ended = match ended {
        Ok(Some(ended)) => ended,
        Ok(None) => return Ok(None),
        Err(error) => {
            let failure = Failure::new("no migration was passed on").with_hinted_cause(error);
            return Err(failure.with_hint("the VM is at the source, which goes on with it"));
        }
    };
    // The guard has looked at both sides, and knows better.
    let place = ended.vm_location;
    let hinted = |failure: Failure| match settled {
        Some(_) => failure,
        None => failure.with_hint(format!("the VM is {place}")),
    };
    if let Some(failure) = decided.failure {
        return Err(hinted(failure));
    }
    if let Some(answer) = &decided.findings {
        check::print_report(printer, answer, arguments.format, false)?;
    }
    if arguments.format == Format::Text {
        for reason in &decided.reasons {
            printer.line(format_args!(
                "{}: {reason}",
                styled(style::ERROR, "not begun")
            ));
        }
        if settled.is_none() {
            conclude(printer, &ended);
        }
    }
    let verdict = decided.findings.as_ref().map(CheckFindings::verdict);
    match ended.outcome {
        MigrationOutcome::Failed(error) => {
            let failure = Failure::new("the migration came to no end");
            Err(hinted(failure.with_hinted_cause(error)))
        }
        MigrationOutcome::Cancelled => Err(hinted(Failure::new(
            "the migration was ended before its device state went on",
        ))),
        MigrationOutcome::Refused => Ok(Some(verdict.map_or(Status::Refused, check::status))),
        _ => Ok(Some(match ended.vm_location {
            VmLocation::Destination | VmLocation::DestinationUnconfirmed => Status::Success,
            _ => Status::Error,
        })),
    }
}

/// The exit status where the guard knows where the VM is; `refused`: what it would be without.
pub(super) fn guarded_status(
    whereabouts: &guard::VmLocationReport,
    without: Option<Status>,
) -> Status {
    match without {
        Some(status @ (Status::Refused | Status::Unknown)) => status,
        _ if is_settled_at_destination(whereabouts) => Status::Success,
        _ => Status::Error,
    }
}

/// Whether the VM is at the destination and nothing is left to do.
pub(super) fn is_settled_at_destination(whereabouts: &guard::VmLocationReport) -> bool {
    whereabouts.place == guard::VmPlace::DESTINATION && whereabouts.advice.is_empty()
}

pub(super) fn conclude_not_begun(printer: &mut Printer, format: Format) {
    if format == Format::Text {
        printer.line(format_args!(
            "{}: nobody was connected; the VM is at the source, which goes on with it",
            styled(style::ERROR, "not begun")
        ));
    }
}

/// Where the VM is, and what to do.
fn conclude(printer: &mut Printer, ended: &MigrationResult) {
    let style = match ended.vm_location {
        VmLocation::Destination | VmLocation::DestinationUnconfirmed => style::GOOD,
        VmLocation::SourceRunning => style::WARNING,
        _ => style::ERROR,
    };
    printer.line(format_args!(
        "{}: {}",
        styled(style, "the VM is"),
        ended.vm_location
    ));
    if let Some(advice) = ended.vm_location.advice() {
        printer.line(format_args!("  do: {advice}"));
    }
}
