//! Model of the result of `relay`, schema `cpreg.relay/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::model::CheckReport;
use crate::failure::ErrorReport;
use crate::names::RelayOutcome;
use crate::rehearse::model::RehearsalReport;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.relay/2";

/// Report of `cpreg relay`: one migration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RelayReport {
    /// `"cpreg.relay/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Version of cpreg.
    pub cpreg_version: String,
    /// Number of the migration, counted from 1; 0 if none was started.
    pub migration: usize,
    /// `"completed"`, `"refused"`, `"recovered"` (an interrupted postcopy migration),
    /// `"failed"`, `"cancelled"`, or `"not-started"` if no QEMU was connected.
    pub outcome: RelayOutcome,
    /// Location of the VM as the relay knows it: `"source"`, `"source-stopped"`,
    /// `"source-postcopy-paused"`, `"destination"`, `"destination-unconfirmed"` or `"unknown"`.
    pub vm_location: String,
    /// Location of the VM as the switchover guard found it; null without a guard.
    pub guard: Option<GuardReport>,
    /// Check of the VM, [`cpreg.check/2`](#cpregcheck2); null if none was made.
    pub check: Option<Box<CheckReport>>,
    /// Rehearsal that refused the migration, [`cpreg.rehearsal/2`](#cpregrehearsal2); else null.
    pub rehearsal: Option<Box<RehearsalReport>>,
    /// Reasons for a rejection before RAM was sent, in words.
    pub rejected_because: Vec<String>,
    /// Error that ended the migration, [`cpreg.error/2`](#cpregerror2); or null.
    pub error: Option<ErrorReport>,
    /// Exit status of the command, or of this migration with `--repeat`.
    pub exit_status: u8,
}

impl RelayReport {
    /// Creates the report of a migration, without its parts.
    pub fn new(version: &str, migration: usize, outcome: RelayOutcome, vm_location: &str) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            cpreg_version: version.to_owned(),
            migration,
            outcome,
            vm_location: vm_location.to_owned(),
            guard: None,
            check: None,
            rehearsal: None,
            rejected_because: Vec::new(),
            error: None,
            exit_status: 0,
        }
    }
}

/// Location of the VM as the switchover guard found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::exhaustive_structs, reason = "`relay` fills it")]
pub struct GuardReport {
    /// `"source"`, `"destination"`, `"both"`, `"lost"` or `"unknown"`.
    pub vm_location: String,
    /// `true` if the guest runs there; null if that is not known.
    pub running: Option<bool>,
    /// Reason, in words.
    pub reason: String,
    /// Commands that the guard sent to the two QEMUs, in order.
    pub actions: Vec<String>,
    /// Next steps for the user, in words.
    pub advice: Vec<String>,
}
