//! `cpreg relay --listen ADDRESS --connect ADDRESS --to DEST`: a live migration, both ways.
//!
//! | module | what lives there |
//! |---|---|
//! | `config` | what every migration is decided with |
//! | `case` | what is asked while a migration is under way, and answered as `check` and `convert` do |
//! | `foretold` | what is certain before it begins: `--from` |
//! | `guarded` | the drain guard: `--source-qmp`, `--dest-qmp` |
//! | `outcome` | what is said of it at the end, and the exit status |
//! | `log` | log lines and progress |
//!
//! What is here: what is made ready, and one migration after the other.

mod case;
mod config;
mod foretold;
mod guarded;
mod log;
mod outcome;

use std::path::Path;
use std::time::{Duration, Instant};

use cpreg::plan::Verdict;
use cpreg_relay::check_policy::CheckPolicy;
use cpreg_relay::{Address, Cancel, CancelOnDrop, Relay};

use self::case::{Case, Decided, words};
use self::config::{Desk, There};
use self::foretold::Foretold;
use self::guarded::Guarded;
use self::log::Log;
use self::outcome::{conclude_not_begun, guarded_status, is_well, tell};
use crate::arguments::{self, Format};
use crate::consents;
use crate::destination;
use crate::failure::{Failure, Status};
use crate::interrupt;
use crate::printer::{Printer, finish, print_failure};
use crate::tolerance_file;
use cpreg_report::value::Printing;

/// How long to wait when a migration failed, before the next is waited for.
const BREATH: Duration = Duration::from_millis(500);

pub(crate) fn run(arguments: &arguments::Relay, printer: &mut Printer) -> Result<Status, Failure> {
    // Standard output may be the way back to the source, or the way to the destination.
    let takes_stdout = [&arguments.listen, &arguments.connect]
        .iter()
        .any(|address| matches!(address, Address::Stdio));
    if takes_stdout {
        printer.answer_beside();
    }
    let user =
        Cancel::new().map_err(|error| Failure::new("cannot prepare for Ctrl-C").because(error))?;
    interrupt::instead({
        let user = user.clone();
        move || user.cancel()
    })?;
    let log = Log::new(arguments.log_format);
    let mut desk = prepare(arguments, printer)?;
    if let Some(refused) = foretell(&mut desk, arguments, &log, printer) {
        return Ok(refused);
    }
    let relay = Relay::bind(&arguments.listen, arguments.connect.clone())
        .map_err(|error| Failure::new("cannot listen").because_of(error))?;
    if arguments.keep && relay.is_single() {
        return Err(Failure::new(format!(
            "--keep: over {} one migration comes, and no other",
            arguments.listen
        )));
    }
    if user.is_cancelled() {
        return Err(Failure::new("ended before anything was begun"));
    }
    let guard = if arguments.source_qmp.is_some() || arguments.dest_qmp.is_some() {
        match Guarded::prepare(arguments, &log, printer)? {
            guarded::Found::Ready(guard) => Some(guard),
            guarded::Found::Finished(whereabouts) => {
                if arguments.format == Format::Text {
                    guarded::report(printer, &whereabouts);
                }
                return Ok(guarded_status(&whereabouts, None));
            }
        }
    } else {
        None
    };
    log.listens(relay.address(), &arguments.connect);
    if let Some(guard) = &guard {
        guard.start(relay.address())?;
    }
    let mut one = || {
        let over = Cancel::new()
            .map_err(|error| Failure::new("cannot begin a migration").because(error))?;
        std::thread::scope(|scope| {
            if let Some(guard) = &guard {
                scope.spawn(|| guard.watch(&user, &over));
            }
            // Ends the watch over the guard, however the migration ends.
            let _over = CancelOnDrop(&over);
            let result = one(
                arguments,
                &desk,
                guard.as_ref(),
                &relay,
                &log,
                &user,
                printer,
            );
            over.cancel();
            result
        })
    };
    if !arguments.keep {
        return Ok(one()?.unwrap_or(Status::BadUsage));
    }
    loop {
        match one() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Status::Done),
            // The next one may be fine; but what goes wrong at once goes wrong again.
            Err(failure) => {
                print_failure(&failure);
                let _ = user.wait(Some(Instant::now() + BREATH));
            }
        }
        if relay.is_single() {
            return Ok(Status::Done);
        }
    }
}

