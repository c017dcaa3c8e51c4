//! Model of `diff` for two recorded hosts, schema `cpreg.diff-hosts/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::FieldChange;
use crate::host::model::{AcceptedValues, HostIdentity, MissingRegister as RegisterName};
use crate::names::ResetContent;
use crate::scalar::{Hex, Id};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.diff-hosts/2";

/// Sets of vCPU features, each by its names.
pub type FeatureSets = Vec<Vec<String>>;

/// Report of `cpreg diff` for two recorded hosts.
///
/// `guests` of an entry lists the feature sets that have the difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HostDiffReport {
    /// `"cpreg.diff-hosts/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// `true` if nothing that was compared differs.
    pub equal: bool,
    /// The first host.
    pub a: HostIdentity,
    /// The second host.
    pub b: HostIdentity,
    /// Feature sets that both hosts have and that were compared.
    pub guests: FeatureSets,
    /// Feature sets that only A has.
    pub guests_only_in_a: FeatureSets,
    /// Feature sets that only B has.
    pub guests_only_in_b: FeatureSets,
    /// Capabilities that differ.
    pub capabilities: Vec<CapabilityDifference>,
    /// Registers that only A lists.
    pub only_in_a: Vec<OneSidedRegister>,
    /// Registers that only B lists.
    pub only_in_b: Vec<OneSidedRegister>,
    /// Values at reset that differ.
    pub values: Vec<ResetValueDifference>,
    /// Registers where writing back the value that was read has another errno.
    pub write_back: Vec<WriteBackDifference>,
    /// Writable bits of ID registers, where they differ.
    pub writable: Vec<WritableDifference>,
    /// Accepted PSCI versions and bits of firmware bitmaps that differ, if both sides were tried.
    pub accepted_values: Vec<AcceptedValuesDifference>,
    /// Other values that both sides tried with different results.
    pub trials: Vec<TrialDifference>,
    /// Registers and guests that were not compared.
    pub omissions: Omissions,
}

/// A capability that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CapabilityDifference {
    /// The capability.
    pub name: String,
    /// Value of A; 0 if it lacks the capability.
    pub a: i32,
    /// Value of B; 0 if it lacks the capability.
    pub b: i32,
}

/// A register that only one side lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct OneSidedRegister {
    /// The guests.
    pub guests: FeatureSets,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Value at reset, or null for another kind.
    pub at_reset: Option<String>,
    /// `"value"`, `"poison"`, `"counter"` or `"unreadable"`.
    pub kind: ResetContent,
}

/// A value at reset that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ResetValueDifference {
    /// The guests.
    pub guests: FeatureSets,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Value in A.
    pub a: Option<String>,
    /// Value in B.
    pub b: Option<String>,
    /// `true` if the values are hidden; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<bool>,
    /// Fields that differ.
    pub fields: Vec<FieldChange>,
}

/// A register where writing back the value that was read has another errno.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WriteBackDifference {
    /// The guests.
    pub guests: FeatureSets,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Errno of A; 0 on success.
    pub a: u16,
    /// Errno of B; 0 on success.
    pub b: u16,
}

/// An ID register with different writable bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WritableDifference {
    /// The guests.
    pub guests: FeatureSets,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Writable bits in A.
    pub a: Hex,
    /// Writable bits in B.
    pub b: Hex,
}

/// A register with different accepted values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct AcceptedValuesDifference {
    /// The guests.
    pub guests: FeatureSets,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Values that A accepts.
    pub a: AcceptedValues,
    /// Values that B accepts.
    pub b: AcceptedValues,
}

/// A value whose trials have different results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TrialDifference {
    /// The guests.
    pub guests: FeatureSets,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// The value.
    pub value: Hex,
    /// Result in A.
    pub a: TrialResult,
    /// Result in B.
    pub b: TrialResult,
}

/// Result of writing a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TrialResult {
    /// Errno of the write; 0 if KVM accepted the value.
    pub errno: u16,
    /// Value that was read back.
    pub read_back: Hex,
}

/// Registers and guests that were not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Omissions {
    /// Registers without a value on at least one side: poison, counters, unreadable, or different
    /// by vCPU.
    pub registers_without_value: Vec<RegisterName>,
    /// Feature sets for which only one kernel reports the writable bits.
    pub guests_without_writable_masks: FeatureSets,
    /// Registers with values that only one side tried.
    pub one_sided_trials: Vec<RegisterName>,
}
