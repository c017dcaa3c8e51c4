//! [`State`]: what has happened in a migration, as far as the guard knows, and what each [`Event`]
//! makes of it.
//!
//! What to do next follows from this and from what both sides say now: [`super::decide`]. The parts
//! change side by side:
//!
//! ```text
//! Migration     NotBegun ──Began, or seen to migrate──> Begun ──Cancel──> Cancelled
//!
//! DeviceState   Expected ──Passing──> Passing ──Delivered──> Delivered
//!                  │                     │
//!               Refused               Refused
//!                  v                     v
//!               Withheld ──Passing──> CutOff
//!
//! Relay         Carries ──RelayEnded──> Ended
//!
//! Hold          Free ──Held──> Held
//!
//! Source        Untold ──cont: done──> LetGo ──cont: given up──> RefusesAgain
//!                  └──cont: given up──> Refuses ──cont: done────────┘
//!
//! Dest          Untold ──cont: given up──> Refuses       any ──seen running──────────> Ran
//!                  │                          │          any ──cont: done, no answer──> Ran
//!              quit: done                 quit: done
//!                  v                          v          Ran ──quit: done──> RanAndQuits
//!                Quits ──cont: given up──> RefusesAndQuits ──seen running──> RanAndQuits
//! ```
//!
//! [`SourceGuestState`] follows the source until its migration stops it.

use super::states::{RunState, SideStatus};

/// All that has happened in a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GuardState {
    pub(super) migration: MigrationPhase,
    pub(super) transfer: DeviceStateTransfer,
    pub(super) relay: RelayStatus,
    pub(super) source_guest: SourceGuestState,
    pub(super) source: SourceCommandState,
    pub(super) destination: DestinationCommandState,
    pub(super) autostart: Autostart,
    /// There is a return path: `completed` at the source means loaded at the destination.
    pub(super) has_return_path: bool,
}

/// Progress of the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MigrationPhase {
    /// Not begun: `query-migrate` tells about an earlier migration.
    NotStarted,
    /// Begun.
    Started,
    /// The source was told to give it up.
    Cancelled,
}

/// State of the device state, as the relay has told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceStateTransfer {
    /// None has gone on.
    Pending,
    /// None has gone on and none will.
    Rejected,
    /// Part of it may have gone on, or all.
    Committed,
    /// Part of it may have gone on; no more will.
    Aborted,
    /// All of the stream went on, and the success back.
    Delivered,
}

/// State of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RelayStatus {
    /// Carries the migration.
    Running,
    /// Done, or gone.
    Ended,
}

/// State of the guest at the source before its migration stopped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceGuestState {
    /// Ran.
    Running,
    /// Was paused.
    Paused,
}

/// Result of telling the source to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceCommandState {
    /// Not told, or not refused for long enough yet.
    Pending,
    /// Let go on.
    Resumed,
    /// Refused for too long.
    ResumeRefused,
    /// Let go on once, and refused once.
    ResumedAndRefused,
}

/// Result of telling the destination to run, or to quit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DestinationCommandState {
    /// Told neither, or not refused for long enough yet.
    Pending,
    /// Refused to run for too long.
    ResumeRefused,
    /// Confirmed that it quits.
    Quitting,
    /// The one and the other.
    ResumeRefusedAndQuitting,
    /// Told to run without refusing, or seen running. A refusal before that has no meaning left.
    Resumed,
    /// Ran, and confirmed that it quits.
    ResumedAndQuitting,
}

/// Autostart of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Autostart {
    /// May start by itself.
    Enabled,
    /// Confirmed that it does not start by itself.
    Blocked,
}

/// Command to a QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `migrate_cancel` at the source.
    Cancel,
    /// `cont` at the source.
    ResumeSource,
    /// `stop` at the source, which runs although the destination does.
    StopSource,
    /// `cont` at the destination.
    ResumeDestination,
    /// `quit` at the destination.
    QuitDestination,
}

