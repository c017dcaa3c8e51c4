//! Final report of a migration as text and as JSON, and the exit status.
//!
//! With the guard, report and status follow from the location that the guard determined. Without
//! the guard, they follow from the bytes that the relay forwarded.

use cpreg_relay::guard;
use cpreg_relay::{MigrationOutcome, MigrationResult, VmLocation};

use super::super::check;
use super::log::outcome_name;
use super::planner::PolicyReport;
use crate::arguments::{self, Format};
use crate::failure::{Failure, Status};
use crate::printer::{Printer, style, styled};
use cpreg_report::check::CheckFindings;
use cpreg_report::check::model::CheckReport;
use cpreg_report::names::RelayOutcome;
use cpreg_report::relay::model::{GuardReport, RelayReport};

/// Prints the report of one migration.
pub(super) fn print_outcome(
    arguments: &arguments::Relay,
    report: PolicyReport<'_>,
    result: Result<Option<MigrationResult>, cpreg_relay::Error>,
    guard_location: Option<&guard::VmLocationReport>,
    printer: &mut Printer,
) -> Result<Option<Status>, Failure> {
    let result = match result {
        Ok(Some(result)) => result,
        Ok(None) => return Ok(None),
        Err(error) => {
            let failure = Failure::new("no migration was relayed").with_hinted_cause(error);
            return Err(failure.with_hint("the VM is running at the source"));
        }
    };
    let location = result.vm_location;
    // The guard queried both sides and reports the location itself, so omit the relay's.
    let with_location = |failure: Failure| match guard_location {
        Some(_) => failure,
        None => failure.with_hint(format!("the VM is {location}")),
    };
    if let Some(failure) = report.failure {
        return Err(with_location(failure));
    }
    if arguments.format == Format::Text {
        if let Some(findings) = &report.findings {
            let verbosity = arguments.verbosity.verbosity();
            check::print_report(printer, findings, Format::Text, verbosity)?;
        }
        for reason in &report.reasons {
            printer.line(format_args!(
                "{}: {reason}",
                styled(style::ERROR, "not started")
            ));
        }
        if guard_location.is_none() {
            print_relay_location(printer, location);
        }
    }
    let verdict = report.findings.as_ref().map(CheckFindings::verdict);
    match result.outcome {
        MigrationOutcome::Failed(error) => {
            let failure = Failure::new("the migration failed");
            Err(with_location(failure.with_hinted_cause(error)))
        }
        MigrationOutcome::Cancelled => Err(with_location(Failure::new(
            "the migration was cancelled before its device state was sent",
        ))),
        MigrationOutcome::Refused => Ok(Some(verdict.map_or(Status::Refused, check::status))),
        _ => Ok(Some(match location {
            VmLocation::Destination | VmLocation::DestinationUnconfirmed => Status::Success,
            _ => Status::Error,
        })),
    }
}

/// Returns the exit status of a guarded migration. `unguarded` is the status that the relay alone
/// would return.
pub(super) fn guarded_status(
    location: &guard::VmLocationReport,
    unguarded: Option<Status>,
) -> Status {
    match unguarded {
        Some(status @ (Status::Refused | Status::Unknown)) => status,
        _ if is_settled_at_destination(location) => Status::Success,
        _ => Status::Error,
    }
}

/// Returns `true` if the VM is at the destination and no step is left for the user.
pub(super) fn is_settled_at_destination(location: &guard::VmLocationReport) -> bool {
    location.place == guard::VmPlace::DESTINATION && location.advice.is_empty()
}

pub(super) fn print_not_started(printer: &mut Printer) {
    printer.line(format_args!(
        "{}: no QEMU was connected; the VM is running at the source",
        styled(style::ERROR, "not started")
    ));
}

/// Returns the JSON report of a migration that was not started.
pub(super) fn not_started_report(check: Option<&CheckReport>, status: Status) -> RelayReport {
    let location = VmLocation::SourceRunning.name();
    let mut report = new_report(0, RelayOutcome::NOT_STARTED, location);
    report.check = check.cloned().map(Box::new);
    report.exit_status = status.code();
    report
}

/// Returns the JSON report of a migration, without the guard's location, the error and the exit
/// status.
pub(super) fn migration_report(
    number: usize,
    report: &PolicyReport<'_>,
    result: &Result<Option<MigrationResult>, cpreg_relay::Error>,
) -> RelayReport {
    let mut document = match result {
        Ok(Some(result)) => {
            let outcome = outcome_name(&result.outcome);
            new_report(number, outcome, result.vm_location.name())
        }
        Ok(None) => not_started_report(None, Status::Error),
        Err(_) => {
            let location = VmLocation::SourceRunning.name();
            new_report(number, RelayOutcome::FAILED, location)
        }
    };
    let findings = report.findings.as_ref();
    document.check = findings.map(|findings| Box::new(CheckReport::from(findings)));
    document.rejected_because.clone_from(&report.reasons);
    document
}

fn new_report(number: usize, outcome: RelayOutcome, vm_location: &str) -> RelayReport {
    RelayReport::new(env!("CARGO_PKG_VERSION"), number, outcome, vm_location)
}

/// Returns the guard's location of the VM for JSON.
pub(super) fn guard_report(location: &guard::VmLocationReport) -> GuardReport {
    GuardReport {
        vm_location: location.place.name().to_owned(),
        running: location.running,
        reason: location.reason.clone(),
        actions: location.actions.clone(),
        advice: location.advice.clone(),
    }
}

/// Prints the VM's location as the relay knows it, and the advice for that location.
fn print_relay_location(printer: &mut Printer, location: VmLocation) {
    let style = match location {
        VmLocation::Destination | VmLocation::DestinationUnconfirmed => style::GOOD,
        VmLocation::SourceRunning => style::WARNING,
        _ => style::ERROR,
    };
    printer.line(format_args!("{}: {location}", styled(style, "the VM is")));
    if let Some(advice) = location.advice() {
        printer.line(format_args!("  fix: {advice}"));
    }
}
