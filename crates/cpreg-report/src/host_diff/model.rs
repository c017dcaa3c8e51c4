//! The model of `diff` for two recorded hosts, schema `cpreg.diff-hosts/1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::FieldChange;
use crate::host::model::{Host, NotListed as Named, Takes};
use crate::names::ResetContent;
use crate::scalar::{Hex, Id};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.diff-hosts/1";

/// Sets of vCPU features, each by its names.
pub type Sets = Vec<Vec<String>>;

/// Answer of `cpreg diff` about two recorded hosts. `guests` beside a register: the feature sets of
/// which that is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Report {
    /// `"cpreg.diff-hosts/1"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// `true` if nothing that was compared differs.
    pub equal: bool,
    /// One host.
    pub a: Host,
    /// The other.
    pub b: Host,
    /// The feature sets that were compared: those that both have.
    pub guests: Sets,
    /// Those that only A was recorded with.
    pub guests_only_a: Sets,
    /// Those that only B was recorded with.
    pub guests_only_b: Sets,
    /// Capabilities that differ.
    pub capabilities: Vec<Capability>,
    /// Registers that only A lists.
    pub only_a: Vec<Only>,
    /// Registers that only B lists.
    pub only_b: Vec<Only>,
    /// Values at reset that differ.
    pub values: Vec<Values>,
    /// Registers of which only one side takes back what was read.
    pub write_back: Vec<WriteBack>,
    /// Bits of ID registers that may be changed, where they differ.
    pub writable: Vec<Writable>,
    /// PSCI versions and bits of bitmaps that are taken, where they differ and both sides were
    /// tried.
    pub takes: Vec<Taken>,
    /// Other values that both were tried with, and that came out differently.
    pub trials: Vec<Trial>,
    /// Things that were not compared.
    pub left_out: LeftOut,
}

/// A capability that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Capability {
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
pub struct Only {
    /// The guests.
    pub guests: Sets,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// The value that it held, or null if that is no value.
    pub at_reset: Option<String>,
    /// `"value"`, `"poison"`, `"counts"` or `"unreadable"`.
    pub is: ResetContent,
}

/// A value at reset that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Values {
    /// The guests.
    pub guests: Sets,
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
pub struct WriteBack {
    /// The guests.
    pub guests: Sets,
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
pub struct Writable {
    /// The guests.
    pub guests: Sets,
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
pub struct Taken {
    /// The guests.
    pub guests: Sets,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Values that A takes.
    pub a: Takes,
    /// Values that B takes.
    pub b: Takes,
}

/// A value that came out differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Trial {
    /// The guests.
    pub guests: Sets,
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
    pub reads: Hex,
}

/// Things that were not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LeftOut {
    /// Registers that held no value on one side at least: poison, counters, another value on each
    /// vCPU.
    pub no_value: Vec<Named>,
    /// Feature sets of which only one kernel tells what may be written.
    pub writable: Sets,
    /// Registers with values that were tried on one side only.
    pub tried: Vec<Named>,
}
