//! Model of `diff`, schema `cpreg.diff/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::FieldChange;
use crate::names::{Accelerator, ContentsKind, ShapePartKind};
use crate::scalar::{Hex, Id, Vcpus};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.diff/2";

/// Report of `cpreg diff A B`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DiffReport {
    /// `"cpreg.diff/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// `true` if nothing that was compared differs.
    pub equal: bool,
    /// `true` if values that running guests change were compared (`--all`).
    pub all: bool,
    /// The first file.
    pub a: ComparedFile,
    /// The second file.
    pub b: ComparedFile,
    /// Differences of the machine shapes.
    pub shape: Vec<ShapeDifference>,
    /// Registers that only A lists, ascending by id.
    pub only_in_a: Vec<OneSidedRegister>,
    /// Registers that only B lists.
    pub only_in_b: Vec<OneSidedRegister>,
    /// Registers that both list with different values, ascending by id.
    pub values: Vec<ValueDifference>,
    /// Core registers that differ, which QEMU stores before the register list; with `--all`, if
    /// both files are streams.
    pub core_registers: Vec<CoreRegisterDifference>,
    /// Extensions that differ: CPU state that is not a register.
    pub extensions: Vec<ExtensionDifference>,
    /// Counts of omitted differences, and of things that could not be compared.
    pub omissions: OmissionCounts,
}

/// One of the two files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ComparedFile {
    /// Its name.
    pub name: String,
    /// `"stream"` or `"profile"`.
    pub kind: ContentsKind,
    /// Machine type, or null.
    pub machine: Option<String>,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// `"kvm"`, `"tcg"`, `"hvf"` or null.
    pub accelerator: Option<Accelerator>,
    /// Run state of the guest of a stream, or null; not compared.
    pub run_state: Option<String>,
}

/// A difference of the machine shapes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ShapeDifference {
    /// `"accelerator"`, or a kind of `cpreg.check/2`.
    pub kind: ShapePartKind,
    /// QEMU's name of the RAM block or device; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Instance id of the device; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<u32>,
    /// Value of A, or null.
    pub a: Option<String>,
    /// Value of B, or null.
    pub b: Option<String>,
}

/// A register that only one side lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct OneSidedRegister {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// The register's id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Value; null if a profile lacks it.
    pub value: Option<String>,
    /// `true` if the value is hidden; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<bool>,
}

/// A register that both sides list with different values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ValueDifference {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// The register's id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Its value in A.
    pub a: Option<String>,
    /// Its value in B.
    pub b: Option<String>,
    /// `true` if the values are hidden; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<bool>,
    /// Fields that differ, then bits that belong to no field; empty if the fields of the register
    /// are not known.
    pub fields: Vec<FieldChange>,
}

/// A core register that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CoreRegisterDifference {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// KVM's id; null in AArch32 state.
    pub id: Option<Id>,
    /// Its name.
    pub name: String,
    /// Value in A; null if the vCPU is in another execution state.
    pub a: Option<Hex>,
    /// Value in B; null if the vCPU is in another execution state.
    pub b: Option<Hex>,
}

/// An extension that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExtensionDifference {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// QEMU's name of the subsection, or `"env.features"`.
    pub name: String,
    /// Content in A: a number `"0x…"`, or its bytes with two digits each; null if A lacks it.
    pub a: Option<String>,
    /// Content in B, in the same form.
    pub b: Option<String>,
}

/// Counts of omitted differences, and of things that could not be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct OmissionCounts {
    /// Number of differing registers that were omitted, because running guests change them.
    pub registers: usize,
    /// Number of differing extensions that were omitted, because running guests change them.
    pub extensions: usize,
    /// Number of registers without a recorded value on one side.
    pub registers_without_value: usize,
    /// Number of vCPUs that only one side has.
    pub vcpus: usize,
}
