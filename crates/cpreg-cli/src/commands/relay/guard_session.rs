//! [`GuardSession`]: switchover guard of one migration, driven by the relay's command.
//!
//! [`cpreg_relay::guard`] implements the guard. This module sends requests to the guard, and
//! reports the progress of the migration to the guard.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cpreg_relay::guard::{GuardClient, VmLocationReport, VmPlace};
use cpreg_relay::{Address, CancelToken, Error, MigrationOutcome, MigrationResult, VmLocation};

use super::log::Log;
use crate::arguments;
use crate::failure::Failure;
use crate::printer::{Printer, style, styled};

/// Timeout for the guard to determine the VM's location. The guard's own timeouts are much shorter.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(600);
/// Interval between two queries of the VM's location from the guard.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Connection to the guard of one migration.
pub(super) struct GuardSession {
    client: Mutex<Option<GuardClient>>,
    starts_migration: bool,
}

/// Result of the guard's preparation.
pub(super) enum PrepareOutcome {
    /// Both QEMUs are ready for a migration.
    Ready(GuardSession),
    /// The guard finished an earlier, interrupted migration.
    Finished(VmLocationReport),
}

impl GuardSession {
    /// Starts the guard, which queries and prepares both QEMUs.
    pub(super) fn prepare(
        arguments: &arguments::Relay,
        log: &Log,
        printer: &Printer,
    ) -> Result<PrepareOutcome, Failure> {
        let (source, destination) = (
            arguments.source_qmp.as_deref(),
            arguments.destination_qmp.as_deref(),
        );
        if let (Some(_), Some(listen)) = (source, &arguments.listen) {
            migration_uri(listen)?;
        }
        let mut client = GuardClient::spawn(&["__relay-guard"])
            .map_err(|error| Failure::new("cannot start the switchover guard").with_cause(error))?;
        let connected = client.connect(source, destination).map_err(guard_failure)?;
        if let Some(location) = connected.vm_location {
            return Ok(PrepareOutcome::Finished(location));
        }
        for (side, status) in [
            ("source", &connected.source),
            ("destination", &connected.destination),
        ] {
            if let Some(status) = status {
                log.qemu_status(side, &status.version, &status.run_state);
            }
        }
        let prepared = client.prepare().map_err(guard_failure)?;
        for note in connected.notes.iter().chain(&prepared.notes) {
            printer.note(note);
        }
        log.guard_ready(prepared.return_path_switched_on, prepared.autostart_blocked);
        Ok(PrepareOutcome::Ready(Self {
            client: Mutex::new(Some(client)),
            starts_migration: source.is_some(),
        }))
    }

    /// Starts the migration at the source, if the relay has the source's monitor.
    pub(super) fn start(&self, listen: &Address) -> Result<(), Failure> {
        let uri = migration_uri(listen)?;
        match &mut *self.lock_client() {
            Some(client) if self.starts_migration => client.start(&uri).map_err(guard_failure),
            _ => Ok(()),
        }
    }

    /// Reports to the guard that a stream has arrived.
    pub(super) fn migration_started(&self) {
        if let (Some(client), false) = (&mut *self.lock_client(), self.starts_migration) {
            client.migration_started();
        }
    }

    /// Reports to the guard that the relay now sends device state. `running` is the run state
    /// that the stream saved; `None` if the stream has none.
    pub(super) fn device_state_committed(&self, running: Option<bool>) -> Result<(), Failure> {
        match &mut *self.lock_client() {
            Some(client) => client
                .device_state_committed(running)
                .map_err(guard_failure),
            None => Ok(()),
        }
    }

    /// Cancels the relay when the guard determines the VM's location before a source connects.
    ///
    /// Returns when `migration_end` is cancelled.
    pub(super) fn watch(&self, relay_cancel: &CancelToken, migration_end: &CancelToken) {
        loop {
            let deadline = std::time::Instant::now() + POLL_INTERVAL;
            if migration_end.wait(Some(deadline)).unwrap_or(true) {
                return;
            }
            let is_settled = match &mut *self.lock_client() {
                Some(client) => client.vm_location().is_some(),
                None => true,
            };
            if is_settled {
                relay_cancel.cancel();
                return;
            }
        }
    }

    /// Reports the result of the migration to the guard, and waits until the VM runs on one side.
    pub(super) fn conclude(
        &self,
        result: Option<&MigrationResult>,
        log: &Log,
    ) -> Option<VmLocationReport> {
        let mut client = self.lock_client().take()?;
        match result {
            Some(result) if result.device_state_sent => {
                let has_arrived = matches!(
                    result.vm_location,
                    VmLocation::Destination | VmLocation::DestinationUnconfirmed
                );
                if has_arrived && matches!(result.outcome, MigrationOutcome::Completed) {
                    client.device_state_delivered();
                }
            }
            _ => client.device_state_rejected(),
        }
        let location = client.conclude(SETTLE_TIMEOUT);
        log.vm_location(&location);
        Some(location)
    }

    fn lock_client(&self) -> MutexGuard<'_, Option<GuardClient>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prints the VM's location, the commands that the guard sent, and the steps for the user.
pub(super) fn print_location(printer: &mut Printer, location: &VmLocationReport) {
    let style = if location.place == VmPlace::DESTINATION {
        style::GOOD
    } else if location.place == VmPlace::SOURCE {
        style::WARNING
    } else {
        style::ERROR
    };
    printer.line(styled(style, location));
    for action in &location.actions {
        printer.line(format_args!("  sent to {action}"));
    }
    for advice in &location.advice {
        printer.line(format_args!("  fix: {advice}"));
    }
}

/// Returns the URI for QMP `migrate` at the source.
fn migration_uri(listen: &Address) -> Result<String, Failure> {
    match listen {
        Address::Tcp { host, port } if ["", "0.0.0.0", "::"].contains(&host.as_str()) => {
            Ok(format!("tcp:127.0.0.1:{port}"))
        }
        Address::Tcp { .. } | Address::Unix(_) | Address::Vsock { .. } => Ok(listen.to_string()),
        _ => Err(Failure::new(format!(
            "--source-qmp starts the migration, but QEMU cannot connect to {listen}"
        ))
        .with_hint("use --listen unix:PATH or tcp::0")),
    }
}

fn guard_failure(error: Error) -> Failure {
    Failure::new("the switchover guard cannot guard this migration").with_hinted_cause(error)
}
