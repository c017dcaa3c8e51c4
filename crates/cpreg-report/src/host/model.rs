//! Model of `show` for a recorded host, schema `cpreg.show-host/2`.

use cpreg_hosts::hardware::HardwareJson;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::FieldReport;
use crate::names::ResetContent;
use crate::scalar::{Hex, Id};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.show-host/2";

/// Report of `cpreg show` for a recorded host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HostReport {
    /// `"cpreg.show-host/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// The host.
    pub host: HostIdentity,
    /// Capabilities that the host reports (`KVM_CHECK_EXTENSION`), without those that are 0.
    pub capabilities: Vec<Capability>,
    /// Properties of the host that guests see and that no register list holds; null if none is
    /// known.
    pub hardware: Option<HardwareJson>,
    /// The recorded guests.
    pub guests: Vec<GuestSummary>,
    /// The guest with the features in the argument, or null.
    pub guest: Option<GuestRegisters>,
}

/// A recorded host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HostIdentity {
    /// Name of the host. If the host comes with cpreg, DESTINATION can be this name.
    pub name: String,
    /// Release of the kernel (`uname -r`).
    pub release: String,
    /// Version of the kernel (`uname -v`).
    pub version: String,
    /// The CPU model.
    pub cpu: String,
    /// Special mode of the host, or null.
    pub mode: Option<String>,
    /// MIDR_EL1 of its first CPU.
    pub midr: Hex,
    /// `true` if the CPU was emulated.
    pub emulated: bool,
    /// The different kinds of CPU of the host; empty if not known.
    pub cpus: Vec<PhysicalCpu>,
}

/// Kind of CPU of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct PhysicalCpu {
    /// MIDR_EL1.
    pub midr: Hex,
    /// REVIDR_EL1.
    pub revidr: Hex,
    /// CTR_EL0 as a process reads it.
    pub ctr: Hex,
    /// Number of CPUs of this kind.
    pub count: u32,
}

/// A capability of KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Capability {
    /// Name as in `linux/kvm.h`.
    pub name: String,
    /// Value that the kernel returns.
    pub number: i32,
}

/// A recorded guest.
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
    /// Number of ID registers with writable bits; null if the kernel does not report them.
    pub writable: Option<usize>,
    /// Number of registers for which other values were tried.
    pub tried_registers: usize,
}

/// A guest and its registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct GuestRegisters {
    /// Features of the guest.
    pub features: Vec<String>,
    /// Registers of the guest, or those of `--register`.
    pub registers: Vec<Register>,
    /// Registers of `--register` that are not listed for such a guest.
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
    /// `true` if another vCPU of the VM held another value.
    pub differs_by_vcpu: bool,
    /// Errno of writing back the value that was read; 0 on success.
    pub write_back_errno: u16,
    /// Writable bits, or null if the kernel does not report them.
    pub writable: Option<Hex>,
    /// Accepted values, if all relevant values were tried; else null.
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
    /// Value; null for another kind.
    pub value: Option<String>,
    /// `true` if the value is hidden; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<bool>,
    /// Meaning of the value, in words, or null.
    pub meaning: Option<String>,
    /// Errno of reading the register, or null.
    pub errno: Option<u16>,
}

/// Accepted values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct AcceptedValues {
    /// All accepted values, or null.
    pub one_of: Option<Vec<Hex>>,
    /// Bits that may be set in any combination, or null.
    pub subset_of: Option<Hex>,
}

/// A value that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Trial {
    /// The value.
    pub value: Hex,
    /// Errno of the write; 0 if KVM accepted the value.
    pub errno: u16,
    /// Value that was read back.
    pub read_back: Hex,
}

/// A selected register that is not listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct MissingRegister {
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
}
