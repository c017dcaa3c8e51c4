//! A loader played through: what it would do with a VM as it stands, register by register.
//!
//! This is the model of other programs' behaviour, their bugs included; the order of events is theirs. Their words
//! for each event belong to the adapter that knows the program. What ought to be done is [`crate::plan`]'s.
//!
//! For each vCPU in turn QEMU checks the list's length (to 10.2), reads the subsections, merges the list into its own
//! and writes the result; the first vCPU that fails ends the load. Under KVM all vCPUs are then written again, even
//! after a failure, and a refusal there is fatal with other words.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::accept::{self, Acceptor};
use super::extension::{self, ExtensionOutcome};
use super::kernel;
use super::loader::{Generation, qemu_tolerates_in_input, qemu_tolerates_missing};
use super::{Accelerator, Confidence, Destination, DestinationVcpu, Loader, ValueOrigin, Version};
use crate::register::{RegisterId, Value};
use crate::vm::{Extension, Vm};

/// What a loader would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedLoad {
    /// Whether the VM would run there; `None` where what is known does not tell.
    pub loads: Option<bool>,
    /// How well that is known.
    pub confidence: Confidence,
    /// What it would say, in order.
    pub events: Vec<LoadEvent>,
    /// Whether these are all events; otherwise more may come that the destination's unknown values decide.
    pub is_complete: bool,
    /// Registers that it would lose without refusing the VM: with a failure that it forgets, or dropped in silence.
    pub lost_registers: Vec<(usize, RegisterId)>,
}

/// One thing that a loader says or does. `vcpu` counts from zero.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadEvent {
    /// The list is longer than its own.
    TooManyRegisters {
        /// Which vCPU.
        vcpu: usize,
        /// Registers in the input.
        incoming: usize,
        /// Registers that it has.
        listed: usize,
    },
    /// A register is only in the input, and that is named as a failure.
    OnlyInInput {
        /// Which vCPU.
        vcpu: usize,
        /// Which register.
        id: RegisterId,
    },
    /// A register is only at the destination, and that is named as a warning.
    OnlyAtDestination {
        /// Which vCPU.
        vcpu: usize,
        /// Which register.
        id: RegisterId,
    },
    /// A write was refused because of the value.
    ValueNotTaken {
        /// Which vCPU.
        vcpu: usize,
        /// Which register.
        id: RegisterId,
        /// The value written.
        value: Value,
        /// The value that the register has.
        current: Option<Value>,
    },
    /// A write was refused because the register is hidden by now.
    RegisterHidden {
        /// Which vCPU.
        vcpu: usize,
        /// Which register.
        id: RegisterId,
    },
    /// It dies on a subsection.
    AbortOnSubsection {
        /// Which vCPU.
        vcpu: usize,
        /// The subsection.
        name: Cow<'static, str>,
    },
    /// It dies when it writes a register.
    AbortOnWrite {
        /// Which vCPU.
        vcpu: usize,
        /// Which register.
        id: RegisterId,
    },
    /// The section of this vCPU did not load.
    SectionFailed {
        /// Which vCPU.
        vcpu: usize,
    },
    /// The load as a whole failed.
    LoadFailed {
        /// Whose section failed.
        vcpu: usize,
        /// At which step.
        step: LoadStep,
    },
    /// Writing all registers after the last section failed, which ends the program.
    PutFailed,
}

/// The step of loading one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadStep {
    /// Reading the fields.
    Fields,
    /// Taking the registers over.
    Registers,
    /// Reading a subsection that it does not know.
    Extension(Cow<'static, str>),
}

/// Whether the loader can be one at that destination. A version has no machine types of later ones, and under an emulator the
/// list of registers is the program's own. Where nothing is known of what runs the guest there, nothing is known of any loader.
pub fn is_plausible(loader: Loader, destination: &Destination) -> bool {
    if loader.can_execute_plans() {
        return destination.accelerator == Some(Accelerator::Kvm);
    }
    let machine = destination
        .shape
        .as_ref()
        .and_then(|shape| shape.machine.as_deref());
    if machine
        .and_then(Version::from_machine_type)
        .is_some_and(|needed| loader.version < needed)
    {
        return false;
    }
    match (destination.accelerator, destination.vcpu(0)) {
        (Some(Accelerator::Tcg | Accelerator::Hvf), _) if destination.loader.is_some() => {
            destination.loader == Some(loader)
        }
        (Some(Accelerator::Tcg), Some(host)) => accept::tcg::can_list(
            loader,
            |id| host.get(id).is_some(),
            host.extension(Extension::FEATURES).is_some(),
        ),
        (accelerator, _) => accelerator.is_some(),
    }
}

