//! `cpreg relay --listen ADDRESS --connect ADDRESS --to DESTINATION`: relays a live migration in
//! both directions.
//!
//! | module | content |
//! |---|---|
//! | `config` | inputs of every migration's decision |
//! | `planner` | decisions during a migration, made as by `check` and `convert` |
//! | `preflight` | check and rehearsal before the migration: `--from` |
//! | `guard_session` | switchover guard: `--source-qmp`, `--destination-qmp` |
//! | `outcome` | final report and exit status |
//! | `log` | log lines and progress |
//! | `serve` | many migrations at once: `--serve` |
//!
//! This file prepares the relay and runs one migration after another.

mod config;
mod guard_session;
mod log;
mod outcome;
mod planner;
mod preflight;
mod serve;

use std::time::{Duration, Instant};

use cpreg::plan::Verdict;
use cpreg_relay::check_policy::CheckPolicy;
use cpreg_relay::{Address, CancelOnDrop, CancelToken, Relay};

use self::config::{RelayConfig, RelayDestination, reject_severity, reject_stdin};
use self::guard_session::GuardSession;
use self::log::Log;
use self::outcome::{
    guard_report, guarded_status, is_settled_at_destination, migration_report, not_started_report,
    print_not_started, print_outcome,
};
use self::planner::{MigrationPlanner, PolicyReport, describe_rejection};
use self::preflight::Preflight;
use crate::arguments::{self, Format};
use crate::command_line;
use crate::consents;
use crate::destination;
use crate::failure::{Failure, Status};
use crate::interrupt;
use crate::printer::{Printer, finish, print_failure, print_json};
use crate::tolerances;
use cpreg_report::failure::ErrorReport;
use cpreg_report::value::ValueFormat;

/// Delay after a failed migration, before the relay waits for the next migration.
const RESTART_DELAY: Duration = Duration::from_millis(500);

pub(crate) fn run(arguments: &arguments::Relay, printer: &mut Printer) -> Result<Status, Failure> {
    if arguments.service.serve {
        return serve::run(arguments, printer);
    }
    match (&arguments.listen, &arguments.connect) {
        (Some(listen), Some(connect)) => relay(arguments, listen, connect, printer),
        _ => Err(Failure::new(
            "--listen and --connect are needed without --serve",
        )),
    }
}

/// Relays one migration after another between two addresses.
fn relay(
    arguments: &arguments::Relay,
    listen: &Address,
    connect: &Address,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    // Standard output may be the return path to the source, or the connection to the destination.
    let uses_stdout = [listen, connect]
        .iter()
        .any(|address| matches!(address, Address::Stdio));
    if uses_stdout {
        printer.report_to_stderr();
    }
    let user_cancel = CancelToken::new()
        .map_err(|error| Failure::new("cannot install a handler for Ctrl-C").with_cause(error))?;
    interrupt::on_interrupt({
        let user_cancel = user_cancel.clone();
        move || user_cancel.cancel()
    })?;
    let log = Log::new(arguments.log_format);
    let mut config = prepare(arguments, printer)?;
    if let Some(status) = run_preflight(&mut config, arguments, &log, printer)? {
        return Ok(status);
    }
    let relay = Relay::bind(listen, connect.clone())
        .map_err(|error| Failure::new("cannot listen").with_hinted_cause(error))?;
    if arguments.repeat && relay.is_single() {
        return Err(Failure::new(format!(
            "--repeat: {listen} accepts only one migration"
        )));
    }
    if user_cancel.is_cancelled() {
        return Err(Failure::new("cancelled before a migration started"));
    }
    let guard = if arguments.source_qmp.is_some() || arguments.destination_qmp.is_some() {
        match GuardSession::prepare(arguments, &log, printer)? {
            guard_session::PrepareOutcome::Ready(guard) => Some(guard),
            guard_session::PrepareOutcome::Finished(location) => {
                let status = guarded_status(&location, None);
                match arguments.format {
                    Format::Text => guard_session::print_location(printer, &location),
                    Format::Json => {
                        let preflight = config.preflight.as_ref();
                        let check = preflight.map(Preflight::check_report);
                        let mut report = not_started_report(check, status);
                        report.guard = Some(guard_report(&location));
                        print_json(printer, &report)?;
                    }
                }
                return Ok(status);
            }
        }
    } else {
        None
    };
    log.listening(relay.address(), connect);
    if let Some(guard) = &guard {
        guard.start(relay.address())?;
    }
    let mut run_one = || {
        let migration_end = CancelToken::new()
            .map_err(|error| Failure::new("cannot start a migration").with_cause(error))?;
        std::thread::scope(|scope| {
            if let Some(guard) = &guard {
                scope.spawn(|| guard.watch(&user_cancel, &migration_end));
            }
            // Stop the watch thread on every path, also on a panic.
            let _stop_watch = CancelOnDrop(&migration_end);
            let result = run_migration(
                arguments,
                &config,
                guard.as_ref(),
                &relay,
                &log,
                &user_cancel,
                printer,
            );
            migration_end.cancel();
            result
        })
    };
    if !arguments.repeat {
        return Ok(run_one()?.unwrap_or(Status::Error));
    }
    loop {
        match run_one() {
            Ok(None) => return Ok(Status::Success),
            // The next migration may succeed. The delay avoids a busy loop of failures.
            Ok(Some(Status::Error)) => {
                let _ = user_cancel.wait(Some(Instant::now() + RESTART_DELAY));
            }
            Ok(Some(_)) => {}
            Err(failure) => {
                print_failure(&failure);
                let _ = user_cancel.wait(Some(Instant::now() + RESTART_DELAY));
            }
        }
        if relay.is_single() {
            return Ok(Status::Success);
        }
    }
}

