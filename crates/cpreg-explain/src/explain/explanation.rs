//! [`Explanation`]: meaning of a failure, as data.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use cpreg::errno::Errno;
use cpreg::remedy::Remedy;
use cpreg::tolerance::RegisterDifference;

use crate::message::NamedRegister;
use crate::situation::Situation;

/// Kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FailureKind {
    name: &'static str,
    title: &'static str,
}

impl FailureKind {
    /// Register list in the input that is longer than the loader's.
    pub const REGISTER_COUNT: Self =
        Self::new("register-count", "more registers than the destination has");
    /// Registers that only the source has.
    pub const SOURCE_ONLY: Self = Self::new(
        "register-source-only",
        "registers that the destination lacks",
    );
    /// Register values that the destination refused.
    pub const VALUE_NOT_ACCEPTED: Self = Self::new(
        "value-not-accepted",
        "register values that the destination does not accept",
    );
    /// vCPU that did not load; the log has no reason.
    pub const CPU_SECTION: Self =
        Self::new("cpu-section", "a vCPU that did not load, without a reason");
    /// Subsection of the CPU state that the destination does not know.
    pub const CPU_SUBSECTION: Self = Self::new(
        "cpu-subsection",
        "a subsection of the CPU state that the destination does not know",
    );
    /// CPU of the destination that libvirt finds different from the guest's.
    pub const GUEST_CPU: Self = Self::new(
        "guest-cpu",
        "a CPU that differs from the one the guest was started with",
    );
    /// Requested PSCI version that is not supported.
    pub const PSCI_VERSION: Self = Self::new(
        "psci-version",
        "a PSCI version that the destination does not support",
    );
    /// vCPU that could not be initialized.
    pub const VCPU_INIT: Self = Self::new("vcpu-init", "a vCPU that could not be initialized");
    /// Program that aborted.
    pub const ABORT: Self = Self::new("abort", "a program that aborted");
    /// Different layout of RAM.
    pub const RAM: Self = Self::new("ram", "a different layout of RAM");
    /// Different machine type.
    pub const MACHINE_TYPE: Self = Self::new("machine-type", "a different machine type");
    /// Device that is missing, or whose version or content differs.
    pub const DEVICE: Self = Self::new("device", "a device, not the CPU");
    /// Interrupt controller whose state did not load.
    pub const INTERRUPT_CONTROLLER: Self = Self::new(
        "interrupt-controller",
        "the interrupt controller, not the CPU",
    );
    /// Stream that is damaged, was sent with other capabilities, or is not a migration stream.
    pub const STREAM: Self = Self::new("stream", "a damaged or unexpected stream");
    /// Saved VM that the program does not read.
    pub const SNAPSHOT: Self = Self::new("snapshot", "a saved VM that the program does not read");
    /// VM that did not start.
    pub const START: Self = Self::new("start", "a VM that did not start; nothing was migrated");
    /// Migration that the source refuses.
    pub const MIGRATION_BLOCKED: Self =
        Self::new("migration-blocked", "a VM that its QEMU does not migrate");
    /// Postcopy migration that stopped after the switchover.
    pub const POSTCOPY: Self = Self::new(
        "postcopy",
        "a postcopy migration that lost its connection after the switchover",
    );
    /// Register that a line of any program names.
    pub const REGISTER: Self = Self::new("register", "a register that a line names");
    /// Message about a guest or about a machine's own cores.
    pub const GUEST: Self = Self::new("guest", "a kernel's message, not a failed load");
    /// Failure that a front end reports without its reason.
    pub const FRONT_END: Self = Self::new("front-end", "a failure whose reason is in another log");
    /// VM that could not be saved.
    pub const NOT_SAVED: Self = Self::new("not-saved", "a VM that could not be saved");
    /// Warnings only; the load continued.
    pub const WARNINGS: Self = Self::new("warnings", "warnings; the load continued");
    /// Load that failed; the log has no reason.
    pub const NO_REASON: Self = Self::new("no-reason", "a failed load, without a reason");

    const fn new(name: &'static str, title: &'static str) -> Self {
        Self { name, title }
    }

    /// Returns the name of the kind in reports.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Returns the title of the kind, for people.
    pub const fn title(self) -> &'static str {
        self.title
    }
}

/// Possible cause of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cause {
    /// Description of the cause.
    pub description: String,
    /// Source of the claim: a recording, a commit or a report.
    pub source: Cow<'static, str>,
}

/// Register that a failure names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AffectedRegister {
    /// Register under the name that the log line uses.
    pub register: NamedRegister,
    /// Difference that makes the load fail; `None` if the line does not state it.
    pub difference: Option<RegisterDifference>,
    /// Written value, if the log line contains it.
    pub value: Option<u64>,
    /// Value at the destination, if the log line contains it.
    pub destination_value: Option<u64>,
    /// `true` if the destination lists the register, but an ID register of the VM hides it.
    pub hidden: bool,
    /// Index of the register's entry in
    /// [`Tolerances::default`](cpreg::tolerance::Tolerances::default).
    pub tolerance: Option<usize>,
}

/// Explanation of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// Kind of the failure.
    pub kind: FailureKind,
    /// Meaning of the failure in one or two sentences, as plain text.
    pub meaning: String,
    /// Possible causes, each with its source.
    pub causes: Vec<Cause>,
    /// Registers that errors and warnings name, each once.
    pub registers: Vec<AffectedRegister>,
    /// Next steps; at least one.
    pub next_steps: Vec<NextStep>,
    /// Activity that failed.
    pub situation: Situation,
    /// Place and state of the VM after the failure, if the lines tell of a VM.
    pub vm_state: Option<&'static str>,
}

/// Next step after a failure: a command that a user can type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Remedy of cpreg.
    Remedy(Remedy),
    /// Command of another program. Words in capitals stand for names.
    Command {
        /// Command line.
        command: Cow<'static, str>,
        /// Result of the command.
        result: Cow<'static, str>,
    },
}

impl NextStep {
    /// Returns the step with this command and result.
    pub(super) fn command(
        command: impl Into<Cow<'static, str>>,
        result: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Command {
            command: command.into(),
            result: result.into(),
        }
    }
}

impl From<Remedy> for NextStep {
    fn from(remedy: Remedy) -> Self {
        Self::Remedy(remedy)
    }
}

impl Explanation {
    /// Returns an explanation that names no register.
    pub(super) fn new(
        kind: FailureKind,
        meaning: impl Into<String>,
        causes: Vec<Cause>,
        next_steps: Vec<Remedy>,
    ) -> Self {
        Self {
            kind,
            meaning: meaning.into(),
            causes,
            registers: Vec::new(),
            next_steps: next_steps.into_iter().map(NextStep::from).collect(),
            situation: Situation::Unknown,
            vm_state: None,
        }
    }

    /// Adds a command of another program after the other steps.
    pub(super) fn with_command(
        mut self,
        command: impl Into<Cow<'static, str>>,
        result: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.next_steps.push(NextStep::command(command, result));
        self
    }

    /// Replaces the registers.
    pub(super) fn with_registers(mut self, registers: Vec<AffectedRegister>) -> Self {
        self.registers = registers;
        self
    }
}

pub(super) fn cause(description: impl Into<String>, source: impl Into<Cow<'static, str>>) -> Cause {
    Cause {
        description: description.into(),
        source: source.into(),
    }
}

pub(super) fn error_suffix(error: Option<Errno>) -> String {
    error.map_or_else(String::new, |error| format!(": {error}"))
}
