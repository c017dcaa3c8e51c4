//! Model of `diff` for two kernels, schema `cpreg.kernel-diff/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host_diff::model::{FeatureSets, Omissions};
use crate::scalar::Id;
use crate::tolerance::model::HistoryEntry;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.kernel-diff/2";

/// Report of `cpreg diff` for two kernels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct KernelDiffReport {
    /// `"cpreg.kernel-diff/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// `true` if nothing that was compared differs.
    pub equal: bool,
    /// The first kernel.
    pub a: ComparedKernel,
    /// The second kernel.
    pub b: ComparedKernel,
    /// CPUs that were recorded with both kernels, and the feature sets that were compared there.
    pub cpus: Vec<CpuGuests>,
    /// CPUs that were recorded only with A.
    pub cpus_only_in_a: Vec<String>,
    /// CPUs that were recorded only with B.
    pub cpus_only_in_b: Vec<String>,
    /// Differences by reason, in the order of the kernels that made them.
    pub reasons: Vec<Reason>,
    /// Registers and guests that were not compared on at least one CPU.
    pub omissions: Omissions,
}

/// A kernel that was compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ComparedKernel {
    /// Name of the kernel in the command.
    pub argument: String,
    /// Upstream version of the recorded kernel.
    pub version: String,
    /// Release of the recorded kernel (`uname -r`).
    pub release: String,
    /// Older recorded versions that the name matches too.
    pub older_versions: Vec<String>,
}

/// A CPU and guests on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CpuGuests {
    /// CPU model and mode: `max+nested`.
    pub cpu: String,
    /// vCPU features of each guest.
    pub guests: FeatureSets,
}

/// Differences with the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Reason {
    /// Recorded kernels between which the behaviour changed.
    pub changes: Vec<RecordedChange>,
    /// Known changes of Linux between these kernels; empty if no table has one.
    pub history: Vec<HistoryEntry>,
    /// Entries of the table of tolerances for these differences, in words.
    pub tolerances: Vec<String>,
    /// The differences.
    pub differences: Vec<KernelDifference>,
}

/// Two recorded kernels, without a recorded kernel in between, that differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RecordedChange {
    /// Version of the last kernel with the old behaviour.
    pub before: String,
    /// Version of the first kernel with the new behaviour.
    pub after: String,
}

/// A register, field or capability that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct KernelDifference {
    /// `"capability"`, `"only-in-a"`, `"only-in-b"`, `"reset-value"`, `"write-back"`,
    /// `"writable-bits"`, `"accepted-values"` or `"trial"`.
    #[schemars(with = "String", extend("enum" = KIND_NAMES))]
    pub kind: KernelDifferenceKind,
    /// The register's id; null for a capability.
    pub id: Option<Id>,
    /// Name of the register or capability.
    pub name: String,
    /// Name or bits of the field; null for the whole register.
    pub field: Option<String>,
    /// Contents of A and B, each with the guests that have them.
    pub variants: Vec<Variant>,
}

/// Names of the kinds of differences in JSON.
const KIND_NAMES: [&str; 8] = [
    "capability",
    "only-in-a",
    "only-in-b",
    "reset-value",
    "write-back",
    "writable-bits",
    "accepted-values",
    "trial",
];

/// Kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum KernelDifferenceKind {
    /// Value of a capability.
    Capability,
    /// Register that only A lists.
    OnlyInA,
    /// Register that only B lists.
    OnlyInB,
    /// Value at reset.
    ResetValue,
    /// Result of writing back the value that was read.
    WriteBack,
    /// Writable bits of an ID register.
    WritableBits,
    /// Accepted PSCI versions or bits of a firmware bitmap.
    AcceptedValues,
    /// Result of writing another value.
    Trial,
}

/// A difference, and the guests that have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Variant {
    /// Content of A, in words; for `"writable-bits"` the bits that only A can write. Null if only
    /// one side lists the register, or if the value is secret.
    pub a: Option<String>,
    /// The same of B.
    pub b: Option<String>,
    /// Values that were written, for `"trial"`; else empty.
    pub written: Vec<String>,
    /// CPUs and guests.
    pub cpus: Vec<CpuGuests>,
}
