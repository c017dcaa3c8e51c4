//! Simulation of a load: a loader's behaviour with an unchanged VM, register by register.
//!
//! The simulation models other programs, including their bugs and the order of their events. Other
//! crates turn events into a program's messages. [`crate::plan`] makes the decisions.
//!
//! For each vCPU in turn QEMU checks the list's length (to 10.2), reads the subsections, merges the
//! incoming list into its own and writes the result. The first vCPU that fails ends the load. Under
//! KVM QEMU finally writes all vCPUs again, even after a failure. A write that KVM refuses in this
//! last step is fatal, and QEMU prints another message ([`LoadEvent::PutFailed`]).

use alloc::vec::Vec;

use super::accept::{self, Acceptance, Acceptor};
use super::extension::{self, ExtensionOutcome};
use super::kernel;
use super::loader::{Generation, qemu_tolerates_in_input, qemu_tolerates_missing};
use super::sequential::{self, InputOrder};
use super::write_results::{MergedList, WriteResults};
use super::{Accelerator, Confidence, Destination, DestinationVcpu, Loader, ValueOrigin};
use crate::gic::Gic;
use crate::register::{RegisterId, Value};
use crate::vm::{Extension, Vcpu, Vm};

pub use super::load_event::{LoadEvent, LoadStep};
pub use super::plausible_loader::{candidates, is_plausible};
pub use super::simulated_load::{IncomingVcpu, SimulatedLoad};

/// Simulates the load of the unchanged VM by the loader.
///
/// Returns an unknown result for a loader that is not plausible, and for a loader that executes
/// plans. The plan determines the behaviour of the latter.
///
/// QEMU loads the GICv3 before the vCPUs. A [`Vm`] does not hold the order of the registers that
/// Firecracker and Cloud Hypervisor stored; [`simulate_lists`] takes the order into account.
pub fn simulate(loader: Loader, vm: &Vm, destination: &Destination) -> SimulatedLoad {
    let is_simulated = is_plausible(loader, destination) && !loader.can_execute_plans();
    if is_simulated && loader.is_qemu() && refuses_gic(vm, destination) {
        return SimulatedLoad {
            loads: Some(false),
            confidence: Confidence::Inferred,
            events: Vec::from([LoadEvent::AbortOnGic]),
            is_complete: true,
            lost_registers: Vec::new(),
        };
    }
    if is_simulated && loader.is_qemu() {
        return simulate_qemu(loader, &vm.vcpus, destination);
    }
    let lists: Vec<Vec<_>> = vm
        .vcpus
        .iter()
        .map(|vcpu| vcpu.registers.iter().collect())
        .collect();
    let vcpus: Vec<_> = lists
        .iter()
        .zip(&vm.vcpus)
        .map(|(registers, vcpu)| IncomingVcpu {
            registers,
            extensions: &vcpu.extensions,
        })
        .collect();
    if is_simulated {
        let load = sequential::simulate(loader, &vcpus, destination, InputOrder::Unknown);
        return sequential::with_clock(load, loader, vm.source_hardware, destination);
    }
    simulate_lists(loader, &vcpus, destination)
}

/// Simulates a load by QEMU. Simulates only one of neighbouring vCPUs that it loads alike.
fn simulate_qemu(loader: Loader, vcpus: &[Vcpu], destination: &Destination) -> SimulatedLoad {
    let mut simulation = Simulation::new(loader, destination);
    let mut registers = Vec::new();
    for (number, vcpu) in vcpus.iter().enumerate() {
        if number > 0 && simulation.loads_like(&vcpus[number - 1], vcpu, number, destination) {
            continue;
        }
        registers.clear();
        registers.extend(vcpu.registers.iter());
        let incoming = IncomingVcpu {
            registers: &registers,
            extensions: &vcpu.extensions,
        };
        let Some(destination_vcpu) = destination.vcpu(number) else {
            return SimulatedLoad::unknown();
        };
        if simulation.load_next(number, &incoming, destination_vcpu) == Progress::Ended {
            break;
        }
    }
    simulation.load
}

