//! [`Guard`]: polls both QEMUs, and executes the action that `super::decide` returns.
//!
//! [`super::prepare`] has the checks before a migration.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::decide::{GuardAction, Observation, UNRESPONSIVE_TIMEOUT, decide};
use super::machine::{
    Command, CommandOutcome, DeviceStateTransfer, GuardEvent, GuardState, SourceGuestState,
};
use super::monitor::{Monitor, Reply, Role};
use super::states::{RunState, SideStatus};
use super::vm_location_report::VmLocationReport;
use crate::error::Error;

/// Interval between two polls while the guest runs at the source.
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Interval between two polls during the switchover. It adds to the downtime.
const ACTIVE_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Interval between two attempts of a command that a QEMU refuses, for example because the other
/// QEMU still holds the lock of a disk.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Guard of one VM, with the monitor of either side or of both.
#[derive(Debug)]
pub struct Guard {
    pub(super) source: Option<Monitor>,
    pub(super) destination: Option<Monitor>,
    state: GuardState,
    last_observed: Option<(SideStatus, SideStatus, GuardState)>,
    unchanged_since: Instant,
    refusal: Option<Refusal>,
    actions: Vec<String>,
    /// Number of `actions` already returned by [`Self::take_actions`].
    reported_actions: usize,
}

impl Guard {
    /// Connects to the monitors, at least one.
    ///
    /// # Errors
    /// Returns an error if none is given, or one cannot be reached.
    pub fn connect(source: Option<&Path>, destination: Option<&Path>) -> Result<Self, Error> {
        if source.is_none() && destination.is_none() {
            return Err(Error::guard(
                "the guard needs the monitor of the source or the destination",
            ));
        }
        let source = source.map(|path| Monitor::connect(Role::Source, path));
        let destination = destination.map(|path| Monitor::connect(Role::Destination, path));
        Ok(Self {
            source: source.transpose()?,
            destination: destination.transpose()?,
            state: GuardState::INITIAL,
            last_observed: None,
            unchanged_since: Instant::now(),
            refusal: None,
            actions: Vec::new(),
            reported_actions: 0,
        })
    }

    /// Starts the migration at the source.
    ///
    /// # Errors
    /// Returns an error if the monitor of the source is not known, or the source refuses.
    pub fn start(&mut self, uri: &str) -> Result<(), Error> {
        let Some(source) = &mut self.source else {
            return Err(Error::guard("the source's monitor is not known")
                .with_hint("start the migration at the source: QMP `migrate`"));
        };
        source.execute_or_fail("migrate", json!({"uri": uri}))?;
        self.apply(&GuardEvent::MigrationStarted);
        self.record_action("the source: migrate");
        Ok(())
    }

    /// Records the start of a migration that the guard did not start.
    pub fn migration_started(&mut self) {
        self.apply(&GuardEvent::MigrationStarted);
    }

    /// Records that the relay is about to send device state. `running` is the run state that the
    /// relay found in the stream, if any.
    pub fn device_state_committed(&mut self, running: Option<bool>) {
        let guest = match running {
            _ if self.source.is_some() => None,
            Some(false) => Some(SourceGuestState::Paused),
            Some(true) | None => Some(SourceGuestState::Running),
        };
        self.apply(&GuardEvent::DeviceStateCommitted(guest));
    }

    /// Records that the relay rejected the device state and will send none or no more of it.
    pub fn device_state_rejected(&mut self) {
        self.apply(&GuardEvent::DeviceStateRejected);
    }

    /// Records that the relay has sent all device state.
    pub fn device_state_delivered(&mut self) {
        self.apply(&GuardEvent::DeviceStateDelivered);
    }

    /// Records that the relay has ended.
    pub fn relay_ended(&mut self) {
        self.apply(&GuardEvent::RelayEnded);
    }

    /// Returns the commands that the guard has sent to the QEMUs since the last call.
    pub fn take_actions(&mut self) -> Vec<String> {
        let actions = self.actions[self.reported_actions..].to_vec();
        self.reported_actions = self.actions.len();
        actions
    }

    /// Returns the delay before the next [`Self::step`].
    pub fn poll_interval(&self) -> Duration {
        match &self.last_observed {
            Some((SideStatus::Present { run, .. }, _, state)) => {
                let is_switching = state.has_relay_ended()
                    || state.transfer != DeviceStateTransfer::Pending
                    || state.destination.has_run();
                let is_idle = *run == RunState::RUNNING && !is_switching;
                if is_idle {
                    IDLE_POLL_INTERVAL
                } else {
                    ACTIVE_POLL_INTERVAL
                }
            }
            _ if self.unchanged_since.elapsed() < UNRESPONSIVE_TIMEOUT => ACTIVE_POLL_INTERVAL,
            _ => IDLE_POLL_INTERVAL,
        }
    }

    /// Polls, decides and acts once. Returns the report when the migration has ended.
    pub fn step(&mut self) -> Option<VmLocationReport> {
        let observation = self.poll_state();
        let action = decide(&observation);
        self.act(action)
    }