/// Result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandOutcome {
    /// Done.
    Done,
    /// Refused, to be tried again.
    Refused,
    /// Refused for too long.
    GivenUp,
    /// No answer came: it may have been done.
    NoReply,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GuardEvent<'e> {
    /// Before a migration: the source's guest.
    SourceGuestObserved(SourceGuestState),
    /// Before a migration: the return path is on.
    ReturnPathEnabled,
    /// Before a migration: the destination does not start by itself.
    AutostartBlocked,
    /// An earlier guard and its relay are gone, and their migration is over but for the last word.
    UnfinishedMigrationFound,
    /// A migration has begun.
    MigrationStarted,
    /// Device state may go on from now on. The guest, where the source cannot be asked.
    DeviceStateCommitted(Option<SourceGuestState>),
    /// None has gone on and none will, or no more.
    DeviceStateRejected,
    /// All has gone on.
    DeviceStateDelivered,
    /// The relay carries nothing any more.
    RelayEnded,
    /// State that the source reports.
    SourceReported(&'e SideStatus),
    /// State that the destination reports.
    DestinationReported(&'e SideStatus),
    /// A QEMU was told something.
    CommandExecuted(Command, CommandOutcome),
}

impl GuardState {
    /// Nothing has happened.
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

    /// Returns the state after an event.
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
            GuardEvent::CommandExecuted(command, tried) => {
                self.apply_command_outcome(*command, *tried)
            }
        }
    }

    /// Follows what the guest does at the source, up to where its migration stops it.
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

    fn apply_command_outcome(mut self, command: Command, tried: CommandOutcome) -> Self {
        match (command, tried) {
            // Told once, whatever it answers.
            (Command::Cancel, _) => self.migration = MigrationPhase::Cancelled,
            (Command::ResumeSource, CommandOutcome::Done) => self.source = self.source.on_resumed(),
            (Command::ResumeSource, CommandOutcome::GivenUp) => {
                self.source = self.source.on_resume_refused()
            }
            // No answer does not mean that it does not run.
            (Command::ResumeDestination, CommandOutcome::Done | CommandOutcome::NoReply) => {
                self.destination = self.destination.on_resumed()
            }
            (Command::ResumeDestination, CommandOutcome::GivenUp) => {
                self.destination = self.destination.on_resume_refused()
            }
            (Command::QuitDestination, CommandOutcome::Done) => {
                self.destination = self.destination.on_quitting()
            }
            _ => {}
        }
        self
    }

    /// Returns `true` if the migration has begun.
    pub(super) fn has_started(self) -> bool {
        self.migration != MigrationPhase::NotStarted
    }

    /// Returns `true` if the relay is done, or gone.
    pub(super) fn has_relay_ended(self) -> bool {
        self.relay == RelayStatus::Ended
    }

    /// Returns `true` if the destination cannot have the device state, now or later.
    pub(super) fn is_device_state_withheld(self) -> bool {
        !self.transfer.may_be_sent() && (self.transfer.is_rejected() || self.has_relay_ended())
    }

    /// Returns `true` if the guest is to run on the side where the VM ends.
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
            // What was refused stays refused.
            refused => refused,
        }
    }

    /// Returns `true` if part of it may have gone on, or all.
    pub(super) fn may_be_sent(self) -> bool {
        matches!(self, Self::Committed | Self::Aborted | Self::Delivered)
    }

    /// Returns `true` if the relay refused it, or the rest of it.
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

    /// Returns `true` if the source was let go on.
    pub(super) fn is_resumed(self) -> bool {
        matches!(self, Self::Resumed | Self::ResumedAndRefused)
    }

    /// Returns `true` if it refused to run for too long.
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
            // It has run once: that is not taken back.
            ran => ran,
        }
    }

    fn on_quitting(self) -> Self {
        match self {
            Self::Pending | Self::Quitting => Self::Quitting,
            Self::ResumeRefused | Self::ResumeRefusedAndQuitting => Self::ResumeRefusedAndQuitting,
            Self::Resumed | Self::ResumedAndQuitting => Self::ResumedAndQuitting,
        }
    }

    /// Returns `true` if the destination may have run. That bars the source for good.
    pub(super) fn has_run(self) -> bool {
        matches!(self, Self::Resumed | Self::ResumedAndQuitting)
    }

    /// Returns `true` if it refused to run for too long.
    pub(super) fn has_refused(self) -> bool {
        matches!(self, Self::ResumeRefused | Self::ResumeRefusedAndQuitting)
    }

    /// Returns `true` if the destination has confirmed that it quits.
    pub(super) fn is_quitting(self) -> bool {
        matches!(
            self,
            Self::Quitting | Self::ResumeRefusedAndQuitting | Self::ResumedAndQuitting
        )
    }
}

#[cfg(test)]
mod tests;
