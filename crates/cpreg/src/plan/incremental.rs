//! [`IncrementalPlan`]: a check of a VM whose vCPUs arrive one after the other. Most of the work is
//! done before the last vCPU arrives.
//!
//! An incremental plan decides less than [`Check`] and never contradicts the result of [`Check`].
//! The plan checks each vCPU alone, and the registers that must agree between vCPUs. If a vCPU
//! alone is not enough to decide, only [`Check`] of the whole VM decides. Every VM that passes here
//! passes [`Check`] with the same result.

use alloc::vec;
use alloc::vec::Vec;

use super::check::{Check, Verdict};
use super::{Consents, disagreement};
use crate::destination::{Accelerator, Destination, DestinationVcpu};
use crate::hardware::HardwareFacts;
use crate::register::Value;
use crate::severity;
use crate::tolerance::Tolerances;
use crate::vm::{Extension, Vcpu, Vm};

/// Check of a VM of which not all vCPUs have arrived.
#[derive(Debug)]
pub struct IncrementalPlan<'a> {
    tolerances: &'a Tolerances,
    consents: &'a Consents,
    /// Destination with one vCPU, which is that for the newest incoming vCPU.
    destination: Destination,
    /// Properties of the VM's own host.
    source_hardware: HardwareFacts,
    /// Destination vCPUs for the next incoming vCPUs. The last element serves all further incoming
    /// vCPUs.
    remaining_vcpus: alloc::vec::IntoIter<DestinationVcpu>,
    /// First incoming vCPU. The VM-wide registers of later vCPUs must agree with it.
    first_vcpu: Option<Vcpu>,
    received_count: usize,
    /// `true` once a vCPU alone was not enough to decide.
    is_undecided: bool,
    all_load_unchanged: bool,
    all_load_converted: bool,
}

impl<'a> IncrementalPlan<'a> {
    /// Returns the check of a VM of which no vCPU has arrived.
    pub fn new(
        destination: &Destination,
        tolerances: &'a Tolerances,
        consents: &'a Consents,
    ) -> Self {
        let without_vcpus = Destination {
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
        let destination_vcpus = &destination.vcpus;
        // The first vCPU's list decides which loaders are plausible.
        let all_list_same_registers = destination_vcpus.first().is_some_and(|first| {
            destination_vcpus
                .iter()
                .all(|destination_vcpu| lists_same_registers(first, destination_vcpu))
        });
        Self {
            tolerances,
            consents,
            destination: without_vcpus,
            source_hardware: HardwareFacts::UNKNOWN,
            remaining_vcpus: destination_vcpus.clone().into_iter(),
            first_vcpu: None,
            received_count: 0,
            is_undecided: !all_list_same_registers,
            all_load_unchanged: true,
            all_load_converted: true,
        }
    }

    /// Sets the known properties of the VM's own host.
    #[must_use]
    pub fn with_source_hardware(self, source_hardware: HardwareFacts) -> Self {
        Self {
            source_hardware,
            ..self
        }
    }

    /// Checks the next vCPU and returns the vCPU with the values that the plan loads.
    ///
    /// Returns `None` if only the check of the whole VM can decide.
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

    /// Returns `true` if the VM loads with exactly the vCPUs added so far.
    pub fn can_load(&self) -> bool {
        let all_load = self.all_load_unchanged || self.all_load_converted;
        self.received_count > 0 && !self.is_undecided && all_load
    }

    fn check(&mut self, vcpu: &Vcpu) -> Option<Vcpu> {
        if let Some(destination_vcpu) = self.remaining_vcpus.next() {
            self.destination.vcpus = vec![destination_vcpu];
        }
        let destination = &self.destination;
        if let Some(first) = &self.first_vcpu
            && destination.accelerator != Some(Accelerator::Tcg)
            && !disagreement::has_same_vm_registers(first, vcpu)
        {
            return None;
        }
        let vm = Vm {
            vcpus: vec![vcpu.clone()],
            source_hardware: self.source_hardware,
        };
        let check = Check::new(&vm, destination, self.tolerances, self.consents);
        if depends_on_other_vcpus(&check) {
            return None;
        }
        self.all_load_unchanged &= check.verdict == Verdict::Loads;
        self.all_load_converted &= match check.verdict {
            Verdict::Loads => check.loads_converted(&vm, destination),
            Verdict::Converts => true,
            Verdict::Refused | Verdict::Unknown => return None,
        };
        // The state to wake a vCPU may be in a section in front of its own.
        let plan = check.plan.vcpus.first().filter(|plan| !plan.wakes())?;
        Some(plan.apply(vcpu))
    }
}

/// Returns `true` if the settings of vCPUs that have not arrived may change the severity of an
/// adjustment.
fn depends_on_other_vcpus(check: &Check) -> bool {
    let mut decisions = check.plan.vcpus.iter().flat_map(|vcpu| &vcpu.decisions);
    decisions.any(|decision| {
        let from = decision.source.as_ref().and_then(Value::as_u64);
        let to = decision.loaded_value().and_then(Value::as_u64);
        from.zip(to)
            .is_some_and(|(from, to)| severity::depends_on_guest(decision.register, from, to))
    })
}

/// Returns `true` if two vCPUs list the same registers and both or neither have feature bits.
fn lists_same_registers(one: &DestinationVcpu, other: &DestinationVcpu) -> bool {
    let ids = |destination_vcpu: &DestinationVcpu| {
        let registers = destination_vcpu.registers().iter();
        registers.map(|register| register.id).collect::<Vec<_>>()
    };
    let has_features = |destination_vcpu: &DestinationVcpu| {
        destination_vcpu.extension(Extension::FEATURES).is_some()
    };
    ids(one) == ids(other) && has_features(one) == has_features(other)
}
