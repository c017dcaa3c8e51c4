//! What a failure means, what is usually behind it, what settles it.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the answer, and which of a failure's lines decides what kind it is |
//! | `count` | the length of the register list |
//! | `registers` | registers that are named, and vCPUs that fail without a name |
//! | `others` | parts of the CPU state, devices, RAM, the stream |
//!
//! A line is no evidence of what a VM holds. So a meaning is stated, causes are what was seen behind these words elsewhere, each with where
//! that is known from, and a command is named that finds out.

mod count;
mod others;
mod registers;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use count::register_count;
use others::plain;
use registers::{only_in_input, psci, unnamed, value_not_taken};

use cpreg::errno::Errno;
use cpreg::tolerance::{Difference, Tolerances};

use crate::failure::Failure;
use crate::message::{Access, NamedRegister, Speaker, Symptom};

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    name: &'static str,
    title: &'static str,
}

impl Kind {
    /// The input's list is longer than the loader's.
    pub const REGISTER_COUNT: Self =
        Self::new("register-count", "more registers than the destination has");
    /// Registers are only in the input.
    pub const ONLY_IN_INPUT: Self = Self::new(
        "register-only-in-input",
        "registers that the destination has not got",
    );
    /// Values are refused.
    pub const VALUE_NOT_TAKEN: Self = Self::new(
        "value-not-taken",
        "values of registers that the destination does not take",
    );
    /// A vCPU did not load, and the words do not say why.
    pub const CPU_SECTION: Self =
        Self::new("cpu-section", "a vCPU that did not load, without a reason");
    /// A part of the CPU state that the destination does not know.
    pub const CPU_SUBSECTION: Self = Self::new(
        "cpu-subsection",
        "a part of the CPU state that the destination does not know",
    );
    /// libvirt compared the guest's CPU and found it another.
    pub const GUEST_CPU: Self =
        Self::new("guest-cpu", "another CPU than the guest was started with");
    /// The PSCI version that was asked for.
    pub const PSCI_VERSION: Self = Self::new(
        "psci-version",
        "a PSCI version that the destination has not got",
    );
    /// A vCPU could not be set up.
    pub const VCPU_INIT: Self = Self::new("vcpu-init", "a vCPU that could not be set up");
    /// The program ended itself.
    pub const ABORT: Self = Self::new("abort", "a program that ended itself");
    /// RAM is laid out otherwise.
    pub const RAM: Self = Self::new("ram", "RAM that is laid out otherwise");
    /// Another machine type.
    pub const MACHINE_TYPE: Self = Self::new("machine-type", "another machine type");
    /// Another device, or another version or content of one.
    pub const DEVICE: Self = Self::new("device", "a device, not the CPU");
    /// The interrupt controller.
    pub const INTERRUPT_CONTROLLER: Self = Self::new(
        "interrupt-controller",
        "the interrupt controller, not the CPU",
    );
    /// The stream is no stream, or damaged, or of other capabilities.
    pub const STREAM: Self = Self::new("stream", "the stream itself");
    /// The VM could not be saved in the first place.
    pub const NOT_SAVED: Self = Self::new("not-saved", "a VM that could not be saved");
    /// Warnings alone: the load went on.
    pub const WARNINGS: Self = Self::new("warnings", "warnings; the load went on");
    /// That it failed and nothing else.
    pub const NO_REASON: Self = Self::new("no-reason", "that it failed, without a reason");

    const fn new(name: &'static str, title: &'static str) -> Self {
        Self { name, title }
    }

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// In a few words, for people.
    pub const fn title(self) -> &'static str {
        self.title
    }
}

/// Something that was seen behind these words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What it is.
    pub what: String,
    /// Where that is known from.
    pub source: Cow<'static, str>,
}

/// A register that a failure is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concerned {
    /// Which one.
    pub register: NamedRegister,
    /// What is wrong with it.
    pub difference: Option<Difference>,
    /// The value that was written, if that was said.
    pub value: Option<u64>,
    /// What it holds at the destination, if that was said.
    pub is: Option<u64>,
    /// Whether it is in the destination's list and could not be written because an ID register of the VM hides it.
    pub hidden: bool,
    /// The entry about it in [`Tolerances::default`], by its place there.
    pub tolerance: Option<usize>,
}

/// A command that finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The command line, capitals for what is to be filled in.
    pub command: &'static str,
    /// What it tells.
    pub tells: &'static str,
}

/// What a failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What kind it is.
    pub kind: Kind,
    /// What it means, in a sentence or two.
    pub means: String,
    /// What is usually behind it.
    pub causes: Vec<Cause>,
    /// The registers that are named, warnings included, each once.
    pub registers: Vec<Concerned>,
    /// What settles it; empty where cpreg cannot.
    pub settle: Vec<Step>,
}

/// The end of QEMU's name for the length of the list.
const LENGTH: &str = "cpreg_vmstate_array_len";

