//! What is said of a migration that has ended, and the exit status: with the guard, what the guard has seen; without, what passed through the relay.

use cpreg_relay::guard;
use cpreg_relay::{Ended, Outcome, Whereabouts};

use super::super::check;
use super::case::Decided;
use crate::arguments::{self, Format};
use crate::failure::{Failure, Status};
use crate::printer::{Printer, style, styled};
use cpreg_report::check::Answer;

/// Reports one migration.
pub(super) fn tell(
    arguments: &arguments::Relay,
    decided: Decided<'_>,
    ended: Result<Option<Ended>, cpreg_relay::Error>,
    settled: Option<&guard::Whereabouts>,
    printer: &mut Printer,
) -> Result<Option<Status>, Failure> {
    let ended = match ended {
        Ok(Some(ended)) => ended,
        Ok(None) => return Ok(None),
        Err(error) => {
            let failure = Failure::new("no migration was passed on").because_of(error);
            return Err(failure.hint("the VM is at the source, which goes on with it"));
        }
    };
    // The guard has looked at both sides, and knows better.
    let place = ended.whereabouts;
    let hinted = |failure: Failure| match settled {
        Some(_) => failure,
        None => failure.hint(format!("the VM is {place}")),
    };
    if let Some(failure) = decided.failure {
        return Err(hinted(failure));
    }
    if let Some(answer) = &decided.answer {
        check::report(printer, answer, arguments.format, false)?;
    }
    if arguments.format == Format::Text {
        for reason in &decided.reasons {
            printer.line(format_args!(
                "{}: {reason}",
                styled(style::BAD, "not begun")
            ));
        }
        if settled.is_none() {
            conclude(printer, &ended);
        }
    }
    let verdict = decided.answer.as_ref().map(Answer::verdict);
    match ended.outcome {
        Outcome::Broken(error) => {
            let failure = Failure::new("the migration came to no end");
            Err(hinted(failure.because_of(error)))
        }
        Outcome::Cancelled => Err(hinted(Failure::new(
            "the migration was ended before its device state went on",
        ))),
        Outcome::Refused => Ok(Some(verdict.map_or(Status::Refused, check::status))),
        _ => Ok(Some(match ended.whereabouts {
            Whereabouts::Destination | Whereabouts::ProbablyDestination => Status::Done,
            _ => Status::BadUsage,
        })),
    }
}

/// The exit status where the guard knows where the VM is; `refused`: what it would be without.
pub(super) fn guarded_status(whereabouts: &guard::Whereabouts, without: Option<Status>) -> Status {
    match without {
        Some(status @ (Status::Refused | Status::Unknown)) => status,
        _ if is_well(whereabouts) => Status::Done,
        _ => Status::BadUsage,
    }
}

/// Whether the VM is at the destination and nothing is left to do.
pub(super) fn is_well(whereabouts: &guard::Whereabouts) -> bool {
    whereabouts.place == guard::Place::DESTINATION && whereabouts.advice.is_empty()
}

pub(super) fn conclude_not_begun(printer: &mut Printer, format: Format) {
    if format == Format::Text {
        printer.line(format_args!(
            "{}: nobody was connected; the VM is at the source, which goes on with it",
            styled(style::BAD, "not begun")
        ));
    }
}

/// Where the VM is, and what to do.
fn conclude(printer: &mut Printer, ended: &Ended) {
    let style = match ended.whereabouts {
        Whereabouts::Destination | Whereabouts::ProbablyDestination => style::GOOD,
        Whereabouts::SourceGoesOn => style::DOUBT,
        _ => style::BAD,
    };
    printer.line(format_args!(
        "{}: {}",
        styled(style, "the VM is"),
        ended.whereabouts
    ));
    if let Some(advice) = ended.whereabouts.advice() {
        printer.line(format_args!("  do: {advice}"));
    }
}
