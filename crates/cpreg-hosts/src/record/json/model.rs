//! Members of the file of a recorded host.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accepted_field_json::AcceptedFieldJson;
use crate::error::DocumentKind;
use crate::hardware::HardwareJson;

/// Name and version of the schema.
pub const SCHEMA: &str = "cpreg.host/2";
/// Name and version of the schema before, which is still read.
const OLD_SCHEMA: &str = "cpreg.host/1";

/// Returns `true` if this cpreg reads recorded hosts of the schema.
pub(super) fn is_supported(schema: &str) -> bool {
    [SCHEMA, OLD_SCHEMA].contains(&schema)
}

/// The document, for error messages.
pub(super) const DOCUMENT: DocumentKind = DocumentKind {
    name: "recorded host",
    schema: SCHEMA,
    version_hint: "record the host again, or read it with the cpreg that wrote it",
};

/// A recorded host.
#[derive(Deserialize, JsonSchema)]
pub(super) struct HostDocument {
    /// `"cpreg.host/2"`.
    pub(super) schema: String,
    /// Kernel and CPU.
    pub(super) identity: IdentityJson,
    /// Results of `KVM_CHECK_EXTENSION`, by the capability's name; those that are 0 are left out.
    #[serde(default)]
    pub(super) capabilities: BTreeMap<String, i32>,
    /// Recorded sets of vCPU features.
    pub(super) guests: Vec<GuestJson>,
    /// Properties that guests see and that no register list holds; absent if none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hardware: Option<HardwareJson>,
    /// Registers of a fresh vCPU, by id; one element for each different content among the guests.
    pub(super) registers: Vec<RegisterJson>,
    /// Bits of ID registers that user space may change.
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
    /// Mode of KVM if it is not the usual one: `nested`, `nvhe`, `mte`; else empty.
    #[serde(default)]
    pub(super) mode: String,
    /// `true` if the CPU is emulated: its values prove nothing about a real machine of that name.
    pub(super) emulated: bool,
    /// The different kinds of CPU of the host; absent if not known. A host with several kinds is
    /// heterogeneous (big.LITTLE).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) cpus: Vec<PhysicalCpuJson>,
}

/// Kind of CPU of a host.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct PhysicalCpuJson {
    /// MIDR_EL1.
    pub(super) midr: String,
    /// REVIDR_EL1.
    pub(super) revidr: String,
    /// CTR_EL0 as a process reads it.
    pub(super) ctr: String,
    /// Number of CPUs of this kind.
    pub(super) count: u32,
}

/// A recorded guest.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct GuestJson {
    /// Feature names, separated by commas, or `none`.
    pub(super) features: String,
    /// `true` if the kernel reports the writable bits of ID registers
    /// (`KVM_ARM_GET_REG_WRITABLE_MASKS`).
    #[serde(alias = "tells_writable")]
    pub(super) has_writable_masks: bool,
}

/// A register of fresh vCPUs.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct RegisterJson {
    /// The register's id.
    pub(super) id: String,
    /// Its name; for readers, ignored by cpreg.
    #[serde(default)]
    pub(super) name: String,
    /// Content: `"0x…"`; `"poison"` for KVM's reset poison, which is not a value; `"counter"` for a
    /// running counter. Absent if the read failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at_reset: Option<String>,
    /// Errno of a failed read; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) errno: Option<u16>,
    /// `true` if another vCPU of the same VM has another value; else absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) differs_by_vcpu: bool,
    /// Errno of writing back the value that was read; absent on success.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) write_back: u16,
    /// Other values that were written, one after another; the original value is written back
    /// between them. Each is `[value, errno]`, with errno 0 on success. A third element is the
    /// value that was read afterwards. It is absent if that is the written value after a success,
    /// or `at_reset` after a failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) trials: Vec<TrialJson>,
    /// Fields of an ID register that accept more than their value at reset; absent if the fields
    /// were not tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fields: Option<Vec<AcceptedFieldJson>>,
    /// Guests that this element describes, as in `guests[].features`; absent for all guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) guests: Option<Vec<String>>,
}

/// Value, errno, and the value read back if it is not the expected one.
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
    /// Its name; for readers, ignored by cpreg.
    #[serde(default)]
    pub(super) name: String,
    /// The bits.
    pub(super) bits: String,
    /// Guests with these bits, as in `guests[].features`; absent for all guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) guests: Option<Vec<String>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) const POISON: &str = "poison";
pub(super) const COUNTER: &str = "counter";
/// Name of [`COUNTER`] in [`OLD_SCHEMA`].
pub(super) const OLD_COUNTER: &str = "counts";
