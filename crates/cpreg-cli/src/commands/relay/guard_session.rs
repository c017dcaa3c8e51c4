//! [`GuardSession`]: the drain guard of one migration, as the relay's command drives it.
//!
//! What the guard does lives in [`cpreg_relay::guard`]; here it is asked in order, and told what
//! goes on.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cpreg_relay::guard::{GuardClient, VmLocationReport, VmPlace};
use cpreg_relay::{
    Address, CancelToken, Error, MigrationOutcome, MigrationResult, VmLocation as There,
};

use super::log::Log;
use crate::arguments;
use crate::failure::Failure;
use crate::printer::{Printer, style, styled};

/// How long the guard may take to settle where the VM is. It gives up long before.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(600);
/// How often it is asked whether it has settled that already.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The guard of one migration.
pub(super) struct GuardSession {
    client: Mutex<Option<GuardClient>>,
    starts_migration: bool,
}

/// What the guard found.
pub(super) enum PrepareOutcome {
    /// A migration can begin.
    Ready(GuardSession),
    /// An earlier one was not finished, and is now.
    Finished(VmLocationReport),
}

impl GuardSession {
    /// Starts the guard, has it look at both QEMUs and make them ready.
    pub(super) fn prepare(
        arguments: &arguments::Relay,
        log: &Log,
        printer: &Printer,
    ) -> Result<PrepareOutcome, Failure> {
        let (source, dest) = (
            arguments.source_qmp.as_deref(),
            arguments.destination_qmp.as_deref(),
        );
        if source.is_some() {
            uri(&arguments.listen)?;
        }
        let mut keeper = GuardClient::spawn(&["__relay-guard"])
            .map_err(|error| Failure::new("cannot start the drain guard").with_cause(error))?;
        let connected = keeper.connect(source, dest).map_err(guard_failure)?;
        if let Some(whereabouts) = connected.vm_location {
            return Ok(PrepareOutcome::Finished(whereabouts));
        }
        for (side, found) in [
            ("source", &connected.source),
            ("destination", &connected.destination),
        ] {
            if let Some(found) = found {
                log.qemu_status(side, &found.version, &found.run_state);
            }
        }
        let prepared = keeper.prepare().map_err(guard_failure)?;
        for note in connected.notes.iter().chain(&prepared.notes) {
            printer.note(note);
        }
        log.guard_ready(prepared.return_path_switched_on, prepared.autostart_blocked);
        Ok(PrepareOutcome::Ready(Self {
            client: Mutex::new(Some(keeper)),
            starts_migration: source.is_some(),
        }))
    }

    /// Starts the migration, if it is this side's to start.
    pub(super) fn start(&self, listen: &Address) -> Result<(), Failure> {
        let uri = uri(listen)?;
        match &mut *self.lock_client() {
            Some(keeper) if self.starts_migration => keeper.start(&uri).map_err(guard_failure),
            _ => Ok(()),
        }
    }

    /// A stream has come.
    pub(super) fn migration_started(&self) {
        if let (Some(keeper), false) = (&mut *self.lock_client(), self.starts_migration) {
            keeper.migration_started();
        }
    }

    /// Device state goes on now. `running`: the guest ran when it was saved.
    pub(super) fn device_state_committed(&self, running: Option<bool>) -> Result<(), Failure> {
        match &mut *self.lock_client() {
            Some(keeper) => keeper
                .device_state_committed(running)
                .map_err(guard_failure),
            None => Ok(()),
        }
    }

    /// Cancels the waiting when the guard has settled where the VM is before anybody came, until `is_over`.
    pub(super) fn watch(&self, user: &CancelToken, is_over: &CancelToken) {
        loop {
            let until = std::time::Instant::now() + POLL_INTERVAL;
            if is_over.wait(Some(until)).unwrap_or(true) {
                return;
            }
            let has_settled = match &mut *self.lock_client() {
                Some(keeper) => keeper.vm_location().is_some(),
                None => true,
            };
            if has_settled {
                user.cancel();
                return;
            }
        }
    }

    /// Says what became of the migration, and waits until the VM runs on one side.
    pub(super) fn conclude(
        &self,
        ended: Option<&MigrationResult>,
        log: &Log,
    ) -> Option<VmLocationReport> {
        let mut keeper = self.lock_client().take()?;
        match ended {
            Some(ended) if ended.device_state_sent => {
                let arrived = matches!(
                    ended.vm_location,
                    There::Destination | There::DestinationUnconfirmed
                );
                if arrived && matches!(ended.outcome, MigrationOutcome::Completed) {
                    keeper.device_state_delivered();
                }
            }
            _ => keeper.device_state_rejected(),
        }
        let whereabouts = keeper.conclude(SETTLE_TIMEOUT);
        log.vm_location(&whereabouts);
        Some(whereabouts)
    }

    fn lock_client(&self) -> MutexGuard<'_, Option<GuardClient>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the VM is, what was done, and what is left to do.
pub(super) fn print_location(printer: &mut Printer, whereabouts: &VmLocationReport) {
    let style = if whereabouts.place == VmPlace::DESTINATION {
        style::GOOD
    } else if whereabouts.place == VmPlace::SOURCE {
        style::WARNING
    } else {
        style::ERROR
    };
    printer.line(styled(style, whereabouts));
    for done in &whereabouts.actions {
        printer.line(format_args!("  told {done}"));
    }
    for advice in &whereabouts.advice {
        printer.line(format_args!("  do: {advice}"));
    }
}

/// The process at the other end of a monitor socket, if it is on this machine.
pub(super) fn peer_pid(monitor: &Path) -> Option<i32> {
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
        .with_hint("--listen unix:PATH or tcp::0")),
    }
}

fn guard_failure(error: Error) -> Failure {
    Failure::new("the drain guard cannot take this on").with_hinted_cause(error)
}