/// The modelled loaders that can be the one at that destination, oldest first.
pub fn candidates(destination: &Destination) -> impl Iterator<Item = Loader> + '_ {
    Loader::MODELLED
        .into_iter()
        .filter(|loader| is_plausible(*loader, destination))
}

/// One vCPU as an input lists it.
#[derive(Clone, Copy, Debug)]
pub struct IncomingVcpu<'a> {
    /// Its registers. What QEMU writes is ascending; what it reads may be in any order, and name a register twice.
    pub registers: &'a [(RegisterId, &'a Value)],
    /// Its extensions.
    pub extensions: &'a [Extension],
}

/// What the VM would come to in that loader, as it stands. Nothing is foretold of one that carries plans out: what it does is the plan's.
pub fn simulate(loader: Loader, vm: &Vm, destination: &Destination) -> SimulatedLoad {
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
    simulate_lists(loader, &vcpus, destination)
}

/// As [`simulate`], for lists that need not be a [`Vm`]'s.
pub fn simulate_lists(
    loader: Loader,
    vcpus: &[IncomingVcpu<'_>],
    destination: &Destination,
) -> SimulatedLoad {
    if !is_plausible(loader, destination) || loader.can_execute_plans() {
        return SimulatedLoad::unknown();
    }
    let mut simulation = Simulation {
        loader,
        generation: loader.generation(),
        is_kvm: destination.accelerator == Some(Accelerator::Kvm),
        acceptor: Acceptor {
            accelerator: destination.accelerator,
            loader: Some(loader),
            value_origin: Some(destination.value_origin),
        },
        load: SimulatedLoad {
            loads: Some(true),
            confidence: if loader.is_observed() {
                Confidence::Proven
            } else {
                Confidence::Inferred
            }
            .min(destination.value_origin.max_confidence()),
            events: Vec::new(),
            is_complete: true,
            lost_registers: Vec::new(),
        },
        is_uncertain: false,
    };
    let mut written = Vec::new();
    for (number, vcpu) in vcpus.iter().enumerate() {
        let Some(host) = destination.vcpu(number) else {
            return SimulatedLoad::unknown();
        };
        match simulation.load_vcpu(number, vcpu, host) {
            SectionOutcome::Loaded(writes) => written.push(writes),
            SectionOutcome::Failed(step, writes) => {
                written.extend(writes);
                simulation.fail(number, step, &written);
                return simulation.load;
            }
            SectionOutcome::Aborted => {
                simulation.load.loads = Some(false);
                return simulation.load;
            }
        }
    }
    simulation.load
}

impl SimulatedLoad {
    fn unknown() -> Self {
        Self {
            loads: None,
            confidence: Confidence::Unknown,
            events: Vec::new(),
            is_complete: false,
            lost_registers: Vec::new(),
        }
    }
}

struct Simulation {
    loader: Loader,
    generation: Generation,
    is_kvm: bool,
    acceptor: Acceptor,
    load: SimulatedLoad,
    /// It is not known whether it comes this far: nothing that follows is surely said.
    is_uncertain: bool,
}

/// What one vCPU's section came to.
enum SectionOutcome {
    Loaded(WriteResults),
    Failed(LoadStep, Option<WriteResults>),
    Aborted,
}

/// What writing one vCPU's registers comes to.
struct WriteResults {
    refused_writes: Vec<LoadEvent>,
    /// Whether anything in it is not known.
    has_unknown: bool,
    /// Whether it surely fails, though the words may not be known.
    has_failure: bool,
    /// The register at which the program dies.
    aborting_register: Option<RegisterId>,
    confidence: Confidence,
}

impl Simulation {
    fn lower_confidence(&mut self, knowledge: Confidence) {
        self.load.confidence = self.load.confidence.min(knowledge);
    }

    fn record_event(&mut self, event: LoadEvent) {
        if !self.is_uncertain {
            self.load.events.push(event);
        }
    }

    /// From here on nothing is sure, but that a failure is one.
    fn mark_uncertain(&mut self) {
        self.is_uncertain = true;
        self.load.is_complete = false;
        self.load.loads = None;
    }

    fn load_vcpu(
        &mut self,
        number: usize,
        vcpu: &IncomingVcpu<'_>,
        host: &DestinationVcpu,
    ) -> SectionOutcome {
        let (incoming, own) = (vcpu.registers.len(), host.registers().len());
        if self.generation == Generation::LengthChecked && incoming > own {
            self.record_event(LoadEvent::TooManyRegisters {
                vcpu: number,
                incoming,
                listed: own,
            });
            return SectionOutcome::Failed(LoadStep::Fields, None);
        }
        for extension in vcpu.extensions {
            match extension::predict_outcome(self.loader, host, extension) {
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
        if extension::clears_features(self.loader, host, vcpu.extensions) {
            return SectionOutcome::Failed(LoadStep::Registers, None);
        }
        let has_none =
            |extensions: &[Extension]| !extensions.iter().any(|it| it.name == Extension::FEATURES);
        if self.acceptor.value_origin == Some(ValueOrigin::EmulatedHost)
            && extension::loads_features(self.loader)
            && has_none(vcpu.extensions)
        {
            // Such a loader on that host would have its own feature bits, and lose them; nobody has tried that under KVM.
            self.mark_uncertain();
            self.lower_confidence(Confidence::Unknown);
        }
        self.load_registers(number, vcpu.registers, host)
    }

    fn load_registers(
        &mut self,
        number: usize,
        incoming: &[(RegisterId, &Value)],
        host: &DestinationVcpu,
    ) -> SectionOutcome {
        let merged = self.merge(number, incoming, host);
        let writes = self.write_registers(number, &merged.incoming_values, host);
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

    /// Goes through both lists at once, as the loader does: its own is ascending, and it takes the other to be so too.
    fn merge<'v>(
        &mut self,
        number: usize,
        incoming: &[(RegisterId, &'v Value)],
        host: &DestinationVcpu,
    ) -> MergedList<'v> {
        let mut incoming = incoming.iter().copied().peekable();
        let mut own = host.registers().iter().peekable();
        let mut merged = MergedList {
            has_failure: false,
            incoming_values: Vec::with_capacity(host.registers().len()),
            lost_registers: Vec::new(),
        };
        let mut failed = Vec::new();
        loop {
            let (theirs, ours) = (
                incoming.peek().copied(),
                own.peek().map(|register| register.id),
            );
            match (theirs, ours) {
                (None, None) => break,
                (Some((id, value)), ours) if ours.is_none_or(|ours| id < ours) => {
                    incoming.next();
                    match self.generation {
                        Generation::LengthChecked if ours.is_some() => {
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
                            self.record_event(LoadEvent::OnlyInInput { vcpu: number, id });
                            failed.push(id);
                            merged.has_failure = true;
                        }
                    }
                }
                (theirs, Some(id)) if theirs.is_none_or(|(theirs, _)| id < theirs) => {
                    own.next();
                    merged.incoming_values.push(None);
                    let tolerated = self.generation == Generation::Tolerant
                        && self.is_kvm
                        && qemu_tolerates_missing(id);
                    if self.generation != Generation::LengthChecked && !tolerated {
                        self.record_event(LoadEvent::OnlyAtDestination { vcpu: number, id });
                    }
                }
                (theirs, _) => {
                    incoming.next();
                    own.next();
                    merged.incoming_values.push(theirs.map(|(_, value)| value));
                }
            }
        }
        if !merged.has_failure {
            merged.lost_registers.append(&mut failed);
            merged.lost_registers.sort_unstable();
        }
        merged
    }

    /// Writes the merged list: for each own register what arrived for it. It is shorter if the merge ended early.
    fn write_registers(
        &self,
        number: usize,
        merged: &[Option<&Value>],
        host: &DestinationVcpu,
    ) -> WriteResults {
        let mut writes = WriteResults {
            refused_writes: Vec::new(),
            has_unknown: false,
            has_failure: false,
            aborting_register: None,
            confidence: Confidence::Proven,
        };
        let arrived = |id: RegisterId| {
            let own = host.registers();
            let at = own.binary_search_by_key(&id, |own| own.id).ok()?;
            merged.get(at).copied().flatten()
        };
        for (at, register) in host.registers().iter().enumerate() {
            if self.is_kvm
                && let Some(hides) = kernel::find_feature_gate(register.id)
                && let Some(value) = arrived(hides.id_register).and_then(Value::as_u64)
                && hides.extract(value) == 0
                && let Some(by) = host.get(hides.id_register)
                && by.value.as_ref().and_then(Value::as_u64) != Some(value)
            {
                match (
                    kernel::gates_by_vm_id_field(host, register.id),
                    self.acceptor
                        .evaluate(host, by, &Value::from(value))
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
                    // Refused or hidden: it fails either way.
                    (Some(true), None) => {
                        writes.has_failure = true;
                        writes.has_unknown = true;
                        writes.confidence = writes.confidence.min(Confidence::Inferred);
                    }
                    (None, None | Some(true)) => writes.has_unknown = true,
                    _ => {}
                }
            }
            let value = merged.get(at).copied().flatten();
            match accept::tcg::counter_mismatch(self.acceptor, register, value) {
                Some(accept::tcg::CounterMismatch::Fewer) => {
                    writes.aborting_register = Some(register.id);
                    continue;
                }
                // It is taken, whatever becomes of the guest.
                Some(accept::tcg::CounterMismatch::More) => continue,
                None => {}
            }
            let Some(value) = value else {
                let answer = match self.acceptor.accelerator {
                    // It keeps what it has.
                    Some(Accelerator::Kvm) => continue,
                    Some(Accelerator::Tcg) => {
                        accept::tcg::evaluate_missing(self.acceptor, host, register)
                    }
                    _ => accept::Acceptance::Unknown,
                };
                writes.note(number, register.id, answer, None);
                continue;
            };
            let answer = self.acceptor.evaluate(host, register, value);
            writes.note(
                number,
                register.id,
                answer,
                Some((value, register.value.as_ref())),
            );
        }
        writes
    }

    fn record_refused_writes(&mut self, writes: &WriteResults) {
        // TCG compares in silence.
        if self.generation != Generation::LengthChecked && self.is_kvm {
            writes
                .refused_writes
                .iter()
                .for_each(|event| self.record_event(event.clone()));
        }
    }

    /// Ends the load after the section of a vCPU failed.
    fn fail(&mut self, number: usize, step: LoadStep, written: &[WriteResults]) {
        self.load.loads = Some(false);
        if self.is_uncertain {
            return;
        }
        if self.generation == Generation::LengthChecked {
            self.record_event(LoadEvent::SectionFailed { vcpu: number });
        }
        if self.is_kvm {
            // What an earlier vCPU's unknown values come to is said here as well.
            let unknown = written.iter().any(|writes| writes.has_unknown);
            let fails = written.iter().any(|writes| writes.has_failure);
            for writes in written {
                self.record_refused_writes(writes);
            }
            self.load.is_complete &= !unknown;
            match self.loader.reports_put_failure() {
                Some(true) if fails => {
                    self.record_event(LoadEvent::PutFailed);
                    return;
                }
                // Whether the put fails, and so which words end it, is not known.
                Some(true) if unknown => return,
                Some(_) => {}
                None if fails || unknown => {
                    self.load.is_complete = false;
                    return;
                }
                None => {}
            }
        }
        self.record_event(LoadEvent::LoadFailed { vcpu: number, step });
    }
}

struct MergedList<'v> {
    /// The verdict that is left at the end of the walk.
    has_failure: bool,
    /// What arrived for each own register, in the order of the own list; fewer if the walk ended early.
    incoming_values: Vec<Option<&'v Value>>,
    lost_registers: Vec<RegisterId>,
}

impl WriteResults {
    fn note(
        &mut self,
        vcpu: usize,
        id: RegisterId,
        answer: accept::Acceptance,
        values: Option<(&Value, Option<&Value>)>,
    ) {
        match answer.as_bool() {
            Some(true) => self.confidence = self.confidence.min(answer.confidence()),
            Some(false) => {
                self.has_failure = true;
                self.confidence = self.confidence.min(answer.confidence());
                if let Some((value, is)) = values {
                    self.refused_writes.push(LoadEvent::ValueNotTaken {
                        vcpu,
                        id,
                        value: value.clone(),
                        current: is.cloned(),
                    });
                }
            }
            None => self.has_unknown = true,
        }
    }
}
