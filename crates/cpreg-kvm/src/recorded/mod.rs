//! [`RecordedHost`]: a host that behaves as its record says, on any machine. For tests of cpreg and of VMMs.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the host and its VMs |
//! | `state.rs` | all that changes in a VM, and faults to test with |
//! | `profile.rs` | what one set of features comes to: which registers, what they take, what of that sticks |
//! | `vcpu.rs` | a vCPU's operations |
//!
//! | what | as recorded | where the record is silent |
//! |---|---|---|
//! | registers | those that the record lists for the features, ascending by id; no other exists (`ENOENT`) | |
//! | values of fresh vCPUs | as recorded; KVM's reset poison where that was found | of what differs by vCPU the others hold their number more; MPIDR_EL1 as KVM numbers vCPUs |
//! | a value that was tried | the errno, and what was read afterwards | |
//! | any other value | | as [`cpreg::destination::accept`] says for this host; `EINVAL` where that does not know |
//! | bits that do not stick | by the trials of 0 and of all ones, of this set of features or of another one of the host | all stick |
//! | PMCR_EL0.N | where not all its bits stick: one for the VM, no more than it was at reset, kept after the first run, bounds the counters | |
//! | pairs of PMU registers that set and clear | one state; either writes it, or sets and clears bits in it, by the trials | either writes it |
//! | PSTATE | | only modes that the guest has; in one of AArch32 general registers are cut to 32 bits, before 5.11 those of the mode |
//! | event counters of the PMU | | 32 bits are shown once the VM has none of FEAT_PMUv3p5 |
//! | workarounds | read as at reset whatever was written; the one of Spectre v4 as not required once the VM's SSBS is gone | |
//! | timers' control registers | ISTATUS by the counter where it was seen at reset | |
//! | what belongs to the VM | shared by its vCPUs, kept after the first run (`EBUSY`) | |
//! | what ID registers hide | hidden by the VM's own, where the host goes by them | |
//! | SVE | `EPERM` before it is finalized, and for its vector lengths after | |
//! | counters | run on: a tick with each reading | begin at 0 |
//!
//! Nothing runs on it: [`RecordedVm::mark_run`] says that something had.

mod guest_profile;
mod state;
mod vcpu;

use std::sync::{Arc, Mutex};

use cpreg::destination::Features;
use cpreg::register::RegisterId;
use cpreg_hosts::record::{Capabilities, HostRecord, Identity};

use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::host::{Host, Vm};
use guest_profile::GuestProfile;
use state::{VmState, lock};

pub use state::{Calls, Fault};
pub use vcpu::RecordedVcpu;

/// No KVM on arm64 makes a VM of more (`VGIC_V3_MAX_CPUS`).
const MAX_VCPUS: usize = 512;

/// A host that behaves as its record says.
#[derive(Clone, Debug)]
pub struct RecordedHost {
    record: HostRecord,
    faults: Vec<Fault>,
}

/// A VM of a recorded host.
#[derive(Debug)]
pub struct RecordedVm {
    vcpus: Vec<RecordedVcpu>,
    profile: Arc<GuestProfile>,
    state: Arc<Mutex<VmState>>,
}

impl RecordedHost {
    /// The host of this record.
    pub const fn new(record: HostRecord) -> Self {
        Self {
            record,
            faults: Vec::new(),
        }
    }

    /// The same host, with a fault in every VM that it makes from now on.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Its record.
    pub const fn record(&self) -> &HostRecord {
        &self.record
    }
}

impl Host for RecordedHost {
    type Vm = RecordedVm;

    fn identity(&self) -> Identity {
        self.record.identity.clone()
    }

    fn capabilities(&self) -> Capabilities {
        self.record.capabilities.clone()
    }

    /// A set of features that is not in the record fails as one that a host has not: at `KVM_ARM_VCPU_INIT`.
    fn create_vm(&self, features: Features, vcpus: usize) -> Result<RecordedVm, Error> {
        let refuse = |step| ErrorKind::Create {
            step,
            errno: Errno::EINVAL,
        };
        if vcpus > MAX_VCPUS {
            return Err(refuse("KVM_CREATE_VCPU").into());
        }
        let profile = GuestProfile::new(&self.record, features);
        let profile = profile.ok_or_else(|| refuse("KVM_ARM_VCPU_INIT"))?;
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
    /// From now on it counts as a VM of which a vCPU has run.
    pub fn mark_run(&self) {
        lock(&self.state).has_run = true;
    }

    /// What was asked of it so far.
    pub fn calls(&self) -> Calls {
        lock(&self.state).calls.clone()
    }
}

#[cfg(test)]
mod tests;
