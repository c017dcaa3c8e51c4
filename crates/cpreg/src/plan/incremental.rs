//! [`IncrementalPlan`]: a check of a VM whose vCPUs come one after the other, so that hardly anything is left to do when the last one has come.
//!
//! It answers less than [`Check`] does, and never something else: each vCPU is checked alone, and so is what has to agree between vCPUs.
//! Where a vCPU alone does not tell, it says nothing, and the check of the whole VM tells. What it lets go on the check of the whole VM
//! lets go on, with the same result.

use alloc::vec;
use alloc::vec::Vec;

use super::check::{Check, Verdict};
use super::{Consents, merge};
use crate::destination::{Accelerator, Destination, DestinationVcpu};
use crate::tolerance::Tolerances;
use crate::vm::{Extension, Vcpu, Vm};

/// A VM of which not all vCPUs have come.
#[derive(Debug)]
pub struct IncrementalPlan<'g> {
    tolerances: &'g Tolerances,
    consents: &'g Consents,
    /// The destination with one vCPU: that which the newest one is judged by.
    destination: Destination,
    /// Those that judge the next ones; behind them the last one judges all.
    remaining_vcpus: alloc::vec::IntoIter<DestinationVcpu>,
    /// The first vCPU that came, with which the others must agree.
    first_vcpu: Option<Vcpu>,
    received_count: usize,
    /// A vCPU alone did not tell.
    is_undecided: bool,
    all_load_unchanged: bool,
    all_load_converted: bool,
}

impl<'g> IncrementalPlan<'g> {
    /// A VM of which nothing has come.
    pub fn new(
        destination: &Destination,
        tolerances: &'g Tolerances,
        consents: &'g Consents,
    ) -> Self {
        let there = Destination {
            vcpus: Vec::new(),
            shape: destination
                .shape
                .as_ref()
                .map(|shape| crate::shape::MachineShape {
                    machine: shape.machine.clone(),
                    ..Default::default()
                }),
            name: destination.name.clone(),
            ..*destination
        };
        let hosts = &destination.vcpus;
        // Which loaders can be there is told by the first vCPU's list.
        let is_one_kind = hosts
            .first()
            .is_some_and(|first| hosts.iter().all(|host| lists_same_registers(first, host)));
        Self {
            tolerances,
            consents,
            destination: there,
            remaining_vcpus: hosts.clone().into_iter(),
            first_vcpu: None,
            received_count: 0,
            is_undecided: !is_one_kind,
            all_load_unchanged: true,
            all_load_converted: true,
        }
    }

    /// The next vCPU has come: gives it as it would be loaded, or nothing if only the whole VM tells.
    pub fn add(&mut self, vcpu: &Vcpu) -> Option<Vcpu> {
        self.received_count += 1;
        if self.is_undecided {
            return None;
        }
        let result = self.check(vcpu);
        self.is_undecided = result.is_none();
        if self.first_vcpu.is_none() {
            self.first_vcpu = Some(vcpu.clone());
        }
        result
    }

    /// Whether the VM goes on if these vCPUs are all.
    pub fn can_load(&self) -> bool {
        let all_alike = self.all_load_unchanged || self.all_load_converted;
        self.received_count > 0 && !self.is_undecided && all_alike
    }

    fn check(&mut self, vcpu: &Vcpu) -> Option<Vcpu> {
        if let Some(host) = self.remaining_vcpus.next() {
            self.destination.vcpus = vec![host];
        }
        let there = &self.destination;
        if let Some(first) = &self.first_vcpu
            && there.accelerator != Some(Accelerator::Tcg)
            && !merge::has_same_vm_registers(first, vcpu)
        {
            return None;
        }
        let vm = Vm {
            vcpus: vec![vcpu.clone()],
        };
        let check = Check::new(&vm, there, self.tolerances, self.consents);
        self.all_load_unchanged &= check.verdict == Verdict::Loads;
        self.all_load_converted &= match check.verdict {
            Verdict::Loads => check.loads_converted(&vm, there),
            Verdict::Converts => true,
            Verdict::Refused | Verdict::Unknown => return None,
        };
        check.plan.vcpus.first().map(|plan| plan.apply(vcpu))
    }
}

/// Whether two vCPUs list the same.
fn lists_same_registers(one: &DestinationVcpu, other: &DestinationVcpu) -> bool {
    let ids = |host: &DestinationVcpu| {
        let registers = host.registers().iter();
        registers.map(|register| register.id).collect::<Vec<_>>()
    };
    let has_features = |host: &DestinationVcpu| host.extension(Extension::FEATURES).is_some();
    ids(one) == ids(other) && has_features(one) == has_features(other)
}
