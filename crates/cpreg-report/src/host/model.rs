//! The model of `show` for a recorded host, schema `cpreg.show-host/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::FieldReport;
use crate::names::ResetContent;
use crate::scalar::{Hex, Id};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.show-host/2";

/// Answer of `cpreg show` about a recorded host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HostReport {
    /// `"cpreg.show-host/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// The host.
    pub host: HostIdentity,
    /// Capabilities as the host reports them (`KVM_CHECK_EXTENSION`); those that are 0 are left
    /// out.
    pub capabilities: Vec<Capability>,
    /// The guests that were recorded.
    pub guests: Vec<GuestSummary>,
    /// The guest whose features are named, or null.
    pub guest: Option<GuestRegisters>,
}

/// A recorded host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HostIdentity {
    /// Name of the host; DESTINATION, if it is one of the hosts that come with cpreg.
    pub name: String,
    /// The kernel, as `uname -r` says it.
    pub release: String,
    /// The same, as `uname -v`.
    pub version: String,
    /// The CPU model.
    pub cpu: String,
    /// Special mode of the host, or null.
    pub mode: Option<String>,
    /// MIDR_EL1 of its first CPU.
    pub midr: Hex,
    /// `true` if the CPU was an emulator's.
    pub emulated: bool,
}

/// A capability of KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Capability {
    /// Name as in `linux/kvm.h`.
    pub name: String,
    /// The kernel's answer.
    pub number: i32,
}

/// A guest that was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct GuestSummary {
    /// The guest's vCPU features, as in [`cpreg.hosts/2`](#cpreghosts2).
    pub features: Vec<String>,
    /// Number of registers of a fresh vCPU.
    pub registers: usize,
    /// Number of them that hold a value.
    pub values: usize,
    /// Number of them that hold KVM's reset poison.
    pub poison: usize,
    /// Number of them that are counters.
    pub counters: usize,
    /// Number of them that cannot be read.
    pub unreadable: usize,
    /// Number of ID registers of which some bits may be changed; null if the kernel does not tell.
    pub writable: Option<usize>,
    /// Number of registers of which other values were tried.
    pub tried_registers: usize,
}

/// A guest, and its registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct GuestRegisters {
    /// Its features.
    pub features: Vec<String>,
    /// Its registers, or those of `--register`.
    pub registers: Vec<Register>,
    /// Registers that were asked for and are not listed for such a guest.
    pub missing_registers: Vec<MissingRegister>,
}

/// A register of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Register {
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Content in a fresh vCPU.
    pub at_reset: AtReset,
    /// `true` if another vCPU of the VM held something else.
    pub differs_by_vcpu: bool,
    /// Errno of writing back what was read; 0 if that worked.
    pub write_back_errno: u16,
    /// Bits that may be changed, or null if the kernel does not tell.
    pub writable: Option<Hex>,
    /// Values that are taken, where all that count were tried; else null.
    pub accepted_values: Option<AcceptedValues>,
    /// Other values that were tried.
    pub trials: Vec<Trial>,
    /// The fields, with `--fields` or `--register`; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldReport>,
}

/// Content of a register in a fresh vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct AtReset {
    /// `"value"`, `"poison"`, `"counter"` or `"unreadable"`.
    pub kind: ResetContent,
    /// The value; else null.
    pub value: Option<String>,
    /// `true` if the value is kept back; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<bool>,
    /// Meaning of the value, in words, or null.
    pub meaning: Option<String>,
    /// Errno of reading it, or null.
    pub errno: Option<u16>,
}

/// Values that are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct AcceptedValues {
    /// All of them, or null.
    pub one_of: Option<Vec<Hex>>,
    /// The bits that may be set, in any combination, or null.
    pub subset_of: Option<Hex>,
}

/// A value that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Trial {
    /// The value.
    pub value: Hex,
    /// 0 if it was taken.
    pub errno: u16,
    /// The value that was read then.
    pub read_back: Hex,
}

/// A register that was asked for and is not listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct MissingRegister {
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
}