/// Reports the preflight check and rehearses the VM. Returns the exit status if either refuses the
/// migration.
fn run_preflight(
    config: &mut RelayConfig<'_>,
    arguments: &arguments::Relay,
    log: &Log,
    printer: &mut Printer,
) -> Result<Option<Status>, Failure> {
    let Some(preflight) = config.preflight.as_ref() else {
        return Ok(None);
    };
    log.preflight(preflight.verdict);
    if preflight.verdict == Verdict::Refused {
        if arguments.format == Format::Json {
            let check = Some(preflight.check_report());
            print_json(printer, &not_started_report(check, Status::Refused))?;
            return Ok(Some(Status::Refused));
        }
        preflight.report(printer);
        print_not_started(printer);
        if !preflight.has_vm() {
            printer.line(
                "  or: if the VM was started with other values than the host's defaults, \
                 name a stream of the VM, or its QEMU's monitor",
            );
        }
        return Ok(Some(Status::Refused));
    }
    let Some(monitor) = &arguments.destination_qmp else {
        return Ok(None);
    };
    match preflight.rehearse(monitor, arguments, printer) {
        Ok(Some((Status::Refused, report))) => {
            match arguments.format {
                Format::Text => {
                    printer.append(&report);
                    print_not_started(printer);
                }
                Format::Json => {
                    let check = Some(preflight.check_report());
                    let mut document = not_started_report(check, Status::Refused);
                    document.rehearsal = Some(Box::new(serde_json::from_str(&report).map_err(
                        |error| Failure::new("cannot print the report").with_cause(error),
                    )?));
                    print_json(printer, &document)?;
                }
            }
            return Ok(Some(Status::Refused));
        }
        Ok(rehearsal) => {
            config.is_rehearsed = rehearsal.is_some_and(|(status, _)| status == Status::Success);
            log.rehearsed(config.is_rehearsed);
        }
        Err(failure) => {
            printer.note("the rehearsal failed; the migration starts without it:");
            print_failure(&failure);
        }
    }
    Ok(None)
}