/// Returns `true` if KVM of the destination refuses the limits of the VM's GICv3.
fn refuses_gic(vm: &Vm, destination: &Destination) -> bool {
    let (source, host) = destination.comparable_facts(vm.source_hardware);
    let gics = (source.gic, host.gic);
    let is_kvm = destination.accelerator == Some(Accelerator::Kvm);
    is_kvm && matches!(gics, (Some(Gic::V3(vm)), Some(Gic::V3(host))) if !host.accepts(vm))
}

/// Simulates a load like [`simulate`], for lists that need not be a valid [`Vm`].
pub fn simulate_lists(
    loader: Loader,
    vcpus: &[IncomingVcpu<'_>],
    destination: &Destination,
) -> SimulatedLoad {
    if !is_plausible(loader, destination) || loader.can_execute_plans() {
        return SimulatedLoad::unknown();
    }
    if !loader.is_qemu() {
        return sequential::simulate(loader, vcpus, destination, InputOrder::Stored);
    }
    let mut simulation = Simulation::new(loader, destination);
    for (number, vcpu) in vcpus.iter().enumerate() {
        let Some(destination_vcpu) = destination.vcpu(number) else {
            return SimulatedLoad::unknown();
        };
        if simulation.load_next(number, vcpu, destination_vcpu) == Progress::Ended {
            break;
        }
    }
    simulation.load
}

struct Simulation {
    loader: Loader,
    generation: Generation,
    is_kvm: bool,
    acceptor: Acceptor,
    load: SimulatedLoad,
    /// `true` once an earlier step may have ended the load. Later events are uncertain.
    is_uncertain: bool,
    /// Results of the writes of each vCPU.
    written: Vec<WriteResults>,
    /// `true` if the newest simulated vCPU loaded, and only its list of registers led to events.
    is_repeatable: bool,
}

/// Progress of a load.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Continues,
    Ended,
}

/// Outcome of loading one vCPU's section.
enum SectionOutcome {
    Loaded(WriteResults),
    Failed(LoadStep, Option<WriteResults>),
    Aborted,
}

impl Simulation {
    fn new(loader: Loader, destination: &Destination) -> Self {
        // Loads under HVF were never observed.
        let is_observed = loader.is_observed() && destination.accelerator != Some(Accelerator::Hvf);
        let confidence = if is_observed {
            Confidence::Proven
        } else {
            Confidence::Inferred
        };
        Self {
            loader,
            generation: loader.generation(),
            is_kvm: destination.accelerator == Some(Accelerator::Kvm),
            acceptor: Acceptor {
                loader: Some(loader),
                ..destination.acceptor()
            },
            load: SimulatedLoad {
                loads: Some(true),
                confidence: confidence.min(destination.value_origin.max_confidence()),
                events: Vec::new(),
                is_complete: true,
                lost_registers: Vec::new(),
            },
            is_uncertain: false,
            written: Vec::new(),
            is_repeatable: false,
        }
    }

    /// Loads the next vCPU.
    fn load_next(
        &mut self,
        number: usize,
        vcpu: &IncomingVcpu<'_>,
        destination_vcpu: &DestinationVcpu,
    ) -> Progress {
        let event_count = self.load.events.len();
        match self.load_vcpu(number, vcpu, destination_vcpu) {
            SectionOutcome::Loaded(writes) => {
                let events = self.load.events.iter().skip(event_count);
                self.is_repeatable = !self.is_uncertain
                    && writes.refused_writes.is_empty()
                    && events
                        .map(LoadEvent::vcpu_of_list)
                        .all(|vcpu| vcpu.is_some());
                self.written.push(writes);
                Progress::Continues
            }
            SectionOutcome::Failed(step, writes) => {
                self.written.extend(writes);
                self.fail(number, step);
                Progress::Ended
            }
            SectionOutcome::Aborted => {
                self.load.loads = Some(false);
                Progress::Ended
            }
        }
    }

