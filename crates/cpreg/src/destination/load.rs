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
use super::extension::{self, Fate};
use super::kernel;
use super::loader::{Generation, qemu_tolerates_in_input, qemu_tolerates_missing};
use super::{Accelerator, Destination, HostVcpu, Knowledge, Loader, ValuesAre, Version};
use crate::register::{RegisterId, Value};
use crate::vm::{Extension, Vm};

/// What a loader would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Whether the VM would run there; `None` where what is known does not tell.
    pub loads: Option<bool>,
    /// How well that is known.
    pub knowledge: Knowledge,
    /// What it would say, in order.
    pub events: Vec<Event>,
    /// Whether these are all events; otherwise more may come that the destination's unknown values decide.
    pub complete: bool,
    /// Registers that it would lose without refusing the VM: with a failure that it forgets, or dropped in silence.
    pub lost: Vec<(usize, RegisterId)>,
}

/// One thing that a loader says or does. `vcpu` counts from zero.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The list is longer than its own.
    TooMany {
        /// Which vCPU.
        vcpu: usize,
        /// Registers in the input.
        incoming: usize,
        /// Registers that it has.
        own: usize,
    },
    /// A register is only in the input, and that is named as a failure.
    OnlyInInput {
        /// Which vCPU.
        vcpu: usize,
        /// Which register.
        id: RegisterId,
    },
    /// A register is only at the destination, and that is named as a warning.
    Missing {
        /// Which vCPU.
        vcpu: usize,
        /// Which register.
        id: RegisterId,
    },
    /// A write was refused because of the value.
    NotTaken {
        /// Which vCPU.
        vcpu: usize,
        /// Which register.
        id: RegisterId,
        /// The value written.
        value: Value,
        /// The value that the register has.
        is: Option<Value>,
    },
    /// A write was refused because the register is hidden by now.
    Hidden {
        /// Which vCPU.
        vcpu: usize,
        /// Which register.
        id: RegisterId,
    },
    /// It dies on a subsection.
    Abort {
        /// Which vCPU.
        vcpu: usize,
        /// The subsection.
        name: Cow<'static, str>,
    },
    /// It dies when it writes a register.
    Dies {
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
        step: Step,
    },
    /// Writing all registers after the last section failed, which ends the program.
    PutFailed,
}

/// The step of loading one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading the fields.
    Fields,
    /// Taking the registers over.
    Registers,
    /// Reading a subsection that it does not know.
    Extension(Cow<'static, str>),
}

/// Whether the loader can be one at that destination. A version has no machine types of later ones, and under an emulator the
/// list of registers is the program's own. Where nothing is known of what runs the guest there, nothing is known of any loader.
pub fn could_be(loader: Loader, destination: &Destination) -> bool {
    if loader.carries_out_plans() {
        return destination.accelerator == Some(Accelerator::Kvm);
    }
    let machine = destination
        .shape
        .as_ref()
        .and_then(|shape| shape.machine.as_deref());
    if machine
        .and_then(Version::of_machine)
        .is_some_and(|needed| loader.version < needed)
    {
        return false;
    }
    match (destination.accelerator, destination.vcpu(0)) {
        (Some(Accelerator::Tcg | Accelerator::Hvf), _) if destination.loader.is_some() => {
            destination.loader == Some(loader)
        }
        (Some(Accelerator::Tcg), Some(host)) => accept::tcg::could_list(
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
        .filter(|loader| could_be(*loader, destination))
}

/// One vCPU as an input lists it.
#[derive(Clone, Copy, Debug)]
pub struct Arriving<'a> {
    /// Its registers. What QEMU writes is ascending; what it reads may be in any order, and name a register twice.
    pub registers: &'a [(RegisterId, &'a Value)],
    /// Its extensions.
    pub extensions: &'a [Extension],
}

