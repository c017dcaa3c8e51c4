//! [`Guarded`]: the drain guard of one migration, as the relay's command drives it.
//!
//! What the guard does lives in [`cpreg_relay::guard`]; here it is asked in order, and told what
//! goes on.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cpreg_relay::guard::{Keeper, Place, Whereabouts};
use cpreg_relay::{Address, Cancel, Ended, Error, Outcome, Whereabouts as There};

use super::log::Log;
use crate::arguments;
use crate::failure::Failure;
use crate::printer::{Printer, style, styled};

/// How long the guard may take to settle where the VM is. It gives up long before.
const SETTLES: Duration = Duration::from_secs(600);
/// How often it is asked whether it has settled that already.
const LOOKS: Duration = Duration::from_millis(100);

/// The guard of one migration.
pub(super) struct Guarded {
    keeper: Mutex<Option<Keeper>>,
    starts: bool,
}

/// What the guard found.
pub(super) enum Found {
    /// A migration can begin.
    Ready(Guarded),
    /// An earlier one was not finished, and is now.
    Finished(Whereabouts),
}

impl Guarded {
    /// Starts the guard, has it look at both QEMUs and make them ready.
    pub(super) fn prepare(
        arguments: &arguments::Relay,
        log: &Log,
        printer: &Printer,
    ) -> Result<Found, Failure> {
        let (source, dest) = (
            arguments.source_qmp.as_deref(),
            arguments.dest_qmp.as_deref(),
        );
        if source.is_some() {
            uri(&arguments.listen)?;
        }
        let mut keeper = Keeper::spawn(&["relay-guard"])
            .map_err(|error| Failure::new("cannot start the drain guard").because(error))?;
        let connected = keeper.connect(source, dest).map_err(not_guarded)?;
        if let Some(whereabouts) = connected.concluded {
            return Ok(Found::Finished(whereabouts));
        }
        for (side, found) in [
            ("source", &connected.source),
            ("destination", &connected.dest),
        ] {
            if let Some(found) = found {
                log.found(side, &found.version, &found.run_state);
            }
        }
        let prepared = keeper.prepare().map_err(not_guarded)?;
        for note in connected.notes.iter().chain(&prepared.notes) {
            printer.note(note);
        }
        log.prepared(prepared.return_path_switched_on, prepared.held);
        Ok(Found::Ready(Self {
            keeper: Mutex::new(Some(keeper)),
            starts: source.is_some(),
        }))
    }

    /// Starts the migration, if it is this side's to start.
    pub(super) fn start(&self, listen: &Address) -> Result<(), Failure> {
        let uri = uri(listen)?;
        match &mut *self.keeper() {
            Some(keeper) if self.starts => keeper.start(&uri).map_err(not_guarded),
            _ => Ok(()),
        }
    }

    /// A stream has come.
    pub(super) fn began(&self) {
        if let (Some(keeper), false) = (&mut *self.keeper(), self.starts) {
            keeper.began();
        }
    }

    /// Device state goes on now. `running`: the guest ran when it was saved.
    pub(super) fn passing(&self, running: Option<bool>) -> Result<(), Failure> {
        match &mut *self.keeper() {
            Some(keeper) => keeper.passing(running).map_err(not_guarded),
            None => Ok(()),
        }
    }

    /// Cancels the waiting when the guard has settled where the VM is before anybody came, until `is_over`.
    pub(super) fn watch(&self, user: &Cancel, is_over: &Cancel) {
        loop {
            let until = std::time::Instant::now() + LOOKS;
            if is_over.wait(Some(until)).unwrap_or(true) {
                return;
            }
            let has_settled = match &mut *self.keeper() {
                Some(keeper) => keeper.concluded().is_some(),
                None => true,
            };
            if has_settled {
                user.cancel();
                return;
            }
        }
    }

    /// Says what became of the migration, and waits until the VM runs on one side.
    pub(super) fn conclude(&self, ended: Option<&Ended>, log: &Log) -> Option<Whereabouts> {
        let mut keeper = self.keeper().take()?;
        match ended {
            Some(ended) if ended.device_state_went_on => {
                let arrived = matches!(
                    ended.whereabouts,
                    There::Destination | There::ProbablyDestination
                );
                if arrived && matches!(ended.outcome, Outcome::WentOn) {
                    keeper.delivered();
                }
            }
            _ => keeper.refused(),
        }
        let whereabouts = keeper.conclude(SETTLES);
        log.concluded(&whereabouts);
        Some(whereabouts)
    }

    fn keeper(&self) -> MutexGuard<'_, Option<Keeper>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the VM is, what was done, and what is left to do.
pub(super) fn report(printer: &mut Printer, whereabouts: &Whereabouts) {
    let style = if whereabouts.place == Place::DESTINATION {
        style::GOOD
    } else if whereabouts.place == Place::SOURCE {
        style::DOUBT
    } else {
        style::BAD
    };
    printer.line(styled(style, whereabouts));
    for done in &whereabouts.done {
        printer.line(format_args!("  told {done}"));
    }
    for advice in &whereabouts.advice {
        printer.line(format_args!("  do: {advice}"));
    }
}

/// The process at the other end of a monitor socket, if it is on this machine.
pub(super) fn process(monitor: &Path) -> Option<i32> {
    let socket = std::os::unix::net::UnixStream::connect(monitor).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&socket).ok()?;
    Some(credentials.pid.as_raw_nonzero().get())
}

/// What the source's QEMU is told to migrate to.
fn uri(listen: &Address) -> Result<String, Failure> {
    match listen {
        Address::Tcp { host, port } if ["", "0.0.0.0", "::"].contains(&host.as_str()) => {
            Ok(format!("tcp:127.0.0.1:{port}"))
        }
        Address::Tcp { .. } | Address::Unix(_) | Address::Vsock { .. } => Ok(listen.to_string()),
        _ => Err(Failure::new(format!(
            "--source-qmp starts the migration, and a QEMU cannot be told to connect to {listen}"
        ))
        .hint("--listen unix:PATH or tcp::0")),
    }
}

fn not_guarded(error: Error) -> Failure {
    Failure::new("the drain guard cannot take this on").because_of(error)
}