const CHECK: Step = Step {
    command: "cpreg check SOURCE DEST",
    tells: "names every register that stands in the way, whether it is harmless, and what each QEMU would do. SOURCE: the VM as a stream. DEST: a stream that a VM of this kind saved there, or a profile",
};

const PROBE: Step = Step {
    command: "cpreg probe qemu -o DEST -- QEMU COMMAND",
    tells: "records the destination, there, without a guest",
};

const REHEARSE: Step = Step {
    command: "cpreg rehearse SOURCE -- QEMU COMMAND",
    tells: "has the QEMU there load the VM without its RAM, and says what it makes of it, devices included; run it on the destination, with the VM's command line. --repaired tries what convert would write",
};

const REPORT: Step = Step {
    command: "cpreg report SOURCE -o FILE",
    tells: "writes the VM without RAM and secrets, as a small file for who can help",
};

const SHOW: Step = Step {
    command: "cpreg show SOURCE",
    tells: "shows what the VM holds: machine type, RAM blocks, devices, registers",
};

const CONVERT: Step = Step {
    command: "cpreg convert SOURCE --to DEST -o OUTPUT",
    tells: "writes the VM so that it loads there, if check says that it converts",
};

const TOLERANCES: Step = Step {
    command: "cpreg tolerances REG",
    tells: "prints why and when a difference in this register is harmless",
};

const DIFF: Step = Step {
    command: "cpreg diff A B",
    tells: "compares two hosts by a stream or profile of each, register by register (of QEMU; cpreg reads no other program's snapshots)",
};

/// What the lines of a failure mean together.
pub fn explain(failure: &Failure) -> Explanation {
    let registers = concerned(failure);
    let find = |wanted: &dyn Fn(&Symptom) -> bool| failure.symptoms().any(wanted);
    let count = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::TooMany { incoming, own } => Some((*incoming, *own)),
        _ => None,
    });
    let length_failed = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::FieldFailed { section, field } => Some(section == "cpu" && field == LENGTH),
        _ => None,
    });
    // The two numbers alone are nearly always the register list's: nothing else of QEMU's is read so.
    if length_failed == Some(true) || count.is_some() && length_failed.is_none() {
        return register_count(count, registers);
    }
    if find(&|symptom| matches!(symptom, Symptom::NoSuchPsci { .. } | Symptom::PsciHint)) {
        return psci(failure, registers);
    }
    let has_difference = |difference| {
        registers
            .iter()
            .any(|register: &Concerned| register.difference == Some(difference))
    };
    if has_difference(Difference::OnlyInInput) {
        return only_in_input(failure, registers);
    }
    if has_difference(Difference::ValueNotTaken) {
        return value_not_taken(failure, registers);
    }
    for symptom in failure.symptoms() {
        if let Some(explanation) = plain(symptom, failure) {
            return Explanation {
                registers,
                ..explanation
            };
        }
    }
    unnamed(failure, registers)
}

fn concerned(failure: &Failure) -> Vec<Concerned> {
    let tolerances = Tolerances::default();
    let mut registers: Vec<Concerned> = Vec::new();
    for symptom in failure.symptoms() {
        let (difference, value, is) = match symptom {
            Symptom::OnlyInInput { .. } => (Difference::OnlyInInput, None, None),
            Symptom::OnlyAtDestination { .. } => (Difference::OnlyAtDestination, None, None),
            Symptom::NotTaken { value, is, .. } => (Difference::ValueNotTaken, *value, *is),
            // Of Firecracker, which writes what it has: the destination has no such register.
            Symptom::UnknownToKvm { value, .. } if has_no_list(failure) => {
                (Difference::OnlyInInput, *value, None)
            }
            Symptom::UnknownToKvm { value, .. } => (Difference::ValueNotTaken, *value, None),
            _ => continue,
        };
        let Some(register) = symptom.register() else {
            continue;
        };
        let tolerance = register
            .id
            .and_then(|id| tolerances.find(id, difference, register.accelerator));
        let new = Concerned {
            register: register.clone(),
            difference: Some(difference),
            value,
            is,
            hidden: difference == Difference::ValueNotTaken
                && matches!(symptom, Symptom::UnknownToKvm { .. }),
            tolerance,
        };
        if !registers.contains(&new) {
            registers.push(new);
        }
    }
    registers
}

fn is_qemu(failure: &Failure) -> bool {
    !has_no_list(failure)
}

/// Whether the loader writes the input's registers without having compared lists.
fn has_no_list(failure: &Failure) -> bool {
    failure
        .said
        .iter()
        .any(|said| said.speaker != Speaker::QEMU && said.symptom.register().is_some())
}

fn cause(what: impl Into<String>, source: impl Into<Cow<'static, str>>) -> Cause {
    Cause {
        what: what.into(),
        source: source.into(),
    }
}

fn reason(error: Option<Errno>) -> String {
    error.map_or_else(String::new, |error| format!(": {error}"))
}