    /// Returns `true` if vCPU `number` loads like the vCPU before, and adds its events and the
    /// registers that it loses. Otherwise, changes nothing.
    fn loads_like(
        &mut self,
        previous: &Vcpu,
        vcpu: &Vcpu,
        number: usize,
        destination: &Destination,
    ) -> bool {
        let destination_vcpus = (destination.vcpu(number - 1), destination.vcpu(number));
        let (Some(previous_destination), Some(destination_vcpu)) = destination_vcpus else {
            return false;
        };
        if !self.is_kvm
            || !self.is_repeatable
            || !extension::are_alike(&vcpu.extensions, &previous.extensions)
            || destination_vcpu.extensions != previous_destination.extensions
        {
            return false;
        }
        let mut confidence = Confidence::Proven;
        let mut accepts = |id| {
            let value = vcpu.registers.get(id);
            let pair = value.zip(destination_vcpu.get(id));
            // A register that only one side lists is not written.
            let acceptance = pair.map_or(
                Acceptance::Taken(Confidence::Proven),
                |(value, register)| self.acceptor.evaluate(destination_vcpu, register, value),
            );
            confidence = confidence.min(acceptance.confidence());
            acceptance.as_bool() == Some(true)
                && kernel::is_independent(self.acceptor.kernel_version, id)
        };
        let is_alike = (vcpu.registers).differ_only_in(&previous.registers, &mut accepts)
            && (core::ptr::eq(destination_vcpu, previous_destination)
                || destination_vcpu.differs_only_in(previous_destination, &mut accepts));
        if is_alike {
            self.lower_confidence(confidence);
            let lost = &mut self.load.lost_registers;
            let first = lost.partition_point(|(vcpu, _)| *vcpu < number - 1);
            let of_previous: Vec<_> = lost[first..].iter().map(|(_, id)| (number, *id)).collect();
            lost.extend(of_previous);
            let events = &mut self.load.events;
            let is_of_previous = |event: &LoadEvent| event.vcpu_of_list() == Some(number - 1);
            let count = events
                .iter()
                .rev()
                .take_while(|it| is_of_previous(it))
                .count();
            let of_previous = &events[events.len() - count..];
            let of_previous = of_previous.iter();
            let repeated: Vec<_> = of_previous.map(|event| event.repeat_for(number)).collect();
            events.extend(repeated);
        }
        is_alike
    }

    fn lower_confidence(&mut self, confidence: Confidence) {
        self.load.confidence = self.load.confidence.min(confidence);
    }

    fn record_event(&mut self, event: LoadEvent) {
        if !self.is_uncertain {
            self.load.events.push(event);
        }
    }

    /// Marks all later events as uncertain. A later certain failure still sets `loads` to
    /// `Some(false)`.
    fn mark_uncertain(&mut self) {
        self.is_uncertain = true;
        self.load.is_complete = false;
        self.load.loads = None;
    }

    fn load_vcpu(
        &mut self,
        number: usize,
        vcpu: &IncomingVcpu<'_>,
        destination_vcpu: &DestinationVcpu,
    ) -> SectionOutcome {
        let (incoming, own) = (vcpu.registers.len(), destination_vcpu.registers().len());
        if self.generation == Generation::LengthChecked && incoming > own {
            self.record_event(LoadEvent::TooManyRegisters {
                vcpu: number,
                incoming,
                listed: own,
            });
            return SectionOutcome::Failed(LoadStep::Fields, None);
        }
        for extension in vcpu.extensions {
            match extension::predict_outcome(self.loader, destination_vcpu, extension) {
                ExtensionOutcome::Loads => {}
                ExtensionOutcome::Unknown => {
                    self.mark_uncertain();
                    self.lower_confidence(Confidence::Unknown);
                }
                ExtensionOutcome::Refused => {
                    return SectionOutcome::Failed(
                        LoadStep::Extension(extension.name.clone()),
                        None,
                    );
                }
                ExtensionOutcome::Aborts => {
                    self.record_event(LoadEvent::AbortOnSubsection {
                        vcpu: number,
                        name: extension.name.clone(),
                    });
                    return SectionOutcome::Aborted;
                }
            }
        }
        if extension::clears_features(self.loader, destination_vcpu, vcpu.extensions)
            || extension::has_other_order(destination_vcpu, vcpu.extensions)
        {
            return SectionOutcome::Failed(LoadStep::Registers, None);
        }
        let lacks_features = |extensions: &[Extension]| {
            !extensions
                .iter()
                .any(|other| other.name == Extension::FEATURES)
        };
        if self.acceptor.value_origin == Some(ValueOrigin::EmulatedHost)
            && extension::loads_features(self.loader)
            && lacks_features(vcpu.extensions)
        {
            // QEMU 5.2 on such a host would lose its own feature bits. No load of this kind was
            // observed under KVM.
            self.mark_uncertain();
            self.lower_confidence(Confidence::Unknown);
        }
        self.load_registers(number, vcpu.registers, destination_vcpu)
    }

