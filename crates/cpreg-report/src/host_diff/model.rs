//! The model of `diff` for two recorded hosts, schema `cpreg.diff-hosts/2`.

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

/// Answer of `cpreg diff` about two recorded hosts. `guests` beside a register: the feature sets of
/// which that is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HostDiffReport {
    /// `"cpreg.diff-hosts/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// `true` if nothing that was compared differs.
    pub equal: bool,
    /// One host.
    pub a: HostIdentity,
    /// The other.
    pub b: HostIdentity,
    /// The feature sets that were compared: those that both have.
    pub guests: FeatureSets,
    /// Those that only A was recorded with.
    pub guests_only_in_a: FeatureSets,
    /// Those that only B was recorded with.
    pub guests_only_in_b: FeatureSets,
    /// Capabilities that differ.
    pub capabilities: Vec<CapabilityDifference>,
    /// Registers that only A lists.
    pub only_in_a: Vec<OneSidedRegister>,
    /// Registers that only B lists.
    pub only_in_b: Vec<OneSidedRegister>,
    /// Values at reset that differ.
    pub values: Vec<ResetValueDifference>,
    /// Registers of which only one side takes back what was read.
    pub write_back: Vec<WriteBackDifference>,
    /// Bits of ID registers that may be changed, where they differ.
    pub writable: Vec<WritableDifference>,
    /// PSCI versions and bits of bitmaps that are taken, where they differ and both sides were
    /// tried.
    pub accepted_values: Vec<AcceptedValuesDifference>,
    /// Other values that both were tried with, and that came out differently.
    pub trials: Vec<TrialDifference>,
    /// Things that were not compared.
    pub omissions: Omissions,
}

/// A capability that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CapabilityDifference {
    /// The capability.
    pub name: String,
    /// A's answer; 0 if it lacks the capability.
    pub a: i32,
    /// B's answer, likewise.
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
    /// The value that it held, or null if that is no value.
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
    /// The value in A.
    pub a: Option<String>,
    /// The value in B.
    pub b: Option<String>,
    /// `true` if the values are kept back; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<bool>,
    /// The fields that differ.
    pub fields: Vec<FieldChange>,
}

/// A register of which only one side takes back what was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WriteBackDifference {
    /// The guests.
    pub guests: FeatureSets,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Errno of A; 0 if it takes it.
    pub a: u16,
    /// Errno of B, likewise.
    pub b: u16,
}

/// An ID register other bits of which may be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WritableDifference {
    /// The guests.
    pub guests: FeatureSets,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// The bits in A.
    pub a: Hex,
    /// The bits in B.
    pub b: Hex,
}

/// A register of which other values are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct AcceptedValuesDifference {
    /// The guests.
    pub guests: FeatureSets,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Values that A takes.
    pub a: AcceptedValues,
    /// Values that B takes.
    pub b: AcceptedValues,
}

/// A value that came out differently.
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
    /// Its fate in A.
    pub a: TrialResult,
    /// Its fate in B.
    pub b: TrialResult,
}

/// Result of writing a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TrialResult {
    /// 0 if it was taken.
    pub errno: u16,
    /// The value that was read then.
    pub read_back: Hex,
}

/// Things that were not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Omissions {
    /// Registers that held no value on one side at least: poison, counters, another value on each
    /// vCPU.
    pub registers_without_value: Vec<RegisterName>,
    /// Feature sets of which only one kernel tells what may be written.
    pub guests_without_writable_masks: FeatureSets,
    /// Registers with values that were tried on one side only.
    pub one_sided_trials: Vec<RegisterName>,
}
