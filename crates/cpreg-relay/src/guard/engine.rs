//! [`Guard`]: looks at both QEMUs, has [`super::decide`] decide, and does it.
//!
//! What the two are asked before a migration lives in [`super::prepare`].

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

/// How often is looked while the guest runs at the source.
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How often once the device state goes on: this is a part of the time for which the guest stands still.
const ACTIVE_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// How long to wait before a QEMU that refused is told again: the other one may still hold a disk's lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Two monitors, or one, and the VM between them.
#[derive(Debug)]
pub struct Guard {
    pub(super) source: Option<Monitor>,
    pub(super) destination: Option<Monitor>,
    state: GuardState,
    last_observed: Option<(SideStatus, SideStatus, GuardState)>,
    unchanged_since: Instant,
    refusal: Option<Refusal>,
    actions: Vec<String>,
    /// How many of `done` have been given out.
    reported_actions: usize,
}

impl Guard {
    /// Connects to the monitors; at least one is needed.
    ///
    /// # Errors
    /// If none is given, or one cannot be reached.
    pub fn connect(source: Option<&Path>, dest: Option<&Path>) -> Result<Self, Error> {
        if source.is_none() && dest.is_none() {
            return Err(Error::guard("there is no monitor to guard with"));
        }
        let source = source.map(|path| Monitor::connect(Role::Source, path));
        let dest = dest.map(|path| Monitor::connect(Role::Destination, path));
        Ok(Self {
            source: source.transpose()?,
            destination: dest.transpose()?,
            state: GuardState::INITIAL,
            last_observed: None,
            unchanged_since: Instant::now(),
            refusal: None,
            actions: Vec::new(),
            reported_actions: 0,
        })
    }

    /// Has the source start its migration.
    ///
    /// # Errors
    /// If there is no monitor of the source, or it refuses.
    pub fn start(&mut self, uri: &str) -> Result<(), Error> {
        let Some(source) = &mut self.source else {
            return Err(Error::guard("the source's monitor is not known")
                .with_hint("start the migration there yourself: QMP `migrate`"));
        };
        source.execute_or_fail("migrate", json!({"uri": uri}))?;
        self.apply(&GuardEvent::MigrationStarted);
        self.record_action("the source: migrate");
        Ok(())
    }

    /// A migration has begun that somebody else started.
    pub fn migration_started(&mut self) {
        self.apply(&GuardEvent::MigrationStarted);
    }

    /// Device state may go on from now on. The relay has seen in it whether the guest is to run, if it could.
    pub fn device_state_committed(&mut self, running: Option<bool>) {
        let guest = match running {
            _ if self.source.is_some() => None,
            Some(false) => Some(SourceGuestState::Paused),
            Some(true) | None => Some(SourceGuestState::Running),
        };
        self.apply(&GuardEvent::DeviceStateCommitted(guest));
    }

    /// None has gone on and none will.
    pub fn device_state_rejected(&mut self) {
        self.apply(&GuardEvent::DeviceStateRejected);
    }

    /// All has gone on.
    pub fn device_state_delivered(&mut self) {
        self.apply(&GuardEvent::DeviceStateDelivered);
    }

    /// The relay carries nothing any more, or is gone.
    pub fn relay_ended(&mut self) {
        self.apply(&GuardEvent::RelayEnded);
    }

    /// What the QEMUs were told since the last call.
    pub fn take_actions(&mut self) -> Vec<String> {
        let new = self.actions[self.reported_actions..].to_vec();
        self.reported_actions = self.actions.len();
        new
    }

    /// How long to wait before the next [`Self::step`].
    pub fn poll_interval(&self) -> Duration {
        match &self.last_observed {
            Some((SideStatus::Present { run, .. }, _, state)) => {
                let is_over = state.has_relay_ended()
                    || state.transfer != DeviceStateTransfer::Pending
                    || state.destination.has_run();
                let is_calm = *run == RunState::RUNNING && !is_over;
                if is_calm {
                    IDLE_POLL_INTERVAL
                } else {
                    ACTIVE_POLL_INTERVAL
                }
            }
            _ if self.unchanged_since.elapsed() < UNRESPONSIVE_TIMEOUT => ACTIVE_POLL_INTERVAL,
            _ => IDLE_POLL_INTERVAL,
        }
    }

