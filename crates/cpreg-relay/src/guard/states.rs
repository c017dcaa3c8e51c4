//! States that a QEMU reports: the run state of its guest and the status of its migration.
//!
//! | type | query | in QEMU |
//! |---|---|---|
//! | [`RunState`] | `query-status`, `status` | `qapi/run-state.json`, `RunState` |
//! | [`MigrationStatus`] | `query-migrate`, `status` | `qapi/migration.json`, `MigrationStatus` |
//!
//! Versions add values to both (`device` in 2.12, `postcopy-device` and `failing` in 10.2 and
//! later), so neither is an enum. `super::decide` derives the next action from the states of both
//! sides.

use std::borrow::Cow;
use std::fmt;

/// Run state of a guest, by QEMU's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunState(Cow<'static, str>);

impl RunState {
    /// The guest runs.
    pub const RUNNING: Self = Self::from_static("running");
    /// The user stopped the guest, or it was loaded and must not start by itself.
    pub const PAUSED: Self = Self::from_static("paused");
    /// The guest has never run.
    pub const PRELAUNCH: Self = Self::from_static("prelaunch");
    /// QEMU waits for an incoming migration, or receives one.
    pub const INMIGRATE: Self = Self::from_static("inmigrate");
    /// The guest is stopped for the last part of a migration.
    pub const FINISH_MIGRATE: Self = Self::from_static("finish-migrate");
    /// The guest is stopped because it was migrated.
    pub const POSTMIGRATE: Self = Self::from_static("postmigrate");

    const fn from_static(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// Creates a run state from QEMU's name.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// Returns QEMU's name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Returns `true` if the guest is stopped only because of a migration.
    pub fn is_stopped_by_migration(&self) -> bool {
        *self == Self::FINISH_MIGRATE || *self == Self::POSTMIGRATE
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Status of a migration at either side, by QEMU's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStatus(Cow<'static, str>);

impl MigrationStatus {
    /// Status before any migration, for which QEMU reports no status.
    pub const NONE: Self = Self::from_static("none");
    /// Source: the source has written everything and, with a return path, the destination has
    /// loaded it. Destination: the destination has loaded everything.
    pub const COMPLETED: Self = Self::from_static("completed");
    /// The migration failed.
    pub const FAILED: Self = Self::from_static("failed");
    /// The user cancelled the migration.
    pub const CANCELLED: Self = Self::from_static("cancelled");
    /// Source: the guest is stopped before the device state, until the user sends
    /// `migrate-continue`.
    pub const PRE_SWITCHOVER: Self = Self::from_static("pre-switchover");
    /// Postcopy: the source sends the device state and can still resume (10.2 and later).
    pub const POSTCOPY_DEVICE: Self = Self::from_static("postcopy-device");
    /// Postcopy: the VM belongs to the destination, which fetches memory. Up to 9.x, the source
    /// reports this status before it has sent the device state.
    pub const POSTCOPY_ACTIVE: Self = Self::from_static("postcopy-active");
    /// Postcopy: the connection is lost.
    pub const POSTCOPY_PAUSED: Self = Self::from_static("postcopy-paused");

    const fn from_static(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// Creates a status from QEMU's name.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// Returns QEMU's name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Returns `true` if no migration is in progress: the last one has ended, or there was none.
    pub fn is_settled(&self) -> bool {
        [Self::NONE, Self::COMPLETED, Self::FAILED, Self::CANCELLED].contains(self)
    }

    /// Returns `true` if the source has handed the VM over for good and only memory follows.
    pub fn is_postcopy(&self) -> bool {
        self.0.starts_with("postcopy-") && *self != Self::POSTCOPY_DEVICE
    }
}

impl fmt::Display for MigrationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// State of one side at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SideStatus {
    /// Side whose monitor the user did not give.
    NoMonitor,
    /// Side whose monitor answers.
    Present {
        /// Run state of the guest.
        run: RunState,
        /// Status of the migration.
        migration: MigrationStatus,
    },
    /// Side whose monitor does not answer, and whose QEMU is not known to have exited.
    Unreachable,
    /// Side whose QEMU process has exited.
    Exited,
}

impl SideStatus {
    /// Creates the status of a side that answers.
    pub fn present(run: RunState, migration: MigrationStatus) -> Self {
        Self::Present { run, migration }
    }

    /// Returns `true` if the monitor answers and the guest is in this run state.
    pub fn is_in_state(&self, state: &RunState) -> bool {
        matches!(self, Self::Present { run, .. } if run == state)
    }

    /// Returns `true` if the monitor answers and the migration has this status.
    pub fn has_migration_status(&self, status: &MigrationStatus) -> bool {
        matches!(self, Self::Present { migration, .. } if migration == status)
    }
}

impl fmt::Display for SideStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMonitor => f.write_str("not queried (no monitor given)"),
            Self::Present { run, migration } => write!(f, "{run}, migration {migration}"),
            Self::Unreachable => f.write_str("does not answer"),
            Self::Exited => f.write_str("exited"),
        }
    }
}
