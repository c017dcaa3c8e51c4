//! The model of `explain` for a register, schema `cpreg.explain/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::FieldReport;
use crate::names::Scope;
use crate::scalar::{Hex, Id};
use crate::tolerance::model::ToleranceEntry;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.explain/2";

/// Answer of `cpreg explain REG [VALUE]`.
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
    /// Its name, or the spelling that stands for one.
    pub name: String,
    /// `true` if cpreg knows a name for it.
    pub known: bool,
    /// Name of the register that the same id means under TCG, where that is another one; else null.
    pub name_under_tcg: Option<String>,
    /// Names that it has on some CPUs.
    pub implementation_defined_names: Vec<ImplementationDefinedName>,
    /// `"S3_0_C2_C0_3"` of a system register, or null.
    pub encoding: Option<String>,
    /// Names in QEMU 11's messages.
    pub qemu: QemuNames,
    /// Purpose, in words, or null.
    pub purpose: Option<String>,
    /// Kinds of difference that the table of tolerances knows, with the accelerator, in words.
    pub categories: Vec<String>,
    /// Of a register that KVM is known to have: `"vcpu"`: each vCPU has its own; `"vm"`: one for
    /// the VM; `"vm-running"`: one for the VM that runs on. Else null.
    pub scope: Option<Scope>,
    /// Values that KVM takes, in words, or null.
    pub accepted_values: Option<String>,
    /// The ID field that hides it when it is 0, or null.
    pub hidden_by: Option<FeatureGate>,
    /// `true` if guests' values of it are secrets.
    pub secret: bool,
    /// The field that was asked for, or null.
    pub field: Option<String>,
    /// The fields, or the one that was asked for.
    pub fields: Vec<FieldPosition>,
    /// Values that have names.
    pub named_values: Vec<NamedValue>,
    /// The value that was given, or null.
    pub value: Option<ExplainedValue>,
    /// Behaviour of recorded kernels.
    pub recordings: Recordings,
    /// The table's entries about it, each as in `tolerances` of
    /// [`cpreg.tolerances/2`](#cpregtolerances2).
    pub tolerances: Vec<ToleranceEntry>,
}

/// A name that a register has on some CPUs.
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
    /// Name under KVM; null if it does not exist there.
    pub kvm: Option<String>,
    /// Name under TCG; likewise.
    pub tcg: Option<String>,
}

/// The ID field that hides a register when it is 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FeatureGate {
    /// The ID register's name.
    pub register: String,
    /// The field's name.
    pub field: String,
    /// The first release that does so, with the commit.
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
    /// The field that may hold it; null: the whole register.
    pub field: Option<String>,
    /// The value.
    pub value: Hex,
    /// Its name.
    pub name: String,
}

/// The value that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExplainedValue {
    /// The value.
    pub value: Hex,
    /// Meaning, where it has a name, or null.
    pub meaning: Option<String>,
    /// Its fields, most significant first, then set bits that belong to none.
    pub fields: Vec<FieldReport>,
    /// Versions of the recorded kernels of which some fresh vCPU held it.
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
    /// Its upstream version.
    pub version: String,
    /// Its answer to `uname -r`.
    pub release: String,
    /// Version of the distribution's package.
    pub package: String,
    /// Number of fresh vCPUs that were asked: CPU models and sets of features.
    pub recordings: usize,
    /// Number of them that list the register.
    pub listed_recordings: usize,
    /// Guests of those, in words; null if none.
    pub guests: Option<String>,
    /// Contents, the most frequent first; if a field was asked for, of that.
    pub values: Vec<ResetValue>,
    /// Of an ID register, bits that the VMM may change; empty if the kernel does not tell.
    pub writable: Vec<WritableBits>,
    /// Errnos of writing back what was read, where that fails.
    pub write_back_errnos: Vec<u16>,
}

/// Content of a register in fresh vCPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ResetValue {
    /// The value, or null.
    pub value: Option<String>,
    /// Reason why there is none: `"poison"` (KVM's reset poison), `"counter"`, `"errno N"`; else
    /// null.
    pub no_value_reason: Option<String>,
    /// Guests that hold it, in words.
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
