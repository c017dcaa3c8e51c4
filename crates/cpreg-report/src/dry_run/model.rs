//! Model of a dry run: member `dry_run` of `cpreg.check/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::DryRunOutcome;
use crate::scalar::Id;

/// A load of a plan into a temporary VM of this machine's KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DryRunReport {
    /// Scope of the proof, in words.
    pub scope: String,
    /// vCPU features of the temporary VM.
    pub features: Vec<String>,
    /// `"confirmed"`, `"contradicted"` (the verdict is then `"unknown"`) or `"not-tried"`.
    pub outcome: DryRunOutcome,
    /// Reason why the plan was not tried, or null.
    pub error: Option<String>,
    /// Number of written registers.
    pub written_registers: usize,
    /// Writes that KVM refused, contrary to the plan.
    pub refused_writes: Vec<RefusedWrite>,
    /// Registers that accepted a value without an error and hold another value.
    pub mismatches: Vec<ReadBackMismatch>,
}

/// A write that KVM refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RefusedWrite {
    /// The vCPU.
    pub vcpu: usize,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Written value; null if secret.
    pub written_value: Option<String>,
    /// Value of the register after the write; null if secret or unreadable.
    pub actual_value: Option<String>,
    /// Errno of the write.
    pub errno: u16,
    /// Meaning of the errno, in words.
    pub meaning: String,
}

/// A register that accepted a value without an error and holds another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ReadBackMismatch {
    /// The vCPU; null for a register of the VM.
    pub vcpu: Option<usize>,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Written value; null if secret.
    pub written_value: Option<String>,
    /// Value of the register after the write; null if secret.
    pub actual_value: Option<String>,
}