    /// Looks, decides, acts once. Gives the whereabouts when all is over.
    pub fn step(&mut self) -> Option<VmLocationReport> {
        let situation = self.poll_state();
        let action = decide(&situation);
        self.act(action)
    }

    fn poll_state(&mut self) -> Observation {
        let dest_before = match &self.last_observed {
            Some((_, dest, ..)) => dest.clone(),
            None => SideStatus::Unreachable,
        };
        // The destination first: if it has all of it, what the source says afterwards is about a moment at which that was so.
        let asked_first = self.should_poll_destination_first();
        let mut dest = asked_first.then(|| self.poll_destination());
        let source = self
            .source
            .as_mut()
            .map_or(SideStatus::NoMonitor, Monitor::poll);
        self.apply(&GuardEvent::SourceReported(&source));
        let must_ask = self.should_poll_destination(&source) || self.last_observed.is_none();
        if dest.is_none() && must_ask {
            // Asked for the first time after the source changed: both are looked at again in the next step, in the right order.
            dest = Some(self.poll_destination());
        }
        let dest = dest.unwrap_or_else(|| match &mut self.destination {
            None => SideStatus::NoMonitor,
            Some(monitor) => {
                if monitor.has_ended() {
                    SideStatus::Exited
                } else {
                    dest_before
                }
            }
        });
        self.apply(&GuardEvent::DestinationReported(&dest));
        let now = (source, dest, self.state);
        if self.last_observed.as_ref() != Some(&now) {
            self.last_observed = Some(now.clone());
            self.unchanged_since = Instant::now();
        }
        let (source, dest, state) = now;
        Observation {
            source,
            destination: dest,
            state,
            unchanged_for: self.unchanged_since.elapsed(),
        }
    }

    fn poll_destination(&mut self) -> SideStatus {
        self.destination
            .as_mut()
            .map_or(SideStatus::NoMonitor, Monitor::poll)
    }

    /// Whether the destination matters: it is not asked while RAM flows, since it then answers late and there is nothing to learn.
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
            GuardAction::Conclude(mut whereabouts) => {
                whereabouts.actions.clone_from(&self.actions);
                return Some(whereabouts);
            }
            GuardAction::Execute(command) => {
                if let Some(refusal) = &self.refusal
                    && refusal.command == command
                    && refusal.last.elapsed() < RETRY_INTERVAL
                {
                    return None;
                }
                let tried = self.execute(command);
                self.apply(&GuardEvent::CommandExecuted(command, tried));
            }
        }
        None
    }

    fn execute(&mut self, command: Command) -> CommandOutcome {
        let (end, name) = match command {
            Command::Cancel => (Role::Source, "migrate_cancel"),
            Command::StopSource => (Role::Source, "stop"),
            Command::ResumeSource => (Role::Source, "cont"),
            Command::ResumeDestination => (Role::Destination, "cont"),
            Command::QuitDestination => (Role::Destination, "quit"),
        };
        let monitor = match end {
            Role::Source => self.source.as_mut(),
            Role::Destination => self.destination.as_mut(),
        };
        let Some(monitor) = monitor else {
            return CommandOutcome::NoReply;
        };
        match monitor.execute(name, json!({})) {
            Reply::Ok(_) => {
                self.refusal = None;
                self.record_action(format!("{end}: {name}"));
                CommandOutcome::Done
            }
            Reply::NoReply(why) => {
                self.record_action(format!("{end}: {name}, without an answer ({why})"));
                CommandOutcome::NoReply
            }
            Reply::Refused(why) => {
                let now = Instant::now();
                let first = match &mut self.refusal {
                    Some(refusal) if refusal.command == command => {
                        refusal.last = now;
                        refusal.first
                    }
                    _ => {
                        self.refusal = Some(Refusal {
                            command,
                            first: now,
                            last: now,
                        });
                        self.record_action(format!("{end}: {name}, refused: {why}"));
                        now
                    }
                };
                if first.elapsed() < UNRESPONSIVE_TIMEOUT {
                    CommandOutcome::Refused
                } else {
                    self.refusal = None;
                    CommandOutcome::GivenUp
                }
            }
        }
    }

    pub(super) fn record_action(&mut self, what: impl Into<String>) {
        self.actions.push(what.into());
    }
}

/// Something that a QEMU was told and refuses to do.
#[derive(Debug)]
struct Refusal {
    command: Command,
    first: Instant,
    last: Instant,
}
