//! `cpreg relay --listen ADDRESS --connect ADDRESS --to DESTINATION`: a live migration, both ways.
//!
//! | module | what lives there |
//! |---|---|
//! | `config` | what every migration is decided with |
//! | `case` | what is asked while a migration is under way, and answered as `check` and `convert` do |
//! | `foretold` | what is certain before it begins: `--from` |
//! | `guard_session` | the drain guard: `--source-qmp`, `--destination-qmp` |
//! | `outcome` | what is said of it at the end, and the exit status |
//! | `log` | log lines and progress |
//!
//! What is here: what is made ready, and one migration after the other.

mod config;
mod guard_session;
mod log;
mod outcome;
mod planner;
mod preflight;

use std::path::Path;
use std::time::{Duration, Instant};

use cpreg::plan::Verdict;
use cpreg_relay::check_policy::CheckPolicy;
use cpreg_relay::{Address, CancelOnDrop, CancelToken, Relay};

use self::config::{RelayConfig, RelayDestination};
use self::guard_session::GuardSession;
use self::log::Log;
use self::outcome::{conclude_not_begun, guarded_status, is_settled_at_destination, print_outcome};
use self::planner::{MigrationPlanner, PolicyReport, describe_rejection};
use self::preflight::Preflight;
use crate::arguments::{self, Format};
use crate::consents;
use crate::destination;
use crate::failure::{Failure, Status};
use crate::interrupt;
use crate::printer::{Printer, finish, print_failure};
use crate::tolerance_file;
use cpreg_report::value::ValueFormat;

/// How long to wait when a migration failed, before the next is waited for.
const RESTART_DELAY: Duration = Duration::from_millis(500);