    fn load_registers(
        &mut self,
        number: usize,
        incoming: &[(RegisterId, &Value)],
        destination_vcpu: &DestinationVcpu,
    ) -> SectionOutcome {
        let merged = self.merge(number, incoming, destination_vcpu);
        let writes = self.write_registers(number, &merged.incoming_values, destination_vcpu);
        self.lower_confidence(writes.confidence);
        if merged.has_failure {
            return SectionOutcome::Failed(LoadStep::Registers, Some(writes));
        }
        if let Some(id) = writes.aborting_register {
            self.record_event(LoadEvent::AbortOnWrite { vcpu: number, id });
            return SectionOutcome::Aborted;
        }
        if writes.has_failure {
            self.record_refused_writes(&writes);
            return SectionOutcome::Failed(LoadStep::Registers, Some(writes));
        }
        if writes.has_unknown {
            self.mark_uncertain();
        }
        self.load
            .lost_registers
            .extend(merged.lost_registers.into_iter().map(|id| (number, id)));
        SectionOutcome::Loaded(writes)
    }

    /// Merges both lists as the loader does. The loader's own list is ascending, and the loader
    /// assumes an ascending input.
    fn merge<'v>(
        &mut self,
        number: usize,
        incoming: &[(RegisterId, &'v Value)],
        destination_vcpu: &DestinationVcpu,
    ) -> MergedList<'v> {
        let mut incoming = incoming.iter().copied().peekable();
        let mut own = destination_vcpu.registers().iter().peekable();
        let mut merged = MergedList {
            has_failure: false,
            incoming_values: Vec::with_capacity(destination_vcpu.registers().len()),
            lost_registers: Vec::new(),
        };
        let mut failed = Vec::new();
        loop {
            let (incoming_entry, own_id) = (
                incoming.peek().copied(),
                own.peek().map(|register| register.id),
            );
            match (incoming_entry, own_id) {
                (None, None) => break,
                (Some((id, value)), own_id) if own_id.is_none_or(|own_id| id < own_id) => {
                    incoming.next();
                    match self.generation {
                        Generation::LengthChecked if own_id.is_some() => {
                            merged.has_failure = true;
                            return merged;
                        }
                        Generation::LengthChecked => merged.lost_registers.push(id),
                        Generation::Tolerant
                            if self.is_kvm && qemu_tolerates_in_input(id, value.as_u64()) =>
                        {
                            merged.has_failure = false;
                        }
                        Generation::Strict | Generation::Tolerant => {
                            self.record_event(LoadEvent::SourceOnly { vcpu: number, id });
                            failed.push(id);
                            merged.has_failure = true;
                        }
                    }
                }
                (incoming_entry, Some(id))
                    if incoming_entry.is_none_or(|(incoming_id, _)| id < incoming_id) =>
                {
                    own.next();
                    merged.incoming_values.push(None);
                    let tolerated = self.generation == Generation::Tolerant
                        && self.is_kvm
                        && qemu_tolerates_missing(id);
                    if self.generation != Generation::LengthChecked && !tolerated {
                        self.record_event(LoadEvent::DestinationOnly { vcpu: number, id });
                    }
                }
                (incoming_entry, _) => {
                    incoming.next();
                    own.next();
                    merged
                        .incoming_values
                        .push(incoming_entry.map(|(_, value)| value));
                }
            }
        }
        if !merged.has_failure {
            merged.lost_registers.append(&mut failed);
            merged.lost_registers.sort_unstable();
        }
        merged
    }

