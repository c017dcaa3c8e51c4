//! [`GuardState`]: the state of a guarded migration, and its transitions by [`GuardEvent`]s.
//!
//! [`super::decide`] derives the next action from this state and the current state of both sides.
//! The parts change independently:
//!
//! ```text
//! MigrationPhase           NotStarted ──MigrationStarted, seen active──> Started
//!                          Started ──Cancel──> Cancelled
//!
//! DeviceStateTransfer      Pending ──Committed──> Committed ──Delivered──> Delivered
//!                             │                       │
//!                         Rejected                Rejected
//!                             v                       v
//!                          Rejected ──Committed──> Aborted
//!
//! RelayStatus              Running ──RelayEnded──> Ended
//!
//! Autostart                Enabled ──AutostartBlocked──> Blocked
//!
//! SourceCommandState       Pending ──cont done──> Resumed ──cont given up──> ResumedAndRefused
//!                             └──cont given up──> ResumeRefused ──cont done────────┘
//!
//! DestinationCommandState  any ──seen running──────────> Resumed
//!                          any ──cont done, no reply───> Resumed ──quit done──> ResumedAndQuitting
//!                          Pending ──cont given up──> ResumeRefused
//!                             │                            │
//!                         quit done                    quit done
//!                             v                            v
//!                          Quitting ──cont given up──> ResumeRefusedAndQuitting
//!                          any quitting state ──seen running──> ResumedAndQuitting
//! ```
//!
//! [`SourceGuestState`] follows the source until its migration stops the guest.

use super::states::{RunState, SideStatus};

/// State of a guarded migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GuardState {
    pub(super) migration: MigrationPhase,
    pub(super) transfer: DeviceStateTransfer,
    pub(super) relay: RelayStatus,
    pub(super) source_guest: SourceGuestState,
    pub(super) source: SourceCommandState,
    pub(super) destination: DestinationCommandState,
    pub(super) autostart: Autostart,
    /// `true` if the return path is on: `completed` at the source then means loaded at the
    /// destination.
    pub(super) has_return_path: bool,
}

/// Progress of the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MigrationPhase {
    /// Not begun: `query-migrate` describes an earlier migration.
    NotStarted,
    /// A migration has begun.
    Started,
    /// The guard cancelled the migration at the source.
    Cancelled,
}

/// Progress of the device state, as the relay reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceStateTransfer {
    /// The relay has sent no device state so far.
    Pending,
    /// The relay has sent no device state and will send none.
    Rejected,
    /// The relay may have sent part or all of the device state.
    Committed,
    /// The relay may have sent part of the device state, and will send no more.
    Aborted,
    /// The relay sent all of the stream and, with a return path, forwarded the success.
    Delivered,
}

/// State of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RelayStatus {
    /// The relay forwards the migration.
    Running,
    /// The relay has finished or died.
    Ended,
}

/// Run state of the guest at the source before its migration stopped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceGuestState {
    /// The guest was running.
    Running,
    /// The guest was paused.
    Paused,
}

/// Result of resuming the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceCommandState {
    /// The guard has not resumed the source. The source may have refused, but not for long.
    Pending,
    /// The guard resumed the source.
    Resumed,
    /// The source refused to resume for too long.
    ResumeRefused,
    /// The guard resumed the source, and at another time the source refused for too long.
    ResumedAndRefused,
}

/// Result of resuming or ending the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DestinationCommandState {
    /// No such command has succeeded. The destination may have refused, but not for long.
    Pending,
    /// The destination refused to resume for too long.
    ResumeRefused,
    /// The destination confirmed `quit`.
    Quitting,
    /// The destination refused to resume for too long, and confirmed `quit`.
    ResumeRefusedAndQuitting,
    /// The guard resumed the destination or observed it running. An earlier refusal no longer
    /// matters.
    Resumed,
    /// The guard resumed the destination, and the destination confirmed `quit`.
    ResumedAndQuitting,
}

/// Autostart of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Autostart {
    /// The guest may start by itself.
    Enabled,
    /// The guard has confirmed that the guest does not start by itself.
    Blocked,
}

/// Command to a QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `migrate_cancel` at the source.
    Cancel,
    /// `cont` at the source.
    ResumeSource,
    /// `stop` at the source, if both sides run.
    StopSource,
    /// `cont` at the destination.
    ResumeDestination,
    /// `quit` at the destination.
    QuitDestination,
}

/// Result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandOutcome {
    /// QEMU executed the command.
    Done,
    /// QEMU refused the command; the guard retries.
    Refused,
    /// QEMU refused the command for too long.
    GivenUp,
    /// QEMU sent no reply and may have executed the command.
    NoReply,
}