/// What the VM would come to in that loader, as it stands. Nothing is foretold of one that carries plans out: what it does is the plan's.
pub fn play(loader: Loader, vm: &Vm, destination: &Destination) -> Load {
    let lists: Vec<Vec<_>> = vm
        .vcpus
        .iter()
        .map(|vcpu| vcpu.registers.iter().collect())
        .collect();
    let vcpus: Vec<_> = lists
        .iter()
        .zip(&vm.vcpus)
        .map(|(registers, vcpu)| Arriving {
            registers,
            extensions: &vcpu.extensions,
        })
        .collect();
    play_lists(loader, &vcpus, destination)
}

/// As [`play`], for lists that need not be a [`Vm`]'s.
pub fn play_lists(loader: Loader, vcpus: &[Arriving<'_>], destination: &Destination) -> Load {
    if !could_be(loader, destination) || loader.carries_out_plans() {
        return Load::unknown();
    }
    let mut play = Play {
        loader,
        generation: loader.generation(),
        kvm: destination.accelerator == Some(Accelerator::Kvm),
        acceptor: Acceptor {
            accelerator: destination.accelerator,
            loader: Some(loader),
            values: Some(destination.values),
        },
        load: Load {
            loads: Some(true),
            knowledge: if loader.was_tried() {
                Knowledge::Proven
            } else {
                Knowledge::Inferred
            }
            .min(destination.values.limit()),
            events: Vec::new(),
            complete: true,
            lost: Vec::new(),
        },
        unsure: false,
    };
    let mut written = Vec::new();
    for (number, vcpu) in vcpus.iter().enumerate() {
        let Some(host) = destination.vcpu(number) else {
            return Load::unknown();
        };
        match play.vcpu(number, vcpu, host) {
            Section::Loaded(writes) => written.push(writes),
            Section::Failed(step, writes) => {
                written.extend(writes);
                play.fail(number, step, &written);
                return play.load;
            }
            Section::Dead => {
                play.load.loads = Some(false);
                return play.load;
            }
        }
    }
    play.load
}

impl Load {
    fn unknown() -> Self {
        Self {
            loads: None,
            knowledge: Knowledge::Unknown,
            events: Vec::new(),
            complete: false,
            lost: Vec::new(),
        }
    }
}

struct Play {
    loader: Loader,
    generation: Generation,
    kvm: bool,
    acceptor: Acceptor,
    load: Load,
    /// It is not known whether it comes this far: nothing that follows is surely said.
    unsure: bool,
}

/// What one vCPU's section came to.
enum Section {
    Loaded(Writes),
    Failed(Step, Option<Writes>),
    Dead,
}

/// What writing one vCPU's registers comes to.
struct Writes {
    refused: Vec<Event>,
    /// Whether anything in it is not known.
    unknown: bool,
    /// Whether it surely fails, though the words may not be known.
    fails: bool,
    /// The register at which the program dies.
    kills: Option<RegisterId>,
    knowledge: Knowledge,
}

impl Play {
    fn know(&mut self, knowledge: Knowledge) {
        self.load.knowledge = self.load.knowledge.min(knowledge);
    }

    fn say(&mut self, event: Event) {
        if !self.unsure {
            self.load.events.push(event);
        }
    }

    /// From here on nothing is sure, but that a failure is one.
    fn be_unsure(&mut self) {
        self.unsure = true;
        self.load.complete = false;
        self.load.loads = None;
    }

    fn vcpu(&mut self, number: usize, vcpu: &Arriving<'_>, host: &HostVcpu) -> Section {
        let (incoming, own) = (vcpu.registers.len(), host.registers().len());
        if self.generation == Generation::LengthChecked && incoming > own {
            self.say(Event::TooMany {
                vcpu: number,
                incoming,
                own,
            });
            return Section::Failed(Step::Fields, None);
        }
        for extension in vcpu.extensions {
            match extension::fate(self.loader, host, extension) {
                Fate::Loads => {}
                Fate::Unknown => {
                    self.be_unsure();
                    self.know(Knowledge::Unknown);
                }
                Fate::Refused => {
                    return Section::Failed(Step::Extension(extension.name.clone()), None);
                }
                Fate::Aborts => {
                    self.say(Event::Abort {
                        vcpu: number,
                        name: extension.name.clone(),
                    });
                    return Section::Dead;
                }
            }
        }
        if extension::spoils_features(self.loader, host, vcpu.extensions) {
            return Section::Failed(Step::Registers, None);
        }
        let has_none =
            |extensions: &[Extension]| !extensions.iter().any(|it| it.name == Extension::FEATURES);
        if self.acceptor.values == Some(ValuesAre::OfAnEmulatedHost)
            && extension::takes_features(self.loader)
            && has_none(vcpu.extensions)
        {
            // Such a loader on that host would have its own feature bits, and lose them; nobody has tried that under KVM.
            self.be_unsure();
            self.know(Knowledge::Unknown);
        }
        self.registers(number, vcpu.registers, host)
    }

    fn registers(
        &mut self,
        number: usize,
        incoming: &[(RegisterId, &Value)],
        host: &HostVcpu,
    ) -> Section {
        let merged = self.merge(number, incoming, host);
        let writes = self.writes(number, &merged.arrived, host);
        self.know(writes.knowledge);
        if merged.fails {
            return Section::Failed(Step::Registers, Some(writes));
        }
        if let Some(id) = writes.kills {
            self.say(Event::Dies { vcpu: number, id });
            return Section::Dead;
        }
        if writes.fails {
            self.say_refused(&writes);
            return Section::Failed(Step::Registers, Some(writes));
        }
        if writes.unknown {
            self.be_unsure();
        }
        self.load
            .lost
            .extend(merged.lost.into_iter().map(|id| (number, id)));
        Section::Loaded(writes)
    }

    /// Goes through both lists at once, as the loader does: its own is ascending, and it takes the other to be so too.
    fn merge<'v>(
        &mut self,
        number: usize,
        incoming: &[(RegisterId, &'v Value)],
        host: &HostVcpu,
    ) -> Merged<'v> {
        let mut incoming = incoming.iter().copied().peekable();
        let mut own = host.registers().iter().peekable();
        let mut merged = Merged {
            fails: false,
            arrived: Vec::with_capacity(host.registers().len()),
            lost: Vec::new(),
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
                            merged.fails = true;
                            return merged;
                        }
                        Generation::LengthChecked => merged.lost.push(id),
                        Generation::Tolerant
                            if self.kvm && qemu_tolerates_in_input(id, value.as_u64()) =>
                        {
                            merged.fails = false;
                        }
                        Generation::Named | Generation::Tolerant => {
                            self.say(Event::OnlyInInput { vcpu: number, id });
                            failed.push(id);
                            merged.fails = true;
                        }
                    }
                }
                (theirs, Some(id)) if theirs.is_none_or(|(theirs, _)| id < theirs) => {
                    own.next();
                    merged.arrived.push(None);
                    let tolerated = self.generation == Generation::Tolerant
                        && self.kvm
                        && qemu_tolerates_missing(id);
                    if self.generation != Generation::LengthChecked && !tolerated {
                        self.say(Event::Missing { vcpu: number, id });
                    }
                }
                (theirs, _) => {
                    incoming.next();
                    own.next();
                    merged.arrived.push(theirs.map(|(_, value)| value));
                }
            }
        }
        if !merged.fails {
            merged.lost.append(&mut failed);
            merged.lost.sort_unstable();
        }
        merged
    }

    /// Writes the merged list: for each own register what arrived for it. It is shorter if the merge ended early.
    fn writes(&self, number: usize, merged: &[Option<&Value>], host: &HostVcpu) -> Writes {
        let mut writes = Writes {
            refused: Vec::new(),
            unknown: false,
            fails: false,
            kills: None,
            knowledge: Knowledge::Proven,
        };
        let arrived = |id: RegisterId| {
            let own = host.registers();
            let at = own.binary_search_by_key(&id, |own| own.id).ok()?;
            merged.get(at).copied().flatten()
        };
        for (at, register) in host.registers().iter().enumerate() {
            if self.kvm
                && let Some(hides) = kernel::hidden_by(register.id)
                && let Some(value) = arrived(hides.by).and_then(Value::as_u64)
                && hides.extract(value) == 0
                && let Some(by) = host.get(hides.by)
                && by.value.as_ref().and_then(Value::as_u64) != Some(value)
            {
                match (
                    kernel::goes_by_id_field(host, register.id),
                    self.acceptor.takes(host, by, &Value::from(value)).takes(),
                ) {
                    (Some(true), Some(true)) => {
                        writes.fails = true;
                        writes.knowledge = writes.knowledge.min(Knowledge::Inferred);
                        writes.refused.push(Event::Hidden {
                            vcpu: number,
                            id: register.id,
                        });
                        continue;
                    }
                    // Refused or hidden: it fails either way.
                    (Some(true), None) => {
                        writes.fails = true;
                        writes.unknown = true;
                        writes.knowledge = writes.knowledge.min(Knowledge::Inferred);
                    }
                    (None, None | Some(true)) => writes.unknown = true,
                    _ => {}
                }
            }
            let value = merged.get(at).copied().flatten();
            match accept::tcg::counters(self.acceptor, register, value) {
                Some(accept::tcg::Counters::Fewer) => {
                    writes.kills = Some(register.id);
                    continue;
                }
                // It is taken, whatever becomes of the guest.
                Some(accept::tcg::Counters::More) => continue,
                None => {}
            }
            let Some(value) = value else {
                let answer = match self.acceptor.accelerator {
                    // It keeps what it has.
                    Some(Accelerator::Kvm) => continue,
                    Some(Accelerator::Tcg) => {
                        accept::tcg::takes_nothing(self.acceptor, host, register)
                    }
                    _ => accept::Answer::Unknown,
                };
                writes.note(number, register.id, answer, None);
                continue;
            };
            let answer = self.acceptor.takes(host, register, value);
            writes.note(
                number,
                register.id,
                answer,
                Some((value, register.value.as_ref())),
            );
        }
        writes
    }

    fn say_refused(&mut self, writes: &Writes) {
        // TCG compares in silence.
        if self.generation != Generation::LengthChecked && self.kvm {
            writes
                .refused
                .iter()
                .for_each(|event| self.say(event.clone()));
        }
    }

    /// Ends the load after the section of a vCPU failed.
    fn fail(&mut self, number: usize, step: Step, written: &[Writes]) {
        self.load.loads = Some(false);
        if self.unsure {
            return;
        }
        if self.generation == Generation::LengthChecked {
            self.say(Event::SectionFailed { vcpu: number });
        }
        if self.kvm {
            // What an earlier vCPU's unknown values come to is said here as well.
            let unknown = written.iter().any(|writes| writes.unknown);
            let fails = written.iter().any(|writes| writes.fails);
            for writes in written {
                self.say_refused(writes);
            }
            self.load.complete &= !unknown;
            match self.loader.reports_put_failure() {
                Some(true) if fails => {
                    self.say(Event::PutFailed);
                    return;
                }
                // Whether the put fails, and so which words end it, is not known.
                Some(true) if unknown => return,
                Some(_) => {}
                None if fails || unknown => {
                    self.load.complete = false;
                    return;
                }
                None => {}
            }
        }
        self.say(Event::LoadFailed { vcpu: number, step });
    }
}

struct Merged<'v> {
    /// The verdict that is left at the end of the walk.
    fails: bool,
    /// What arrived for each own register, in the order of the own list; fewer if the walk ended early.
    arrived: Vec<Option<&'v Value>>,
    lost: Vec<RegisterId>,
}

impl Writes {
    fn note(
        &mut self,
        vcpu: usize,
        id: RegisterId,
        answer: accept::Answer,
        values: Option<(&Value, Option<&Value>)>,
    ) {
        match answer.takes() {
            Some(true) => self.knowledge = self.knowledge.min(answer.knowledge()),
            Some(false) => {
                self.fails = true;
                self.knowledge = self.knowledge.min(answer.knowledge());
                if let Some((value, is)) = values {
                    self.refused.push(Event::NotTaken {
                        vcpu,
                        id,
                        value: value.clone(),
                        is: is.cloned(),
                    });
                }
            }
            None => self.unknown = true,
        }
    }
}
