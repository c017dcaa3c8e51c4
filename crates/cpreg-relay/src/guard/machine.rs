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
//! [`Guest`] follows the source until its migration stops it.

use super::states::{RunState, Side};

/// All that has happened in a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GuardState {
    pub(super) migration: Migration,
    pub(super) device_state: DeviceState,
    pub(super) relay: Relay,
    pub(super) guest: Guest,
    pub(super) source: Source,
    pub(super) dest: Dest,
    pub(super) hold: Hold,
    /// There is a return path: `completed` at the source means loaded at the destination.
    pub(super) has_return_path: bool,
}

/// Progress of the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Migration {
    /// Not begun: `query-migrate` tells about an earlier migration.
    NotBegun,
    /// Begun.
    Begun,
    /// The source was told to give it up.
    Cancelled,
}

/// State of the device state, as the relay has told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceState {
    /// None has gone on.
    Expected,
    /// None has gone on and none will.
    Withheld,
    /// Part of it may have gone on, or all.
    Passing,
    /// Part of it may have gone on; no more will.
    CutOff,
    /// All of the stream went on, and the success back.
    Delivered,
}

/// State of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relay {
    /// Carries the migration.
    Carries,
    /// Done, or gone.
    Ended,
}

/// State of the guest at the source before its migration stopped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    /// Ran.
    Ran,
    /// Was paused.
    Paused,
}

/// Result of telling the source to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Not told, or not refused for long enough yet.
    Untold,
    /// Let go on.
    LetGo,
    /// Refused for too long.
    Refuses,
    /// Let go on once, and refused once.
    RefusesAgain,
}

/// Result of telling the destination to run, or to quit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dest {
    /// Told neither, or not refused for long enough yet.
    Untold,
    /// Refused to run for too long.
    Refuses,
    /// Confirmed that it quits.
    Quits,
    /// The one and the other.
    RefusesAndQuits,
    /// Told to run without refusing, or seen running. A refusal before that has no meaning left.
    Ran,
    /// Ran, and confirmed that it quits.
    RanAndQuits,
}

/// Autostart of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// May start by itself.
    Free,
    /// Confirmed that it does not start by itself.
    Held,
}

/// Command to a QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `migrate_cancel` at the source.
    Cancel,
    /// `cont` at the source.
    RunSource,
    /// `stop` at the source, which runs although the destination does.
    StopSource,
    /// `cont` at the destination.
    RunDest,
    /// `quit` at the destination.
    QuitDest,
}