/// Event of a guarded migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GuardEvent<'e> {
    /// The source's guest has this state before a migration.
    SourceGuestObserved(SourceGuestState),
    /// The return path is on before a migration.
    ReturnPathEnabled,
    /// The destination does not start by itself; observed before a migration.
    AutostartBlocked,
    /// An earlier guard and its relay died, and this guard only has to finish their migration.
    UnfinishedMigrationFound,
    /// A migration has begun.
    MigrationStarted,
    /// The relay is about to send device state. The guest state is given if the guard cannot query
    /// the source.
    DeviceStateCommitted(Option<SourceGuestState>),
    /// The relay will send no device state, or no more of it.
    DeviceStateRejected,
    /// The relay sent all device state.
    DeviceStateDelivered,
    /// The relay has ended.
    RelayEnded,
    /// The source reported this state.
    SourceReported(&'e SideStatus),
    /// The destination reported this state.
    DestinationReported(&'e SideStatus),
    /// A command was sent to a QEMU.
    CommandExecuted(Command, CommandOutcome),
}

impl GuardState {
    /// State before any event.
    pub(super) const INITIAL: Self = Self {
        migration: MigrationPhase::NotStarted,
        transfer: DeviceStateTransfer::Pending,
        relay: RelayStatus::Running,
        source_guest: SourceGuestState::Running,
        source: SourceCommandState::Pending,
        destination: DestinationCommandState::Pending,
        autostart: Autostart::Enabled,
        has_return_path: false,
    };

    /// Returns the state after `event`.
    pub(super) fn transition(self, event: &GuardEvent<'_>) -> Self {
        match event {
            GuardEvent::SourceGuestObserved(guest) => Self {
                source_guest: *guest,
                ..self
            },
            GuardEvent::ReturnPathEnabled => Self {
                has_return_path: true,
                ..self
            },
            GuardEvent::AutostartBlocked => Self {
                autostart: Autostart::Blocked,
                ..self
            },
            GuardEvent::UnfinishedMigrationFound => Self {
                migration: self.migration.on_started(),
                transfer: self.transfer.on_committed(),
                relay: RelayStatus::Ended,
                autostart: Autostart::Blocked,
                has_return_path: true,
                ..self
            },
            GuardEvent::MigrationStarted => Self {
                migration: self.migration.on_started(),
                ..self
            },
            GuardEvent::DeviceStateCommitted(guest) => Self {
                migration: self.migration.on_started(),
                transfer: self.transfer.on_committed(),
                source_guest: guest.unwrap_or(self.source_guest),
                ..self
            },
            GuardEvent::DeviceStateRejected => Self {
                transfer: self.transfer.on_rejected(),
                ..self
            },
            GuardEvent::DeviceStateDelivered => Self {
                transfer: self.transfer.on_delivered(),
                ..self
            },
            GuardEvent::RelayEnded => Self {
                relay: RelayStatus::Ended,
                ..self
            },
            GuardEvent::SourceReported(side) => self.apply_source_report(side),
            GuardEvent::DestinationReported(side) if side.is_in_state(&RunState::RUNNING) => Self {
                destination: self.destination.on_resumed(),
                ..self
            },
            GuardEvent::DestinationReported(_) => self,
            GuardEvent::CommandExecuted(command, outcome) => {
                self.apply_command_outcome(*command, *outcome)
            }
        }
    }

    /// Updates the state of the source's guest until its migration stops it.
    fn apply_source_report(mut self, side: &SideStatus) -> Self {
        let SideStatus::Present { run, migration } = side else {
            return self;
        };
        if !migration.is_settled() {
            self.migration = self.migration.on_started();
        }
        if migration.is_settled() && self.has_started() || migration.is_postcopy() {
            return self;
        }
        if *run == RunState::RUNNING {
            self.source_guest = SourceGuestState::Running;
        } else if !run.is_stopped_by_migration() {
            self.source_guest = SourceGuestState::Paused;
        }
        self
    }

    fn apply_command_outcome(mut self, command: Command, outcome: CommandOutcome) -> Self {
        match (command, outcome) {
            // The guard sends the command once, whatever the reply.
            (Command::Cancel, _) => self.migration = MigrationPhase::Cancelled,
            (Command::ResumeSource, CommandOutcome::Done) => self.source = self.source.on_resumed(),
            (Command::ResumeSource, CommandOutcome::GivenUp) => {
                self.source = self.source.on_resume_refused();
            }
            // Without a reply, the destination may still run.
            (Command::ResumeDestination, CommandOutcome::Done | CommandOutcome::NoReply) => {
                self.destination = self.destination.on_resumed();
            }
            (Command::ResumeDestination, CommandOutcome::GivenUp) => {
                self.destination = self.destination.on_resume_refused();
            }
            (Command::QuitDestination, CommandOutcome::Done) => {
                self.destination = self.destination.on_quitting();
            }
            _ => {}
        }
        self
    }

    /// Returns `true` if the migration has begun.
    pub(super) fn has_started(self) -> bool {
        self.migration != MigrationPhase::NotStarted
    }

    /// Returns `true` if the relay has finished or died.
    pub(super) fn has_relay_ended(self) -> bool {
        self.relay == RelayStatus::Ended
    }

    /// Returns `true` if the destination does not have the device state and will not get it.
    pub(super) fn is_device_state_withheld(self) -> bool {
        !self.transfer.may_be_sent() && (self.transfer.is_rejected() || self.has_relay_ended())
    }

    /// Returns `true` if the guest must run after the migration, on the side that has the VM.
    pub(super) fn should_run_guest(self) -> bool {
        self.source_guest == SourceGuestState::Running
    }

    /// Returns `true` if the destination has confirmed that it does not start by itself.
    pub(super) fn is_autostart_blocked(self) -> bool {
        self.autostart == Autostart::Blocked
    }
}

impl MigrationPhase {
    fn on_started(self) -> Self {
        match self {
            Self::NotStarted => Self::Started,
            other => other,
        }
    }
}

impl DeviceStateTransfer {
    fn on_committed(self) -> Self {
        match self {
            Self::Pending | Self::Committed => Self::Committed,
            Self::Rejected | Self::Aborted => Self::Aborted,
            Self::Delivered => Self::Delivered,
        }
    }

    fn on_rejected(self) -> Self {
        match self {
            Self::Pending | Self::Rejected => Self::Rejected,
            Self::Committed | Self::Aborted => Self::Aborted,
            Self::Delivered => Self::Delivered,
        }
    }

    fn on_delivered(self) -> Self {
        match self {
            Self::Pending | Self::Committed | Self::Delivered => Self::Delivered,
            // A rejected transfer stays rejected.
            rejected => rejected,
        }
    }

    /// Returns `true` if the relay may have sent part or all of the device state.
    pub(super) fn may_be_sent(self) -> bool {
        matches!(self, Self::Committed | Self::Aborted | Self::Delivered)
    }

    /// Returns `true` if the relay rejected all or the rest of the device state.
    pub(super) fn is_rejected(self) -> bool {
        matches!(self, Self::Rejected | Self::Aborted)
    }
}

impl SourceCommandState {
    fn on_resumed(self) -> Self {
        match self {
            Self::Pending | Self::Resumed => Self::Resumed,
            Self::ResumeRefused | Self::ResumedAndRefused => Self::ResumedAndRefused,
        }
    }

    fn on_resume_refused(self) -> Self {
        match self {
            Self::Pending | Self::ResumeRefused => Self::ResumeRefused,
            Self::Resumed | Self::ResumedAndRefused => Self::ResumedAndRefused,
        }
    }

    /// Returns `true` if the source was resumed.
    pub(super) fn is_resumed(self) -> bool {
        matches!(self, Self::Resumed | Self::ResumedAndRefused)
    }

    /// Returns `true` if the source refused to resume for too long.
    pub(super) fn has_refused(self) -> bool {
        matches!(self, Self::ResumeRefused | Self::ResumedAndRefused)
    }
}

impl DestinationCommandState {
    fn on_resumed(self) -> Self {
        match self {
            Self::Pending | Self::ResumeRefused | Self::Resumed => Self::Resumed,
            Self::Quitting | Self::ResumeRefusedAndQuitting | Self::ResumedAndQuitting => {
                Self::ResumedAndQuitting
            }
        }
    }

    fn on_resume_refused(self) -> Self {
        match self {
            Self::Pending | Self::ResumeRefused => Self::ResumeRefused,
            Self::Quitting | Self::ResumeRefusedAndQuitting => Self::ResumeRefusedAndQuitting,
            // A destination that has run stays in that state.
            resumed => resumed,
        }
    }

    fn on_quitting(self) -> Self {
        match self {
            Self::Pending | Self::Quitting => Self::Quitting,
            Self::ResumeRefused | Self::ResumeRefusedAndQuitting => Self::ResumeRefusedAndQuitting,
            Self::Resumed | Self::ResumedAndQuitting => Self::ResumedAndQuitting,
        }
    }

    /// Returns `true` if the destination may have run. The source must never resume after that.
    pub(super) fn has_run(self) -> bool {
        matches!(self, Self::Resumed | Self::ResumedAndQuitting)
    }

    /// Returns `true` if the destination refused to resume for too long.
    pub(super) fn has_refused(self) -> bool {
        matches!(self, Self::ResumeRefused | Self::ResumeRefusedAndQuitting)
    }

    /// Returns `true` if the destination has confirmed `quit`.
    pub(super) fn is_quitting(self) -> bool {
        matches!(
            self,
            Self::Quitting | Self::ResumeRefusedAndQuitting | Self::ResumedAndQuitting
        )
    }
}

#[cfg(test)]
mod tests;
