//! The model of an attempt: member `attempt` of `cpreg.check/1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::AttemptOutcome;
use crate::scalar::Id;

/// An attempt to load a plan into a VM of this machine's KVM that is thrown away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Attempt {
    /// Statement that it proves, in words.
    pub scope: String,
    /// vCPU features of the VM that was made for it.
    pub features: Vec<String>,
    /// `"agrees"`, `"disagrees"` (the verdict is then `"unknown"`) or `"not-tried"`.
    pub outcome: AttemptOutcome,
    /// Reason why it was not tried, or null.
    pub error: Option<String>,
    /// Number of registers that were written.
    pub written: usize,
    /// Writes that KVM refused, against the plan.
    pub refused: Vec<Refused>,
    /// Registers that took a value without an error and hold another.
    pub differences: Vec<Difference>,
}

/// A write that KVM refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Refused {
    /// The vCPU.
    pub vcpu: usize,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// The value that was written; null if secret.
    pub wrote: Option<String>,
    /// The value that the register holds; null if secret or unreadable.
    pub holds: Option<String>,
    /// Errno of the kernel.
    pub errno: u16,
    /// Meaning of that, in words.
    pub meaning: String,
}

/// A register that took a value without an error and holds another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Difference {
    /// The vCPU; null for what belongs to the VM.
    pub vcpu: Option<usize>,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// The value that was written; null if secret.
    pub wrote: Option<String>,
    /// The value that the register holds; null if secret.
    pub holds: Option<String>,
}
