//! Fixed words of reports: verdicts, actions, severities and the like.
//!
//! Later versions may add words to each set, so a reader must expect unknown names.

use std::borrow::Cow;
use std::fmt;

use cpreg::destination::{self, ValueOrigin};
use cpreg::plan::{self, Action, ExtensionAction, HardwareAction};
use cpreg::shape::ShapePart;
use cpreg::tolerance::{self, Handling, RegisterSelector};
use cpreg_hosts::record::AtReset;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::name_macro::names;

names! {
    /// Verdict on a load.
    Verdict {
        /// The VM loads as it is.
        LOADS = "loads",
        /// The VM loads after `cpreg convert`.
        CONVERTS = "converts",
        /// The VM does not load.
        REFUSED = "refused",
        /// Not enough information to decide.
        UNKNOWN = "unknown",
    }

    /// Result of loading a VM without cpreg.
    UnchangedLoad {
        /// The loader loads everything that cpreg would load.
        LOADS = "loads",
        /// The loader continues, but loses registers.
        LOSES_REGISTERS = "loses-registers",
        /// The loader fails.
        FAILS = "fails",
        /// Not enough information to decide, or the possible loaders differ.
        UNKNOWN = "unknown",
    }

    /// Subject of an error.
    FailureKind {
        /// The command line is wrong: an unknown option, a missing argument.
        USAGE = "usage",
        /// cpreg cannot use an argument or the input that it names.
        INPUT = "input",
        /// A stream is damaged, incomplete, or of a kind that cpreg does not read.
        STREAM = "stream",
        /// A JSON or TOML file does not have the expected content.
        DOCUMENT = "document",
        /// A file could not be opened, read or written.
        IO = "io",
        /// The report could not be written.
        OUTPUT = "output",
        /// A QEMU did not start, answer or load.
        QEMU = "qemu",
        /// A migration or one of its connections failed.
        RELAY = "relay",
        /// KVM of this machine failed or is missing.
        KVM = "kvm",
    }

    /// Result of a relayed migration.
    RelayOutcome {
        /// Everything was sent.
        COMPLETED = "completed",
        /// The relay refused the VM.
        REFUSED = "refused",
        /// An interrupted postcopy migration was recovered.
        RECOVERED = "recovered",
        /// A connection failed.
        FAILED = "failed",
        /// The user cancelled the migration.
        CANCELLED = "cancelled",
        /// No QEMU was connected.
        NOT_STARTED = "not-started",
        /// A result that this version does not know.
        OTHER = "other",
    }

    /// Decision about a register or an extension.
    Decision {
        /// The VM's value is loaded.
        COPY = "copy",
        /// Another value is loaded.
        SET = "set",
        /// The VM's value is not loaded.
        IGNORE = "ignore",
        /// The destination's reset value stays.
        KEEP_AT_RESET = "keep-at-reset",
        /// The VM is refused.
        REFUSE = "refuse",
        /// Not enough information to decide.
        UNKNOWN = "unknown",
    }

    /// Reason of a decision, as a code.
    ReasonCode {
        /// The destination has the register and accepts the value.
        VALUE_ACCEPTED = "value-accepted",
        /// A tolerance applies, and its condition holds.
        TOLERATED = "tolerated",
        /// A tolerance applies, but its condition does not hold.
        NOT_TOLERATED = "not-tolerated",
        /// Only the source has the register, and no tolerance applies.
        SOURCE_ONLY = "source-only",
        /// Only the destination has the register.
        DESTINATION_ONLY = "destination-only",
        /// Only the destination has the register, and the reset value to write is not known.
        RESET_UNKNOWN = "reset-unknown",
        /// The destination does not accept the value.
        VALUE_NOT_ACCEPTED = "value-not-accepted",
        /// The destination takes away an event counter that the guest uses.
        COUNTER_IN_USE = "counter-in-use",
        /// The destination does not accept the value that the user set.
        SET_NOT_ACCEPTED = "set-not-accepted",
        /// The change of the value would break the running guest.
        FATAL_CHANGE = "fatal-change",
        /// The guest would read the destination's value, which is not known.
        DESTINATION_VALUE_UNKNOWN = "destination-value-unknown",
        /// Not known whether the destination accepts the value.
        VALUE_UNKNOWN = "value-unknown",
        /// An ID register of the VM hides the register at the destination.
        HIDDEN = "hidden",
        /// An ID register of the VM may hide the register at the destination.
        PERHAPS_HIDDEN = "perhaps-hidden",
        /// KVM removes registers when the guest first runs, and QEMU fails to read them afterwards.
        REMOVED_AT_FIRST_RUN = "removed-at-first-run",
        /// The vCPUs have different values of a VM-wide register.
        DISAGREEMENT = "disagreement",
        /// The vCPUs have different values of a VM-wide field.
        FIELD_DISAGREEMENT = "field-disagreement",
        /// The user ignores the register.
        USER_IGNORES = "user-ignores",
        /// The user drops the register.
        USER_DROPS = "user-drops",
        /// The user sets the register.
        USER_SETS = "user-sets",
        /// The user ignores the register under a condition, which does not hold.
        USER_CONDITION = "user-condition",
        /// The user accepted an adjustment.
        USER_ACCEPTS = "user-accepts",
        /// The register shows the same state as another register. The decision about the other one
        /// applies.
        SAME_STATE_AS = "same-state-as",
        /// The VM lists the register under another id, and its value is loaded.
        RECORDED_UNDER = "recorded-under",
        /// The destination lists the register under another id. The decision about that id applies.
        LISTED_AS = "listed-as",
        /// The destination may list the register under another id; the lists do not prove it.
        PERHAPS_LISTED_AS = "perhaps-listed-as",
        /// The destination lists the register under another id, under which the VM has another
        /// value.
        OTHER_VALUE_UNDER = "other-value-under",
        /// The loader knows the extension.
        EXTENSION_KNOWN = "extension-known",
        /// The loader does not know the extension, and the load loses nothing without it.
        EXTENSION_IDLE = "extension-idle",
        /// The loader does not know the extension; another change of the vCPU's state replaces it.
        EXTENSION_REPLACED = "extension-replaced",
        /// The loader does not know the extension, and the guest uses it.
        EXTENSION_IN_USE = "extension-in-use",
        /// The loader loads the extension, and accepts only the destination's own content.
        EXTENSION_FROM_DESTINATION = "extension-from-destination",
        /// Not known how the loader handles the extension.
        EXTENSION_UNKNOWN = "extension-unknown",
    }

    /// Kind of the part in which two machine shapes differ.
    ShapePartKind {
        /// Accelerator that executes the guest.
        ACCELERATOR = "accelerator",
        /// Machine type.
        MACHINE_TYPE = "machine-type",
        /// Number of vCPUs.
        VCPU_COUNT = "vcpu-count",
        /// RAM block.
        RAM_BLOCK = "ram-block",
        /// Device section.
        DEVICE = "device",
    }

    /// Decision about a property of the hosts that no register list holds.
    HardwareDecision {
        /// The guest keeps what it relies on.
        KEEP = "keep",
        /// The property differs, and the guest could notice it.
        CHANGE = "change",
        /// Not known on both sides, which is no reason to refuse this VM.
        ASSUME = "assume",
        /// The VM is refused.
        REFUSE = "refuse",
        /// Not enough information to decide.
        UNKNOWN = "unknown",
    }

    /// Confidence in a statement.
    Confidence {
        /// Observed on that very destination.
        PROVEN = "proven",
        /// Concluded from the register's kind.
        INFERRED = "inferred",
        /// Never observed.
        UNKNOWN = "unknown",
    }

    /// Severity of a change for the guest.
    Severity {
        /// A running guest will hardly notice the change.
        LOW = "low",
        /// Something that a guest may use disappears or differs.
        MEDIUM = "medium",
        /// Something that guests rely on disappears or is wrong.
        HIGH = "high",
        /// The change breaks a running guest.
        FATAL = "fatal",
    }

    /// Accelerator that executes a guest.
    Accelerator {
        /// Linux KVM.
        KVM = "kvm",
        /// QEMU's own emulation.
        TCG = "tcg",
        /// Apple's Hypervisor.framework.
        HVF = "hvf",
    }

    /// Result of an attempt to load a plan.
    DryRunOutcome {
        /// KVM did what the plan says.
        CONFIRMED = "confirmed",
        /// KVM did not do what the plan says.
        CONTRADICTED = "contradicted",
        /// The plan was not tried.
        NOT_TRIED = "not-tried",
    }

    /// Result of a rehearsal.
    RehearsalOutcome {
        /// QEMU would run the VM.
        LOADED = "loaded",
        /// QEMU refused the VM.
        FAILED = "failed",
        /// No load was attempted.
        NOT_TRIED = "not-tried",
    }

    /// Kind of input of `show` and `diff`.
    ContentsKind {
        /// A migration stream.
        STREAM = "stream",
        /// The stream in a report.
        REPORT = "report",
        /// A running QEMU.
        RUNNING = "running",
        /// Registers in a snapshot of Firecracker or Cloud Hypervisor.
        SNAPSHOT = "snapshot",
        /// A profile, or a recorded host.
        PROFILE = "profile",
    }

    /// Origin of a destination's values.
    ValueOriginKind {
        /// No guest had run.
        RESET = "reset",
        /// A guest left them.
        GUEST = "guest",
        /// At reset, on an emulated CPU.
        EMULATED_HOST = "emulated-host",
    }

    /// Kind of content of a register at reset.
    ResetContent {
        /// A value.
        VALUE = "value",
        /// KVM's reset poison, which is not a value.
        POISON = "poison",
        /// A counter.
        COUNTER = "counter",
        /// The register cannot be read.
        UNREADABLE = "unreadable",
    }

    /// Difference that a tolerance or an error line describes.
    Difference {
        /// Only the source has the register.
        SOURCE_ONLY = "source-only",
        /// Only the destination has the register.
        DESTINATION_ONLY = "destination-only",
        /// The destination does not accept the value.
        VALUE_NOT_ACCEPTED = "value-not-accepted",
        /// One side lists the register under another, wrong id.
        OTHER_ID = "other-id",
    }

    /// Handling of a tolerated difference.
    ToleranceHandling {
        /// The VM's value is not loaded.
        IGNORE = "ignore",
        /// The destination's reset value stays.
        KEEP_AT_RESET = "keep-at-reset",
        /// Another value is loaded.
        SET = "set",
        /// The nearest value that the destination accepts is loaded.
        SET_TO_NEAREST = "set-to-nearest",
        /// The value is loaded under the destination's id.
        RENAME = "rename",
        /// The VM is refused.
        REFUSE = "refuse",
    }

    /// Class of registers that is defined by a rule, not by a list.
    RegisterClass {
        /// Every slot of CCSIDR_EL1.
        CACHE_SIZES = "cache-sizes",
        /// The registers of FEAT_PMUv3.
        PERFORMANCE_MONITORS = "performance-monitors",
        /// System registers with CRn 15; AArch32 ones with CRn 15, or 64 bits wide with CRm 15.
        IMPLEMENTATION_DEFINED = "implementation-defined",
        /// Nameless AArch32 registers of cp15 with CRn 0, 32 bits wide.
        RESERVED_AARCH32 = "reserved-aarch32",
    }

    /// Scope of a register under KVM.
    Scope {
        /// Each vCPU has its own.
        VCPU = "vcpu",
        /// The VM has one.
        VM = "vm",
        /// The VM has one, which keeps counting.
        VM_RUNNING = "vm-running",
    }
}

