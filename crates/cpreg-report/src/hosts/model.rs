//! Model of `hosts`, schema `cpreg.hosts/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::Hex;
use crate::unrecorded::UnrecordedKernel;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.hosts/2";

/// Report of `cpreg hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HostsReport {
    /// `"cpreg.hosts/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Recorded hosts by kernel, oldest first.
    pub hosts: Vec<HostSummary>,
    /// Kernel in NAME, if it was not recorded; `hosts` are then those next to it. Else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrecorded_kernel: Option<UnrecordedKernel>,
}

/// A recorded host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HostSummary {
    /// Name of the host as DESTINATION.
    pub name: String,
    /// The kernel.
    pub kernel: KernelIdentity,
    /// The CPU model.
    pub cpu: String,
    /// Special mode of the host: `"nested"` (KVM offers an EL2), `"nvhe"` (KVM runs in EL1 itself),
    /// `"mte"` (memory with tags); or null.
    pub mode: Option<String>,
    /// MIDR_EL1 of its first CPU.
    pub midr: Hex,
    /// `true` if the CPU was emulated.
    pub emulated: bool,
    /// The recorded guests.
    pub recordings: Vec<Recording>,
}

/// A kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct KernelIdentity {
    /// Upstream version.
    pub version: String,
    /// Release (`uname -r`).
    pub release: String,
    /// Build (`uname -v`).
    pub build: String,
    /// Version of the distribution's package, or null if `uname -v` does not contain it.
    pub package: Option<String>,
}

/// A recorded guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Recording {
    /// The guest's vCPU features: `"pmu"`, `"sve"`, `"ptrauth"`, `"el1-32bit"`, `"el2"`,
    /// `"el2-e2h0"`, `"mte"`.
    pub features: Vec<String>,
    /// Number of registers that KVM lists for it.
    pub registers: usize,
}
