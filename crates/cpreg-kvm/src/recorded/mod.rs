//! [`RecordedHost`]: a fake host that behaves as its record, for tests of cpreg and of VMMs on any
//! machine.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | the host and its VMs |
//! | `state.rs` | the mutable state of a VM, and faults for tests |
//! | `guest_profile.rs` | registers and behaviour for one set of features |
//! | `vcpu.rs` | the operations of a vCPU |
//!
//! Behaviour from the record, and assumptions where the record has no information:
//! - Registers: those that the record lists for the features, ascending by id. A call with any
//!   other register returns `ENOENT`.
//! - Values of fresh vCPUs: as recorded, with KVM's reset poison as recorded. If a value differs by
//!   vCPU, the other vCPUs add their number to the first vCPU's value. MPIDR_EL1 has the affinity
//!   that KVM assigns.
//! - A value that was tried: the recorded errno and the value read back.
//! - Any other value of an ID register: the recorded values of its fields.
//! - Any other value: as [`cpreg::destination::accept`] predicts for this host, and `EINVAL` if the
//!   prediction is unknown.
//! - Bits that a write cannot change: from the trials of 0 and of all ones, for this set of
//!   features or another one of the host. Without trials all bits can change.
//! - PMCR_EL0.N, if some bits of PMCR_EL0 are fixed: one value per VM, at most that at reset,
//!   constant after the first run. N limits the counters.
//! - Setting and clearing registers of the PMU: one state. Trials show if a write replaces the
//!   state, or sets and clears bits in the state. Without trials a write replaces the state.
//! - PSTATE: only modes that the guest has. In a mode of AArch32, a write narrows general registers
//!   to 32 bits. Kernels before 5.11 narrow only the registers of the mode.
//! - Event counters of the PMU: 32 bits are visible if the VM lacks FEAT_PMUv3p5.
//! - Workarounds: a read returns the value at reset, whatever was written. The workaround of
//!   Spectre v4 reads as not required if the VM lacks SSBS.
//! - Control registers of timers: ISTATUS follows the counter if it was set at reset.
//! - VM-wide registers: shared by the vCPUs, constant after the first run (`EBUSY`).
//! - Registers of optional features: hidden if the VM's ID registers lack the feature, provided
//!   that the host's kernel consults them.
//! - SVE: `EPERM` for its registers until SVE is finalized, and for writes of its vector lengths
//!   afterwards.
//! - Counters: each read advances time by one tick, from 0.
//!
//! - The program that reads hardware facts: finds the recorded facts.
//!
//! The fake runs no other guest: [`RecordedVm::mark_run`] marks a VM as having run.

mod guest_profile;
mod state;
mod vcpu;

use std::sync::{Arc, Mutex};

use cpreg::destination::Features;
use cpreg::hardware::HardwareFacts;
use cpreg::register::RegisterId;
use cpreg_hosts::fact_program::{FactReadings, ProgramState};
use cpreg_hosts::record::{Capabilities, HostRecord, Identity};

use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::host::{Host, Vm};
use guest_profile::GuestProfile;
use state::{VmState, lock};

pub use state::{Calls, Fault};
pub use vcpu::RecordedVcpu;

/// Maximum number of vCPUs of a VM of KVM on arm64 (`VGIC_V3_MAX_CPUS`).
const MAX_VCPUS: usize = 512;

/// Fake host that behaves as its record.
#[derive(Clone, Debug)]
pub struct RecordedHost {
    record: HostRecord,
    faults: Vec<Fault>,
}

/// VM of a recorded host.
#[derive(Debug)]
pub struct RecordedVm {
    vcpus: Vec<RecordedVcpu>,
    profile: Arc<GuestProfile>,
    state: Arc<Mutex<VmState>>,
}

impl RecordedHost {
    /// Creates the host of this record.
    pub const fn new(record: HostRecord) -> Self {
        Self {
            record,
            faults: Vec::new(),
        }
    }

    /// Adds a fault to every VM that the host creates afterwards.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Returns the record.
    pub const fn record(&self) -> &HostRecord {
        &self.record
    }
}

impl Host for RecordedHost {
    type Vm = RecordedVm;

    fn identity(&self) -> Identity {
        self.record.identity.clone()
    }

    fn run_fact_program(&self, _: Features) -> Result<ProgramState, Error> {
        Ok(ProgramState::Done(FactReadings {
            facts: self.record.hardware,
            midr: self.record.identity.midr,
            revidr: 0,
            ctr: 0,
        }))
    }

    fn capabilities(&self) -> Capabilities {
        self.record.capabilities.clone()
    }

    fn hardware(&self) -> HardwareFacts {
        self.record.hardware
    }

    /// Fails at `KVM_ARM_VCPU_INIT` for features that are not in the record, like a host without
    /// these features.
    fn create_vm(&self, features: Features, vcpus: usize) -> Result<RecordedVm, Error> {
        let create_error = |step| ErrorKind::Create {
            step,
            errno: Errno::EINVAL,
        };
        if vcpus > MAX_VCPUS {
            return Err(create_error("KVM_CREATE_VCPU").into());
        }
        let profile = GuestProfile::new(&self.record, features);
        let profile = profile.ok_or_else(|| create_error("KVM_ARM_VCPU_INIT"))?;
        let profile = Arc::new(profile);
        let state = VmState {
            vm_wide: profile.vm_wide_at_reset(),
            per_vcpu: (0..vcpus)
                .map(|number| profile.vcpu_at_reset(number))
                .collect(),
            sve_finalized: vec![false; vcpus],
            faults: self.faults.clone(),
            ..VmState::default()
        };
        let state = Arc::new(Mutex::new(state));
        let vcpus = (0..vcpus)
            .map(|number| RecordedVcpu::new(number, profile.clone(), state.clone()))
            .collect();
        Ok(RecordedVm {
            vcpus,
            profile,
            state,
        })
    }
}

impl Vm for RecordedVm {
    type Vcpu = RecordedVcpu;

    fn vcpus(&self) -> &[RecordedVcpu] {
        &self.vcpus
    }

    fn writable_masks(&self) -> Result<Option<Vec<(RegisterId, u64)>>, Errno> {
        let masks = self.profile.writable.as_ref();
        Ok(masks.map(|masks| masks.iter().map(|(id, mask)| (*id, *mask)).collect()))
    }
}

impl RecordedVm {
    /// Marks the VM as one of which a vCPU has run.
    pub fn mark_run(&self) {
        lock(&self.state).has_run = true;
    }

    /// Returns the calls of the VM so far.
    pub fn calls(&self) -> Calls {
        lock(&self.state).calls.clone()
    }
}

#[cfg(test)]
mod tests;
