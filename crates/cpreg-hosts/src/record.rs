//! [`HostRecord`]: what a host with KVM is, as `cpreg probe kvm` finds it: for each set of vCPU features the registers that a fresh vCPU has,
//! their values, and which other values KVM took.
//!
//! How it is found out lives in `cpreg-kvm`; the recorded hosts that cpreg comes with in
//! [`crate::history`].

use std::collections::BTreeMap;

use cpreg::destination::Features;
use cpreg::register::RegisterId;

use crate::history::AtReset;

/// What `KVM_CHECK_EXTENSION` says, by the capability's name in `linux/kvm.h` (`KVM_CAP_ARM_SVE`); those that it does not have are 0.
pub type Capabilities = BTreeMap<String, i32>;

/// A host, recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// Which kernel and CPU.
    pub identity: Identity,
    /// What it says it can do.
    pub capabilities: Capabilities,
    /// What it gives to guests, by their features.
    pub guests: BTreeMap<Features, Guest>,
}

/// Which kernel and CPU a host is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `uname -r`: `6.12.107+deb13-cloud-arm64`.
    pub release: String,
    /// `uname -v`: `#1 SMP Debian 6.12.107-1 (2026-10-20)`.
    pub version: String,
    /// MIDR_EL1 of the host's first CPU.
    pub midr: u64,
    /// What to call the CPU: what the person who recorded it says, else its name by MIDR_EL1; `neoverse-n1`.
    pub cpu: String,
    /// How KVM runs there, where it is not as usual: `nested`, `nvhe`, `mte`; empty otherwise.
    pub mode: String,
    /// Whether the CPU is an emulator's, so that nothing about values is proven for a machine of that name.
    pub emulated: bool,
}

/// What a host gives to a guest with one set of features.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// The registers of a fresh vCPU, ascending by id.
    pub registers: Vec<Register>,
    /// For each ID register the bits that user space may change, where the kernel tells.
    pub writable: Option<BTreeMap<RegisterId, u64>>,
}

/// A register of a fresh vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Which.
    pub id: RegisterId,
    /// What it held, if that is a value.
    pub at_reset: AtReset,
    /// Whether another vCPU of the same VM held something else (MPIDR_EL1).
    pub differs_by_vcpu: bool,
    /// The errno of writing back what was read; 0 if that worked.
    pub write_back: u16,
    /// Other values that were tried, one after another on one vCPU, what was read being written back between them.
    pub trials: Vec<Trial>,
}

/// A value that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trial {
    /// What was written.
    pub value: u64,
    /// The errno of that; 0 if it was taken.
    pub errno: u16,
    /// What was read afterwards.
    pub reads: u64,
}