/// Says what is foretold of the VM, and rehearses it. Returns a status if that refuses the migration.
fn foretell(
    desk: &mut Desk<'_>,
    arguments: &arguments::Relay,
    log: &Log,
    printer: &mut Printer,
) -> Option<Status> {
    let foretold = desk.foretold.as_ref()?;
    log.foretold(foretold.verdict);
    if foretold.verdict == Verdict::Refused {
        foretold.report(printer);
        conclude_not_begun(printer, arguments.format);
        if arguments.format == Format::Text && !foretold.is_of_one_vm() {
            printer.line(
                "  or: if the VM was given other values than one has there at its start, \
                 name a stream of it, or its QEMU's monitor",
            );
        }
        return Some(Status::Refused);
    }
    if let Some(monitor) = &arguments.dest_qmp {
        match foretold.rehearse(monitor, arguments, printer) {
            Ok(Some((Status::Refused, report))) => {
                printer.whole(&report);
                conclude_not_begun(printer, arguments.format);
                return Some(Status::Refused);
            }
            Ok(rehearsed) => {
                desk.is_rehearsed = rehearsed.is_some_and(|(it, _)| it == Status::Done);
                log.rehearsed(desk.is_rehearsed);
            }
            Err(failure) => {
                printer.note("not rehearsed, and begun all the same:");
                print_failure(&failure);
            }
        }
    }
    None
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
    let tolerances = tolerance_file::read(&arguments.consenting.tolerances)?;
    let naming = Printing::new(found.accelerator(), arguments.secrets).naming;
    let consents = consents::read(&arguments.consenting, naming)?;
    if let (true, Some(severity)) = (arguments.keep, consents.accept_up_to) {
        return Err(Failure::new(format!(
            "--keep with --accept {severity}: it would accept what nobody has looked at"
        ))
        .hint("name the registers (--accept REG) that `cpreg check` proposes"));
    }
    let named = found.named_for_all(&arguments.going)?;
    let from = arguments.from.as_deref();
    let foretold = from
        .or(arguments.source_qmp.as_deref())
        .map(|from| Foretold::of(from, arguments, &found, &tolerances, printer))
        .transpose()?;
    if arguments.keep && foretold.as_ref().is_some_and(Foretold::is_of_one_vm) {
        return Err(Failure::new(
            "--keep with --from: what is certain of this VM is not certain of the next",
        )
        .hint("name a recorded host, where all of them come from"));
    }
    Ok(Desk {
        arguments,
        tolerances,
        consents,
        there: named.map_or(There::ByGuest(found), There::Known),
        foretold,
        is_rehearsed: false,
    })
}

/// One migration; nothing if none came.
fn one(
    arguments: &arguments::Relay,
    desk: &Desk<'_>,
    guard: Option<&Guarded>,
    relay: &Relay,
    log: &Log,
    user: &Cancel,
    printer: &mut Printer,
) -> Result<Option<Status>, Failure> {
    let named = std::cell::OnceCell::new();
    log.waits();
    let mut policy = CheckPolicy::new(desk.terms(), Case::new(desk, guard, &named));
    let ended = relay.migrate(&mut policy, log, user);
    log.end_progress();
    let reasons: Vec<String> = policy.not_begun().iter().map(words).collect();
    if let Ok(Some(ended)) = &ended {
        log.ended(ended, &reasons);
    }
    let settled = guard.and_then(|guard| {
        let ended = ended.as_ref().ok().and_then(Option::as_ref);
        guard.conclude(ended, log)
    });
    let (case, failure) = policy.into_parts();
    let decided = Decided {
        answer: case.into_answer(),
        reasons,
        failure,
    };
    let result = tell(arguments, decided, ended, settled.as_ref(), printer);
    if let (Some(whereabouts), Format::Text) = (&settled, arguments.format) {
        guarded::report(printer, whereabouts);
    }
    match finish(printer) {
        // Who stops reading has read enough: where the VM is stands in the log and the exit status all the same.
        Err(failure) if !failure.is_broken_pipe() => return Err(failure),
        _ => {}
    }
    match (&settled, result) {
        (Some(whereabouts), Ok(status)) => Ok(Some(guarded_status(whereabouts, status))),
        // The guard has seen that it runs there, whatever became of the connections.
        (Some(whereabouts), Err(failure)) if is_well(whereabouts) => {
            print_failure(&failure);
            Ok(Some(Status::Done))
        }
        (_, result) => result,
    }
}
