//! What a QEMU says about itself: what its guest does, and how its migration stands.
//!
//! | newtype | from | in QEMU |
//! |---|---|---|
//! | [`RunState`] | `query-status`, `status` | `qapi/run-state.json`, `RunState` |
//! | [`MigrationStatus`] | `query-migrate`, `status` | `qapi/migration.json`, `MigrationStatus` |
//!
//! Versions add to both (`device` in 2.12, `postcopy-device` and `failing` in 10.2 and later), so neither is an enum. What
//! follows from the two on both sides lives in [`super::decide`].

use std::borrow::Cow;
use std::fmt;

/// What the guest does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunState(Cow<'static, str>);

impl RunState {
    /// It runs.
    pub const RUNNING: Self = Self::from_static("running");
    /// Somebody stopped it; or it was loaded and must not start on its own.
    pub const PAUSED: Self = Self::from_static("paused");
    /// It never ran.
    pub const PRELAUNCH: Self = Self::from_static("prelaunch");
    /// A migration is awaited, or comes in.
    pub const INMIGRATE: Self = Self::from_static("inmigrate");
    /// It is stopped for the last part of a migration.
    pub const FINISH_MIGRATE: Self = Self::from_static("finish-migrate");
    /// It is stopped because it was migrated away.
    pub const POSTMIGRATE: Self = Self::from_static("postmigrate");

    const fn from_static(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// As QEMU says it.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// QEMU's word.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether the guest stands still for a migration's sake and nobody else's.
    pub fn is_stopped_by_migration(&self) -> bool {
        *self == Self::FINISH_MIGRATE || *self == Self::POSTMIGRATE
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a migration stands, at either end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStatus(Cow<'static, str>);

impl MigrationStatus {
    /// There was none; QEMU then says nothing at all.
    pub const NONE: Self = Self::from_static("none");
    /// Source: everything is written, and with a return path loaded. Destination: everything is loaded.
    pub const COMPLETED: Self = Self::from_static("completed");
    /// It failed.
    pub const FAILED: Self = Self::from_static("failed");
    /// It was given up by the user.
    pub const CANCELLED: Self = Self::from_static("cancelled");
    /// Source: stopped before the device state, until the user says `migrate-continue`.
    pub const PRE_SWITCHOVER: Self = Self::from_static("pre-switchover");
    /// Postcopy, the device state is on its way and the source can still go back (10.2 and later).
    pub const POSTCOPY_DEVICE: Self = Self::from_static("postcopy-device");
    /// Postcopy, the VM belongs to the destination, which fetches memory. Up to 9.x the source says so before the device state has gone.
    pub const POSTCOPY_ACTIVE: Self = Self::from_static("postcopy-active");
    /// Postcopy, the connection is lost.
    pub const POSTCOPY_PAUSED: Self = Self::from_static("postcopy-paused");

    const fn from_static(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// As QEMU says it.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// QEMU's word.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether no more happens on its own: it is over, or never was.
    pub fn is_settled(&self) -> bool {
        [Self::NONE, Self::COMPLETED, Self::FAILED, Self::CANCELLED].contains(self)
    }

    /// Whether the source has given the VM away for good and memory follows it.
    pub fn is_postcopy(&self) -> bool {
        self.0.starts_with("postcopy-") && *self != Self::POSTCOPY_DEVICE
    }
}

impl fmt::Display for MigrationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of one side at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SideStatus {
    /// Its monitor was not given.
    NoMonitor,
    /// It answers.
    Present {
        /// What its guest does.
        run: RunState,
        /// How its migration stands.
        migration: MigrationStatus,
    },
    /// It does not answer, and is not known to have ended.
    Unreachable,
    /// Its process has ended.
    Exited,
}

impl SideStatus {
    /// One that answers.
    pub fn present(run: RunState, migration: MigrationStatus) -> Self {
        Self::Present { run, migration }
    }

    /// Whether it answers and is in this state.
    pub fn is_in_state(&self, state: &RunState) -> bool {
        matches!(self, Self::Present { run, .. } if run == state)
    }

    /// Whether it answers and its migration stands so.
    pub fn has_migration_status(&self, status: &MigrationStatus) -> bool {
        matches!(self, Self::Present { migration, .. } if migration == status)
    }
}

impl fmt::Display for SideStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMonitor => f.write_str("not asked (no monitor was given)"),
            Self::Present { run, migration } => write!(f, "{run}, migration {migration}"),
            Self::Unreachable => f.write_str("does not answer"),
            Self::Exited => f.write_str("ended"),
        }
    }
}