/// Converts types of the core, which know their names.
macro_rules! from_names {
    ($($source:ty => $name:ident),* $(,)?) => {$(
        impl From<$source> for $name {
            fn from(source: $source) -> Self {
                Self(source.name().into())
            }
        }
    )*};
}

from_names! {
    plan::Verdict => Verdict,
    plan::UnchangedLoad => UnchangedLoad,
    &Action => Decision,
    &ExtensionAction => Decision,
    &plan::Reason => ReasonCode,
    destination::Confidence => Confidence,
    cpreg::severity::Severity => Severity,
    destination::Accelerator => Accelerator,
    HardwareAction => HardwareDecision,
    tolerance::RegisterDifference => Difference,
    Handling => ToleranceHandling,
}

impl From<&ShapePart> for ShapePartKind {
    fn from(part: &ShapePart) -> Self {
        Self(part.kind().into())
    }
}

impl From<ValueOrigin> for ValueOriginKind {
    fn from(origin: ValueOrigin) -> Self {
        match origin {
            ValueOrigin::Reset => Self::RESET,
            ValueOrigin::Guest => Self::GUEST,
            ValueOrigin::EmulatedHost => Self::EMULATED_HOST,
        }
    }
}

impl From<&AtReset> for ResetContent {
    fn from(at_reset: &AtReset) -> Self {
        match at_reset {
            AtReset::Value(_) => Self::VALUE,
            AtReset::Poison => Self::POISON,
            AtReset::Counter => Self::COUNTER,
            AtReset::Unreadable(_) => Self::UNREADABLE,
        }
    }
}

impl RegisterClass {
    /// Returns the class of a selector; `None` if the selector lists its registers.
    pub const fn from_selector(selector: &RegisterSelector) -> Option<Self> {
        match selector {
            RegisterSelector::Ids(_) => None,
            RegisterSelector::CacheSizes => Some(Self::CACHE_SIZES),
            RegisterSelector::PerformanceMonitors => Some(Self::PERFORMANCE_MONITORS),
            RegisterSelector::ImplementationDefined => Some(Self::IMPLEMENTATION_DEFINED),
            RegisterSelector::ReservedAArch32 => Some(Self::RESERVED_AARCH32),
        }
    }
}

impl From<destination::kernel::Scope> for Scope {
    fn from(scope: destination::kernel::Scope) -> Self {
        match scope {
            destination::kernel::Scope::Vcpu => Self::VCPU,
            destination::kernel::Scope::Vm => Self::VM,
            destination::kernel::Scope::VmCounter => Self::VM_RUNNING,
        }
    }
}

#[cfg(test)]
mod tests;