    fn poll_state(&mut self) -> Observation {
        let last_destination = match &self.last_observed {
            Some((_, destination, ..)) => destination.clone(),
            None => SideStatus::Unreachable,
        };
        // Poll the destination first, if at all. If it reports that it has the whole VM, the
        // source's later answer describes the time after the transfer.
        let destination_first = self.should_poll_destination_first();
        let mut destination = destination_first.then(|| self.poll_destination());
        let source = self
            .source
            .as_mut()
            .map_or(SideStatus::NoMonitor, Monitor::poll);
        self.apply(&GuardEvent::SourceReported(&source));
        let must_poll = self.should_poll_destination(&source) || self.last_observed.is_none();
        if destination.is_none() && must_poll {
            // First poll of the destination after the source changed; the next step polls both in
            // the right order.
            destination = Some(self.poll_destination());
        }
        let destination = destination.unwrap_or_else(|| match &mut self.destination {
            None => SideStatus::NoMonitor,
            Some(monitor) => {
                if monitor.poll_exit() {
                    SideStatus::Exited
                } else {
                    last_destination
                }
            }
        });
        self.apply(&GuardEvent::DestinationReported(&destination));
        let current = (source, destination, self.state);
        if self.last_observed.as_ref() != Some(&current) {
            self.last_observed = Some(current.clone());
            self.unchanged_since = Instant::now();
        }
        let (source, destination, state) = current;
        Observation {
            source,
            destination,
            state,
            unchanged_for: self.unchanged_since.elapsed(),
        }
    }

    fn poll_destination(&mut self) -> SideStatus {
        self.destination
            .as_mut()
            .map_or(SideStatus::NoMonitor, Monitor::poll)
    }

    /// Returns `true` if the guard should poll the destination. While the source sends RAM, the
    /// destination answers slowly, and no decision needs its state.
    fn should_poll_destination(&self, source: &SideStatus) -> bool {
        let state = &self.state;
        if state.has_relay_ended() || state.transfer.is_rejected() || state.destination.has_run() {
            return true;
        }
        match source {
            SideStatus::Present { run, migration } => {
                *run != RunState::RUNNING && state.transfer.may_be_sent()
                    || migration.is_postcopy()
                    || state.has_started() && migration.is_settled()
            }
            _ => true,
        }
    }

    fn should_poll_destination_first(&self) -> bool {
        match &self.last_observed {
            Some((source, ..)) => self.should_poll_destination(source),
            None => false,
        }
    }

    pub(super) fn apply(&mut self, event: &GuardEvent<'_>) {
        self.state = self.state.transition(event);
    }

    fn act(&mut self, action: GuardAction) -> Option<VmLocationReport> {
        match action {
            GuardAction::Wait => {}
            GuardAction::Conclude(mut report) => {
                report.actions.clone_from(&self.actions);
                return Some(report);
            }
            GuardAction::Execute(command) => {
                if let Some(refusal) = &self.refusal
                    && refusal.command == command
                    && refusal.last_attempt.elapsed() < RETRY_INTERVAL
                {
                    return None;
                }
                let outcome = self.execute(command);
                self.apply(&GuardEvent::CommandExecuted(command, outcome));
            }
        }
        None
    }

    fn execute(&mut self, command: Command) -> CommandOutcome {
        let (role, name) = match command {
            Command::Cancel => (Role::Source, "migrate_cancel"),
            Command::StopSource => (Role::Source, "stop"),
            Command::ResumeSource => (Role::Source, "cont"),
            Command::ResumeDestination => (Role::Destination, "cont"),
            Command::QuitDestination => (Role::Destination, "quit"),
        };
        let monitor = match role {
            Role::Source => self.source.as_mut(),
            Role::Destination => self.destination.as_mut(),
        };
        let Some(monitor) = monitor else {
            return CommandOutcome::NoReply;
        };
        match monitor.execute(name, json!({})) {
            Reply::Ok(_) => {
                self.refusal = None;
                self.record_action(format!("{role}: {name}"));
                CommandOutcome::Done
            }
            Reply::Lost(reason) => {
                self.record_action(format!("{role}: {name}, no reply ({reason})"));
                CommandOutcome::NoReply
            }
            Reply::Refused(reason) => {
                let now = Instant::now();
                let first_attempt = match &mut self.refusal {
                    Some(refusal) if refusal.command == command => {
                        refusal.last_attempt = now;
                        refusal.first_attempt
                    }
                    _ => {
                        self.refusal = Some(Refusal {
                            command,
                            first_attempt: now,
                            last_attempt: now,
                        });
                        self.record_action(format!("{role}: {name}, refused: {reason}"));
                        now
                    }
                };
                if first_attempt.elapsed() < UNRESPONSIVE_TIMEOUT {
                    CommandOutcome::Refused
                } else {
                    self.refusal = None;
                    CommandOutcome::GivenUp
                }
            }
        }
    }

    pub(super) fn record_action(&mut self, action: impl Into<String>) {
        self.actions.push(action.into());
    }
}

/// Command that a QEMU has refused, with the times of the attempts.
#[derive(Debug)]
struct Refusal {
    command: Command,
    first_attempt: Instant,
    last_attempt: Instant,
}