pub(crate) fn run(arguments: &arguments::Relay, printer: &mut Printer) -> Result<Status, Failure> {
    // Standard output may be the way back to the source, or the way to the destination.
    let takes_stdout = [&arguments.listen, &arguments.connect]
        .iter()
        .any(|address| matches!(address, Address::Stdio));
    if takes_stdout {
        printer.report_to_stderr();
    }
    let user = CancelToken::new()
        .map_err(|error| Failure::new("cannot prepare for Ctrl-C").with_cause(error))?;
    interrupt::on_interrupt({
        let user = user.clone();
        move || user.cancel()
    })?;
    let log = Log::new(arguments.log_format);
    let mut desk = prepare(arguments, printer)?;
    if let Some(refused) = run_preflight(&mut desk, arguments, &log, printer) {
        return Ok(refused);
    }
    let relay = Relay::bind(&arguments.listen, arguments.connect.clone())
        .map_err(|error| Failure::new("cannot listen").with_hinted_cause(error))?;
    if arguments.repeat && relay.is_single() {
        return Err(Failure::new(format!(
            "--repeat: over {} one migration comes, and no other",
            arguments.listen
        )));
    }
    if user.is_cancelled() {
        return Err(Failure::new("ended before anything was begun"));
    }
    let guard = if arguments.source_qmp.is_some() || arguments.destination_qmp.is_some() {
        match GuardSession::prepare(arguments, &log, printer)? {
            guard_session::PrepareOutcome::Ready(guard) => Some(guard),
            guard_session::PrepareOutcome::Finished(whereabouts) => {
                if arguments.format == Format::Text {
                    guard_session::print_location(printer, &whereabouts);
                }
                return Ok(guarded_status(&whereabouts, None));
            }
        }
    } else {
        None
    };
    log.listening(relay.address(), &arguments.connect);
    if let Some(guard) = &guard {
        guard.start(relay.address())?;
    }
    let mut one = || {
        let over = CancelToken::new()
            .map_err(|error| Failure::new("cannot begin a migration").with_cause(error))?;
        std::thread::scope(|scope| {
            if let Some(guard) = &guard {
                scope.spawn(|| guard.watch(&user, &over));
            }
            // Ends the watch over the guard, however the migration ends.
            let _over = CancelOnDrop(&over);
            let result = run_migration(
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
    if !arguments.repeat {
        return Ok(one()?.unwrap_or(Status::Error));
    }
    loop {
        match one() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Status::Success),
            // The next one may be fine; but what goes wrong at once goes wrong again.
            Err(failure) => {
                print_failure(&failure);
                let _ = user.wait(Some(Instant::now() + RESTART_DELAY));
            }
        }
        if relay.is_single() {
            return Ok(Status::Success);
        }
    }
}

/// Says what is foretold of the VM, and rehearses it. Returns a status if that refuses the migration.
fn run_preflight(
    desk: &mut RelayConfig<'_>,
    arguments: &arguments::Relay,
    log: &Log,
    printer: &mut Printer,
) -> Option<Status> {
    let foretold = desk.preflight.as_ref()?;
    log.preflight(foretold.verdict);
    if foretold.verdict == Verdict::Refused {
        foretold.report(printer);
        conclude_not_begun(printer, arguments.format);
        if arguments.format == Format::Text && !foretold.has_vm() {
            printer.line(
                "  or: if the VM was given other values than one has there at its start, \
                 name a stream of it, or its QEMU's monitor",
            );
        }
        return Some(Status::Refused);
    }
    if let Some(monitor) = &arguments.destination_qmp {
        match foretold.rehearse(monitor, arguments, printer) {
            Ok(Some((Status::Refused, report))) => {
                printer.append(&report);
                conclude_not_begun(printer, arguments.format);
                return Some(Status::Refused);
            }
            Ok(rehearsed) => {
                desk.is_rehearsed = rehearsed.is_some_and(|(it, _)| it == Status::Success);
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
) -> Result<RelayConfig<'a>, Failure> {
    if arguments.to == Path::new("-") {
        return Err(
            Failure::new("DESTINATION cannot be read from standard input")
                .with_hint("name a file or a recorded host"),
        );
    }
    let found = destination::find(&arguments.to, false, printer)?;
    destination::parse_loader(&arguments.loader)?;
    let tolerances = tolerance_file::read(&arguments.consents.tolerances)?;
    let naming = ValueFormat::new(found.accelerator(), arguments.show_secrets).naming;
    let consents = consents::read(&arguments.consents, naming)?;
    if let (true, Some(severity)) = (arguments.repeat, consents.accept_up_to) {
        return Err(Failure::new(format!(
            "--repeat with --accept {severity}: it would accept what nobody has looked at"
        ))
        .with_hint("name the registers (--accept REG) that `cpreg check` proposes"));
    }
    let named = found.resolve_fixed(&arguments.loader)?;
    let from = arguments.from.as_deref();
    let foretold = from
        .or(arguments.source_qmp.as_deref())
        .map(|from| Preflight::run(from, arguments, &found, &tolerances, printer))
        .transpose()?;
    if arguments.repeat && foretold.as_ref().is_some_and(Preflight::has_vm) {
        return Err(Failure::new(
            "--repeat with --from: what is certain of this VM is not certain of the next",
        )
        .with_hint("name a recorded host, where all of them come from"));
    }
    Ok(RelayConfig {
        arguments,
        tolerances,
        consents,
        destination: named.map_or(RelayDestination::PerGuest(found), RelayDestination::Fixed),
        preflight: foretold,
        is_rehearsed: false,
    })
}

/// One migration; nothing if none came.
fn run_migration(
    arguments: &arguments::Relay,
    desk: &RelayConfig<'_>,
    guard: Option<&GuardSession>,
    relay: &Relay,
    log: &Log,
    user: &CancelToken,
    printer: &mut Printer,
) -> Result<Option<Status>, Failure> {
    let named = std::cell::OnceCell::new();
    log.begin_migration();
    let mut policy = CheckPolicy::new(
        desk.policy_config(),
        MigrationPlanner::new(desk, guard, &named),
    );
    let ended = relay.serve_migration(&mut policy, log, user);
    log.end_progress();
    let reasons: Vec<String> = policy
        .setup_rejections()
        .iter()
        .map(describe_rejection)
        .collect();
    if let Ok(Some(ended)) = &ended {
        log.ended(ended, &reasons);
    }
    let settled = guard.and_then(|guard| {
        let ended = ended.as_ref().ok().and_then(Option::as_ref);
        guard.conclude(ended, log)
    });
    let (case, failure) = policy.into_parts();
    let decided = PolicyReport {
        findings: case.into_findings(),
        reasons,
        failure,
    };
    let result = print_outcome(arguments, decided, ended, settled.as_ref(), printer);
    if let (Some(whereabouts), Format::Text) = (&settled, arguments.format) {
        guard_session::print_location(printer, whereabouts);
    }
    match finish(printer) {
        // Who stops reading has read enough: where the VM is stands in the log and the exit status all the same.
        Err(failure) if !failure.is_broken_pipe() => return Err(failure),
        _ => {}
    }
    match (&settled, result) {
        (Some(whereabouts), Ok(status)) => Ok(Some(guarded_status(whereabouts, status))),
        // The guard has seen that it runs there, whatever became of the connections.
        (Some(whereabouts), Err(failure)) if is_settled_at_destination(whereabouts) => {
            print_failure(&failure);
            Ok(Some(Status::Success))
        }
        (_, result) => result,
    }
}