/// Result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    /// Done.
    Told,
    /// Refused, to be tried again.
    Refused,
    /// Refused for too long.
    GivenUp,
    /// No answer came: it may have been done.
    Silent,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event<'e> {
    /// Before a migration: the source's guest.
    Found(Guest),
    /// Before a migration: the return path is on.
    ReturnPath,
    /// Before a migration: the destination does not start by itself.
    Held,
    /// An earlier guard and its relay are gone, and their migration is over but for the last word.
    LeftOver,
    /// A migration has begun.
    Began,
    /// Device state may go on from now on. The guest, where the source cannot be asked.
    Passing(Option<Guest>),
    /// None has gone on and none will, or no more.
    Refused,
    /// All has gone on.
    Delivered,
    /// The relay carries nothing any more.
    RelayEnded,
    /// State that the source reports.
    SourceSays(&'e Side),
    /// State that the destination reports.
    DestSays(&'e Side),
    /// A QEMU was told something.
    Told(Command, Tried),
}

impl GuardState {
    /// Nothing has happened.
    pub(super) const NEW: Self = Self {
        migration: Migration::NotBegun,
        device_state: DeviceState::Expected,
        relay: Relay::Carries,
        guest: Guest::Ran,
        source: Source::Untold,
        dest: Dest::Untold,
        hold: Hold::Free,
        has_return_path: false,
    };

    /// Returns the state after an event.
    pub(super) fn after(self, event: &Event<'_>) -> Self {
        match event {
            Event::Found(guest) => Self {
                guest: *guest,
                ..self
            },
            Event::ReturnPath => Self {
                has_return_path: true,
                ..self
            },
            Event::Held => Self {
                hold: Hold::Held,
                ..self
            },
            Event::LeftOver => Self {
                migration: self.migration.begun(),
                device_state: self.device_state.passing(),
                relay: Relay::Ended,
                hold: Hold::Held,
                has_return_path: true,
                ..self
            },
            Event::Began => Self {
                migration: self.migration.begun(),
                ..self
            },
            Event::Passing(guest) => Self {
                migration: self.migration.begun(),
                device_state: self.device_state.passing(),
                guest: guest.unwrap_or(self.guest),
                ..self
            },
            Event::Refused => Self {
                device_state: self.device_state.refused(),
                ..self
            },
            Event::Delivered => Self {
                device_state: self.device_state.delivered(),
                ..self
            },
            Event::RelayEnded => Self {
                relay: Relay::Ended,
                ..self
            },
            Event::SourceSays(side) => self.after_source(side),
            Event::DestSays(side) if side.is(&RunState::RUNNING) => Self {
                dest: self.dest.ran(),
                ..self
            },
            Event::DestSays(_) => self,
            Event::Told(command, tried) => self.after_told(*command, *tried),
        }
    }

    /// Follows what the guest does at the source, up to where its migration stops it.
    fn after_source(mut self, side: &Side) -> Self {
        let Side::Present { run, migration } = side else {
            return self;
        };
        if !migration.is_settled() {
            self.migration = self.migration.begun();
        }
        if migration.is_settled() && self.has_begun() || migration.is_postcopy() {
            return self;
        }
        if *run == RunState::RUNNING {
            self.guest = Guest::Ran;
        } else if !run.is_migrated() {
            self.guest = Guest::Paused;
        }
        self
    }

    fn after_told(mut self, command: Command, tried: Tried) -> Self {
        match (command, tried) {
            // Told once, whatever it answers.
            (Command::Cancel, _) => self.migration = Migration::Cancelled,
            (Command::RunSource, Tried::Told) => self.source = self.source.let_go(),
            (Command::RunSource, Tried::GivenUp) => self.source = self.source.refuses(),
            // No answer does not mean that it does not run.
            (Command::RunDest, Tried::Told | Tried::Silent) => self.dest = self.dest.ran(),
            (Command::RunDest, Tried::GivenUp) => self.dest = self.dest.refuses(),
            (Command::QuitDest, Tried::Told) => self.dest = self.dest.quits(),
            _ => {}
        }
        self
    }

    /// Returns `true` if the migration has begun.
    pub(super) fn has_begun(self) -> bool {
        self.migration != Migration::NotBegun
    }

    /// Returns `true` if the relay is done, or gone.
    pub(super) fn relay_has_ended(self) -> bool {
        self.relay == Relay::Ended
    }

    /// Returns `true` if the destination cannot have the device state, now or later.
    pub(super) fn is_withheld(self) -> bool {
        !self.device_state.may_have_gone_on()
            && (self.device_state.is_refused() || self.relay_has_ended())
    }

    /// Returns `true` if the guest is to run on the side where the VM ends.
    pub(super) fn is_to_run(self) -> bool {
        self.guest == Guest::Ran
    }

    /// Returns `true` if the destination has confirmed that it does not start by itself.
    pub(super) fn is_held(self) -> bool {
        self.hold == Hold::Held
    }
}

impl Migration {
    fn begun(self) -> Self {
        match self {
            Self::NotBegun => Self::Begun,
            other => other,
        }
    }
}

impl DeviceState {
    fn passing(self) -> Self {
        match self {
            Self::Expected | Self::Passing => Self::Passing,
            Self::Withheld | Self::CutOff => Self::CutOff,
            Self::Delivered => Self::Delivered,
        }
    }

    fn refused(self) -> Self {
        match self {
            Self::Expected | Self::Withheld => Self::Withheld,
            Self::Passing | Self::CutOff => Self::CutOff,
            Self::Delivered => Self::Delivered,
        }
    }

    fn delivered(self) -> Self {
        match self {
            Self::Expected | Self::Passing | Self::Delivered => Self::Delivered,
            // What was refused stays refused.
            refused => refused,
        }
    }

    /// Returns `true` if part of it may have gone on, or all.
    pub(super) fn may_have_gone_on(self) -> bool {
        matches!(self, Self::Passing | Self::CutOff | Self::Delivered)
    }

    /// Returns `true` if the relay refused it, or the rest of it.
    pub(super) fn is_refused(self) -> bool {
        matches!(self, Self::Withheld | Self::CutOff)
    }
}

impl Source {
    fn let_go(self) -> Self {
        match self {
            Self::Untold | Self::LetGo => Self::LetGo,
            Self::Refuses | Self::RefusesAgain => Self::RefusesAgain,
        }
    }

    fn refuses(self) -> Self {
        match self {
            Self::Untold | Self::Refuses => Self::Refuses,
            Self::LetGo | Self::RefusesAgain => Self::RefusesAgain,
        }
    }

    /// Returns `true` if the source was let go on.
    pub(super) fn was_let_go(self) -> bool {
        matches!(self, Self::LetGo | Self::RefusesAgain)
    }

    /// Returns `true` if it refused to run for too long.
    pub(super) fn has_refused(self) -> bool {
        matches!(self, Self::Refuses | Self::RefusesAgain)
    }
}

impl Dest {
    fn ran(self) -> Self {
        match self {
            Self::Untold | Self::Refuses | Self::Ran => Self::Ran,
            Self::Quits | Self::RefusesAndQuits | Self::RanAndQuits => Self::RanAndQuits,
        }
    }

    fn refuses(self) -> Self {
        match self {
            Self::Untold | Self::Refuses => Self::Refuses,
            Self::Quits | Self::RefusesAndQuits => Self::RefusesAndQuits,
            // It has run once: that is not taken back.
            ran => ran,
        }
    }

    fn quits(self) -> Self {
        match self {
            Self::Untold | Self::Quits => Self::Quits,
            Self::Refuses | Self::RefusesAndQuits => Self::RefusesAndQuits,
            Self::Ran | Self::RanAndQuits => Self::RanAndQuits,
        }
    }

    /// Returns `true` if the destination may have run. That bars the source for good.
    pub(super) fn has_run(self) -> bool {
        matches!(self, Self::Ran | Self::RanAndQuits)
    }

    /// Returns `true` if it refused to run for too long.
    pub(super) fn has_refused(self) -> bool {
        matches!(self, Self::Refuses | Self::RefusesAndQuits)
    }

    /// Returns `true` if the destination has confirmed that it quits.
    pub(super) fn has_confirmed_to_quit(self) -> bool {
        matches!(
            self,
            Self::Quits | Self::RefusesAndQuits | Self::RanAndQuits
        )
    }
}

#[cfg(test)]
mod tests;