    /// Writes the merged list, which has the incoming value for each of the loader's registers. The
    /// list is shorter if the merge ended early.
    fn write_registers(
        &self,
        number: usize,
        merged: &[Option<&Value>],
        destination_vcpu: &DestinationVcpu,
    ) -> WriteResults {
        let mut writes = WriteResults {
            refused_writes: Vec::new(),
            has_unknown: false,
            has_failure: false,
            aborting_register: None,
            confidence: Confidence::Proven,
        };
        let incoming_value = |id: RegisterId| {
            let registers = destination_vcpu.registers();
            let index = registers
                .binary_search_by_key(&id, |register| register.id)
                .ok()?;
            merged.get(index).copied().flatten()
        };
        for (index, register) in destination_vcpu.registers().iter().enumerate() {
            if self.is_kvm
                && let Some(gate) =
                    kernel::find_active_gate(self.acceptor.kernel_version, register.id)
                && let Some(value) = incoming_value(gate.id_register).and_then(Value::as_u64)
                && gate.hides(value)
                && let Some(id_register) = destination_vcpu.get(gate.id_register)
                && id_register.value.as_ref().and_then(Value::as_u64) != Some(value)
            {
                match (
                    kernel::gates_by_vm_id_field(
                        destination_vcpu,
                        self.acceptor.kernel_version,
                        register.id,
                    ),
                    self.acceptor
                        .evaluate(destination_vcpu, id_register, &Value::from(value))
                        .as_bool(),
                ) {
                    (Some(true), Some(true)) => {
                        writes.has_failure = true;
                        writes.confidence = writes.confidence.min(Confidence::Inferred);
                        writes.refused_writes.push(LoadEvent::RegisterHidden {
                            vcpu: number,
                            id: register.id,
                        });
                        continue;
                    }
                    // KVM refuses the ID register or hides this one. A write fails in both cases.
                    (Some(true), None) => {
                        writes.has_failure = true;
                        writes.has_unknown = true;
                        writes.confidence = writes.confidence.min(Confidence::Inferred);
                    }
                    (None, None | Some(true)) => writes.has_unknown = true,
                    _ => {}
                }
            }
            let value = merged.get(index).copied().flatten();
            match accept::tcg::counter_mismatch(self.acceptor, register, value) {
                Some(accept::tcg::CounterMismatch::Fewer) => {
                    writes.aborting_register = Some(register.id);
                    continue;
                }
                // The loader accepts the value, even if the guest then fails.
                Some(accept::tcg::CounterMismatch::More) => continue,
                None => {}
            }
            let Some(value) = value else {
                let acceptance = match self.acceptor.accelerator {
                    // KVM keeps the register's value.
                    Some(Accelerator::Kvm) => continue,
                    Some(Accelerator::Tcg) => {
                        accept::tcg::evaluate_missing(self.acceptor, destination_vcpu, register)
                    }
                    _ => accept::Acceptance::Unknown,
                };
                writes.note(number, register.id, acceptance, None);
                continue;
            };
            let acceptance = self.acceptor.evaluate(destination_vcpu, register, value);
            writes.note(
                number,
                register.id,
                acceptance,
                Some((value, register.value.as_ref())),
            );
        }
        writes
    }

    fn record_refused_writes(&mut self, writes: &WriteResults) {
        // TCG compares the values and prints no message.
        if self.generation != Generation::LengthChecked && self.is_kvm {
            writes
                .refused_writes
                .iter()
                .for_each(|event| self.record_event(event.clone()));
        }
    }

    /// Ends the load after the section of a vCPU failed.
    fn fail(&mut self, number: usize, step: LoadStep) {
        self.load.loads = Some(false);
        if self.is_uncertain {
            return;
        }
        if self.generation == Generation::LengthChecked {
            self.record_event(LoadEvent::SectionFailed { vcpu: number });
        }
        if self.is_kvm {
            // QEMU also reports the refused writes of earlier vCPUs, even those with unknown
            // values.
            let written = core::mem::take(&mut self.written);
            let has_unknown = written.iter().any(|writes| writes.has_unknown);
            let has_failure = written.iter().any(|writes| writes.has_failure);
            for writes in &written {
                self.record_refused_writes(writes);
            }
            self.load.is_complete &= !has_unknown;
            match self.loader.reports_put_failure() {
                Some(true) if has_failure => {
                    self.record_event(LoadEvent::PutFailed);
                    return;
                }
                // The final write may fail, so the last message of the load is not known.
                Some(true) if has_unknown => return,
                Some(_) => {}
                None if has_failure || has_unknown => {
                    self.load.is_complete = false;
                    return;
                }
                None => {}
            }
        }
        self.record_event(LoadEvent::LoadFailed { vcpu: number, step });
    }
}
