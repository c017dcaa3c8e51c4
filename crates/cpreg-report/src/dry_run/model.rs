//! The model of an attempt: member `dry_run` of `cpreg.check/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::DryRunOutcome;
use crate::scalar::Id;

/// An attempt to load a plan into a VM of this machine's KVM that is thrown away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DryRunReport {
    /// Statement that it proves, in words.
    pub scope: String,
    /// vCPU features of the VM that was made for it.
    pub features: Vec<String>,
    /// `"is_consistent_with_plan"`, `"contradicted"` (the verdict is then `"unknown"`) or `"not-tried"`.
    pub outcome: DryRunOutcome,
    /// Reason why it was not tried, or null.
    pub error: Option<String>,
    /// Number of registers that were written.
    pub written_registers: usize,
    /// Writes that KVM refused, against the plan.
    pub refused_writes: Vec<RefusedWrite>,
    /// Registers that took a value without an error and hold another.
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
    /// The value that was written; null if secret.
    pub written_value: Option<String>,
    /// The value that the register holds; null if secret or unreadable.
    pub actual_value: Option<String>,
    /// Errno of the kernel.
    pub errno: u16,
    /// Meaning of that, in words.
    pub meaning: String,
}

/// A register that took a value without an error and holds another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ReadBackMismatch {
    /// The vCPU; null for what belongs to the VM.
    pub vcpu: Option<usize>,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// The value that was written; null if secret.
    pub written_value: Option<String>,
    /// The value that the register holds; null if secret.
    pub actual_value: Option<String>,
}
