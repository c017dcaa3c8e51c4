//! The members of the file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DocumentKind;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.host/1";

/// The document, as its errors name it.
pub(super) const DOCUMENT: DocumentKind = DocumentKind {
    name: "recorded host",
    schema: SCHEMA,
    version_hint: "record the host again, or read it with the cpreg that wrote it",
};

/// A recorded host.
#[derive(Deserialize, JsonSchema)]
pub(super) struct HostDocument {
    /// `"cpreg.host/1"`.
    pub(super) schema: String,
    /// Kernel and CPU.
    pub(super) identity: IdentityJson,
    /// Answers of `KVM_CHECK_EXTENSION`, by the capability's name; those that are 0 are left out.
    #[serde(default)]
    pub(super) capabilities: BTreeMap<String, i32>,
    /// The sets of vCPU features that were recorded.
    pub(super) guests: Vec<GuestJson>,
    /// Contents of a fresh vCPU, by id; a line more for each thing else that is said of a register of other guests.
    pub(super) registers: Vec<RegisterJson>,
    /// The bits of ID registers that user space may change.
    #[serde(default)]
    pub(super) writable: Vec<WritableMaskJson>,
}

/// Kernel and CPU of a host.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct IdentityJson {
    /// `uname -r`.
    pub(super) release: String,
    /// `uname -v`.
    pub(super) version: String,
    /// MIDR_EL1 of its first CPU.
    pub(super) midr: String,
    /// Name of the CPU: `neoverse-n1`.
    pub(super) cpu: String,
    /// Way in which KVM runs there, where it is not as usual: `nested`, `nvhe`, `mte`; else empty.
    #[serde(default)]
    pub(super) mode: String,
    /// `true` if the CPU is an emulator's, so that nothing about values is proven for a machine of that name.
    pub(super) emulated: bool,
}

/// A guest that was recorded.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct GuestJson {
    /// Names with commas between, or `none`.
    pub(super) features: String,
    /// `true` if the kernel tells which bits of ID registers may be written (`KVM_ARM_GET_REG_WRITABLE_MASKS`).
    pub(super) has_writable_masks: bool,
}

/// A register of fresh vCPUs.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct RegisterJson {
    /// The register's id.
    pub(super) id: String,
    /// Its name; for people, not read back.
    #[serde(default)]
    pub(super) name: String,
    /// Its content: `"0x…"`; `"poison"` for KVM's reset poison, which is no value; `"counter"` for a counter. Absent if it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at_reset: Option<String>,
    /// Errno of reading it; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) errno: Option<u16>,
    /// `true` if another vCPU of the same VM held something else; else absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) differs_by_vcpu: bool,
    /// Errno of writing back what was read; absent if that worked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) write_back: u16,
    /// Other values that were tried, one after another, what was read being written back between them: each `[value, errno]`, errno 0 if it was taken; or `[value, errno, reads]`, where then something else was read than the value that was taken, or than `at_reset` after a refusal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) trials: Vec<TrialJson>,
    /// The guests of which this is said, as `guests[].features` names them; all, if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) guests: Option<Vec<String>>,
}

/// Value, errno, and what was read, if that does not go without saying.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(extend("minItems" = 2))]
pub(super) struct TrialJson(
    pub(super) String,
    pub(super) u16,
    #[serde(default, skip_serializing_if = "Option::is_none")] pub(super) Option<String>,
);

/// Bits of an ID register that user space may change.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct WritableMaskJson {
    /// The register's id.
    pub(super) id: String,
    /// Its name; not read back.
    #[serde(default)]
    pub(super) name: String,
    /// The bits.
    pub(super) bits: String,
    /// As for registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) guests: Option<Vec<String>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) const POISON: &str = "poison";
pub(super) const COUNTER: &str = "counter";
