//! `cpreg relay --listen ADDRESS --connect ADDRESS --to DEST`: a live migration, both ways.
//!
//! | module | what lives there |
//! |---|---|
//! | `judge` | what is asked while a migration is under way, and answered as `check` and `convert` do |
//! | `early` | the vCPUs, decided about one by one as they come |
//! | `foretold` | what is certain before it begins: `--from` |
//! | `log` | log lines and progress |
//!
//! What is here: arguments, one migration after the other, what is said at the end, and the exit status.

mod early;
mod foretold;
mod judge;
mod log;

use std::path::Path;

use cpreg::plan::Verdict;
use cpreg_qemu::relay::{Address, Cancel, Ended, Outcome, Relay, Whereabouts};

use self::foretold::Foretold;
use self::judge::{Case, Desk, There};
use self::log::Log;
use super::check;
use crate::arguments::{self, Format};
use crate::consents;
use crate::destination;
use crate::failure::{Failure, Status};
use crate::interrupt;
use crate::printer::{Printer, style, styled};
use crate::report::check::Answer;
use crate::report::value::Printing;

pub(crate) fn run(arguments: &arguments::Relay, printer: &mut Printer) -> Result<Status, Failure> {
    // Standard output may be the way back to the source, or the way to the destination.
    let takes_stdout = [&arguments.listen, &arguments.connect]
        .iter()
        .any(|address| matches!(address, Address::Stdio));
    if takes_stdout {
        printer.answer_beside();
    }
    let desk = prepare(arguments, printer)?;
    if let Some(foretold) = &desk.foretold
        && foretold.verdict == Verdict::Refused
    {
        foretold.report(printer);
        conclude_not_begun(printer, arguments.format);
        return Ok(Status::Refused);
    }
    let relay = Relay::bind(&arguments.listen, arguments.connect.clone())
        .map_err(|error| Failure::new("cannot listen").because_of_stream(error))?;
    let user =
        Cancel::new().map_err(|error| Failure::new("cannot prepare for Ctrl-C").because(error))?;
    interrupt::instead({
        let user = user.clone();
        move || user.cancel()
    })?;
    let log = Log::new(arguments.log_format);
    log.listens(relay.address(), &arguments.connect);
    if !arguments.keep {
        return Ok(one(arguments, &desk, &relay, &log, &user, printer)?.unwrap_or(Status::BadUsage));
    }
    loop {
        match one(arguments, &desk, &relay, &log, &user, printer) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Status::Done),
            // The next one may be fine.
            Err(failure) => printer.failure(&failure),
        }
        printer.finish()?;
        if relay.is_single() {
            return Ok(Status::Done);
        }
    }
}

/// Everything that can be wrong before anybody connects.
fn prepare<'a>(
    arguments: &'a arguments::Relay,
    printer: &mut Printer,
) -> Result<Desk<'a>, Failure> {
    if arguments.to == Path::new("-") {
        return Err(Failure::new("DEST cannot be read from standard input")
            .hint("name a file or a recorded host"));
    }
    let found = destination::find(&arguments.to, false, printer)?;
    destination::loader(&arguments.going)?;
    let tolerances = consents::tolerances(&arguments.consenting.tolerances)?;
    let naming = Printing::new(found.accelerator()?, arguments.secrets).naming;
    let consents = consents::read(&arguments.consenting, naming)?;
    if let (true, Some(severity)) = (arguments.keep, consents.accept_up_to) {
        return Err(Failure::new(format!(
            "--keep with --accept {severity}: it would accept what nobody has looked at"
        ))
        .hint("name the registers (--accept REG) that `cpreg check` proposes"));
    }
    let named = found.named_for_all(&arguments.going)?;
    let foretold = arguments
        .from
        .as_deref()
        .map(|from| Foretold::of(from, arguments, &found, &tolerances, printer))
        .transpose()?;
    Ok(Desk {
        arguments,
        tolerances,
        consents,
        there: named.map_or(There::ByGuest(found), There::Known),
        foretold,
    })
}

/// One migration; nothing if none came.
fn one(
    arguments: &arguments::Relay,
    desk: &Desk<'_>,
    relay: &Relay,
    log: &Log,
    user: &Cancel,
    printer: &mut Printer,
) -> Result<Option<Status>, Failure> {
    let named = std::cell::OnceCell::new();
    log.waits();
    let mut case = Case::new(desk, &named);
    let ended = relay.migrate(&mut case, log, user);
    log.end_progress();
    let ended = match ended {
        Ok(Some(ended)) => ended,
        Ok(None) => return Ok(None),
        Err(error) => {
            let failure = Failure::new("no migration was passed on").because_of_stream(error);
            return Err(failure.hint("the VM is at the source, which goes on with it"));
        }
    };
    log.ended(&ended);
    let decided = case.into_decided();
    if let Some(failure) = decided.failure {
        return Err(failure.hint(format!("the VM is {}", ended.whereabouts)));
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
        conclude(printer, &ended);
    }
    let verdict = decided.answer.as_ref().map(Answer::verdict);
    match ended.outcome {
        Outcome::Broken(error) => {
            let failure = Failure::new("the migration came to no end").because_of_stream(error);
            Err(failure.hint(format!("the VM is {}", ended.whereabouts)))
        }
        Outcome::Cancelled => Err(Failure::new(
            "the migration was ended before its device state went on",
        )
        .hint(format!("the VM is {}", ended.whereabouts))),
        Outcome::Refused => Ok(Some(verdict.map_or(Status::Refused, check::status))),
        _ => Ok(Some(match ended.whereabouts {
            Whereabouts::Destination | Whereabouts::ProbablyDestination => Status::Done,
            _ => Status::BadUsage,
        })),
    }
}

fn conclude_not_begun(printer: &mut Printer, format: Format) {
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
        Whereabouts::Destination => style::GOOD,
        Whereabouts::ProbablyDestination => style::GOOD,
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
