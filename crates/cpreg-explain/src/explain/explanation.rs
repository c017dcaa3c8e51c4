//! [`Explanation`]: what a failure means, as data.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use cpreg::errno::Errno;
use cpreg::remedy::Remedy;
use cpreg::tolerance::RegisterDifference;

use crate::message::NamedRegister;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FailureKind {
    name: &'static str,
    title: &'static str,
}

impl FailureKind {
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
    pub description: String,
    /// Where that is known from.
    pub source: Cow<'static, str>,
}

/// A register that a failure is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffectedRegister {
    /// Which one.
    pub register: NamedRegister,
    /// What is wrong with it.
    pub difference: Option<RegisterDifference>,
    /// The value that was written, if that was said.
    pub value: Option<u64>,
    /// What it holds at the destination, if that was said.
    pub destination_value: Option<u64>,
    /// Whether it is in the destination's list and could not be written because an ID register of the VM hides it.
    pub hidden: bool,
    /// The entry about it in [`Tolerances::default`](cpreg::tolerance::Tolerances::default), by its place there.
    pub tolerance: Option<usize>,
}

/// What a failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What kind it is.
    pub kind: FailureKind,
    /// What it means, in a sentence or two.
    pub meaning: String,
    /// What is usually behind it.
    pub causes: Vec<Cause>,
    /// The registers that are named, warnings included, each once.
    pub registers: Vec<AffectedRegister>,
    /// What settles it; empty where cpreg cannot.
    pub next_steps: Vec<Remedy>,
}

impl Explanation {
    /// Returns an explanation that names no register.
    pub(super) fn new(
        kind: FailureKind,
        means: impl Into<String>,
        causes: Vec<Cause>,
        settle: Vec<Remedy>,
    ) -> Self {
        Self {
            kind,
            meaning: means.into(),
            causes,
            registers: Vec::new(),
            next_steps: settle,
        }
    }
}

pub(super) fn cause(what: impl Into<String>, source: impl Into<Cow<'static, str>>) -> Cause {
    Cause {
        description: what.into(),
        source: source.into(),
    }
}

pub(super) fn error_suffix(error: Option<Errno>) -> String {
    error.map_or_else(String::new, |error| format!(": {error}"))
}