/// Checks everything that can fail before the relay opens a connection to a QEMU.
fn prepare<'a>(
    arguments: &'a arguments::Relay,
    printer: &mut Printer,
) -> Result<RelayConfig<'a>, Failure> {
    let Some(to) = &arguments.to else {
        return Err(Failure::new("--to is needed without --serve"));
    };
    reject_stdin(to)?;
    let spec = destination::find(to, false, printer)?;
    spec.require_possible_verdict(&command_line::typed_relay(arguments))?;
    destination::parse_loader(&arguments.loader)?;
    let tolerances = tolerances::read(&arguments.consents.tolerances, printer)?;
    let naming = ValueFormat::new(spec.accelerator(), arguments.show_secrets).naming;
    let consents = consents::read_for_any_vm(&arguments.consents, naming)?;
    if arguments.repeat {
        reject_severity("--repeat", &consents)?;
    }
    let fixed = spec.resolve_fixed(&arguments.loader)?;
    let from = arguments.from.as_deref();
    let preflight = from
        .or(arguments.source_qmp.as_deref())
        .map(|from| Preflight::run(from, arguments, &spec, &tolerances, printer))
        .transpose()?;
    if arguments.repeat && preflight.as_ref().is_some_and(Preflight::has_vm) {
        return Err(Failure::new(
            "--repeat with --from: the preflight check of one VM does not apply to the next",
        )
        .with_hint("name the recorded host that all VMs run on"));
    }
    Ok(RelayConfig {
        arguments,
        tolerances,
        consents,
        destination: match fixed {
            Some(resolved) => RelayDestination::Fixed(Box::new(resolved)),
            None => RelayDestination::PerGuest(spec),
        },
        preflight,
        is_rehearsed: false,
    })
}

/// Runs one migration. Returns `None` if no source connected.
fn run_migration(
    arguments: &arguments::Relay,
    config: &RelayConfig<'_>,
    guard: Option<&GuardSession>,
    relay: &Relay,
    log: &Log,
    cancel: &CancelToken,
    printer: &mut Printer,
) -> Result<Option<Status>, Failure> {
    let destination = std::cell::OnceCell::new();
    log.begin_migration();
    let mut policy = CheckPolicy::new(
        config.policy_config(),
        MigrationPlanner::new(config, guard, &destination),
    );
    let migration = relay.serve_migration(&mut policy, log, cancel);
    log.end_progress();
    let reasons: Vec<String> = policy
        .setup_rejections()
        .iter()
        .map(|reason| describe_rejection(reason, false))
        .collect();
    if let Ok(Some(migration)) = &migration {
        log.ended(migration, &reasons);
    }
    let location = guard.and_then(|guard| {
        let migration = migration.as_ref().ok().and_then(Option::as_ref);
        guard.conclude(migration, log)
    });
    let (planner, failure) = policy.into_parts();
    let report = PolicyReport {
        findings: planner.into_findings(),
        reasons,
        failure,
    };
    let document = match arguments.format {
        Format::Json => Some(migration_report(log.migration(), &report, &migration)),
        Format::Text => None,
    };
    let result = print_outcome(arguments, report, migration, location.as_ref(), printer);
    let (status, failure) = match (&location, result) {
        (Some(location), Ok(status)) => (Some(guarded_status(location, status)), None),
        // The guard found the VM running at the destination, although a connection failed.
        (Some(location), Err(failure)) if is_settled_at_destination(location) => {
            (Some(Status::Success), Some(failure))
        }
        (_, Ok(status)) => (status, None),
        (_, Err(failure)) => (Some(Status::Error), Some(failure)),
    };
    match document {
        Some(mut document) => {
            document.guard = location.as_ref().map(guard_report);
            document.error = failure.as_ref().map(ErrorReport::from);
            document.exit_status = status.unwrap_or(Status::Error).code();
            // Ctrl-C ends `--repeat` before the next migration, which is no migration to report.
            if status.is_some() || !arguments.repeat {
                print_json(printer, &document)?;
            }
        }
        None => {
            if let Some(location) = &location {
                guard_session::print_location(printer, location);
            }
        }
    }
    match finish(printer) {
        // Ignore `EPIPE` on standard output: the log and the exit status state the VM's location.
        Err(failure) if !failure.is_broken_pipe() => return Err(failure),
        _ => {}
    }
    match failure {
        Some(failure) if status == Some(Status::Error) && arguments.format == Format::Text => {
            Err(failure)
        }
        Some(failure) => {
            print_failure(&failure);
            Ok(status)
        }
        None => Ok(status),
    }
}
