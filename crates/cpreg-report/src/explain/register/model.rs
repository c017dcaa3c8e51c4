//! Model of `explain` for a register, schema `cpreg.explain/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::FieldReport;
use crate::names::Scope;
use crate::scalar::{Hex, Id};
use crate::tolerance::model::ToleranceEntry;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.explain/2";

/// Report of `cpreg explain REG [VALUE]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExplainRegisterReport {
    /// `"cpreg.explain/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Knowledge about the register.
    pub register: Register,
}

/// Knowledge about a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Register {
    /// Its id.
    pub id: Id,
    /// Name, or the spelling of a register without a name.
    pub name: String,
    /// `true` if the register has a name.
    pub known: bool,
    /// Name of the register with this id under TCG, if it differs; else null.
    pub name_under_tcg: Option<String>,
    /// Names of the register on some CPUs.
    pub implementation_defined_names: Vec<ImplementationDefinedName>,
    /// Encoding of a system register, `"S3_0_C2_C0_3"`, or null.
    pub encoding: Option<String>,
    /// Names in QEMU 11's messages.
    pub qemu: QemuNames,
    /// Purpose, in words, or null.
    pub purpose: Option<String>,
    /// Categories of the register's tolerances, with the accelerator, in words.
    pub categories: Vec<String>,
    /// Scope of a register that KVM is known to have, else null: `"vcpu"` (one per vCPU), `"vm"`
    /// (one per VM) or `"vm-running"` (one per VM, which keeps counting).
    pub scope: Option<Scope>,
    /// Values that KVM accepts, in words, or null.
    pub accepted_values: Option<String>,
    /// The ID field that hides the register when it is too low, or null.
    pub hidden_by: Option<FeatureGate>,
    /// `true` if the values of guests are secret.
    pub secret: bool,
    /// The selected field, or null.
    pub field: Option<String>,
    /// Fields of the register, or the selected field.
    pub fields: Vec<FieldPosition>,
    /// Values that have names.
    pub named_values: Vec<NamedValue>,
    /// The given value, or null.
    pub value: Option<ExplainedValue>,
    /// Behaviour of recorded kernels.
    pub recordings: Recordings,
    /// Tolerances of the register, each as in `tolerances` of
    /// [`cpreg.tolerances/2`](#cpregtolerances2).
    pub tolerances: Vec<ToleranceEntry>,
}

/// A name of a register on some CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ImplementationDefinedName {
    /// The name.
    pub name: String,
    /// The CPU models.
    pub cpus: Vec<String>,
}

/// Names in QEMU 11's messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct QemuNames {
    /// Name under KVM; null if KVM lacks the register.
    pub kvm: Option<String>,
    /// Name under TCG; null if TCG lacks the register.
    pub tcg: Option<String>,
}

/// The ID field that hides a register when it is too low.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FeatureGate {
    /// The ID register's name.
    pub register: String,
    /// The field's name.
    pub field: String,
    /// The lowest value that does not hide the register.
    pub minimum: u64,
    /// The first release that hides the register, with the commit.
    pub since: String,
}

/// A field of a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FieldPosition {
    /// The field's name.
    pub name: String,
    /// Its highest bit.
    pub msb: u8,
    /// Its lowest bit.
    pub lsb: u8,
}

/// A value that has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct NamedValue {
    /// The field that may have the value; null for the whole register.
    pub field: Option<String>,
    /// The value.
    pub value: Hex,
    /// Its name.
    pub name: String,
}

/// The given value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExplainedValue {
    /// The value.
    pub value: Hex,
    /// Meaning, if the value has a name; else null.
    pub meaning: Option<String>,
    /// Fields, most significant first, then set bits that belong to no field.
    pub fields: Vec<FieldReport>,
    /// Versions of the recorded kernels of which a fresh vCPU held the value.
    pub kernels_with_reset_value: Vec<String>,
}

/// Behaviour of recorded kernels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Recordings {
    /// Origin of the recordings: `"recorded on an emulated CPU"`.
    pub source: String,
    /// Each kernel, oldest first.
    pub kernels: Vec<KernelReport>,
}

/// A recorded kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct KernelReport {
    /// Upstream version.
    pub version: String,
    /// Release (`uname -r`).
    pub release: String,
    /// Version of the distribution's package.
    pub package: String,
    /// Number of recorded fresh vCPUs: combinations of CPU model and features.
    pub recordings: usize,
    /// Number of recordings that list the register.
    pub listed_recordings: usize,
    /// Guests with the register, in words; null if there are none.
    pub guests: Option<String>,
    /// Values of the register or of the selected field, the most frequent first.
    pub values: Vec<ResetValue>,
    /// Writable bits of an ID register; empty if the kernel does not report them.
    pub writable: Vec<WritableBits>,
    /// Errnos of writing back the value that was read, where that fails.
    pub write_back_errnos: Vec<u16>,
}

/// Content of a register in fresh vCPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ResetValue {
    /// The value, or null.
    pub value: Option<String>,
    /// Reason why there is no value: `"poison"` (KVM's reset poison), `"counter"`, `"errno N"`;
    /// else null.
    pub no_value_reason: Option<String>,
    /// Guests with the value, in words.
    pub guests: String,
}

/// Bits that the VMM may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WritableBits {
    /// The bits.
    pub mask: Hex,
    /// Guests, in words.
    pub guests: String,
}
