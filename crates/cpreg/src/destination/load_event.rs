//! [`LoadEvent`]: messages and actions of a loader during a load.

use alloc::borrow::Cow;

use crate::errno::Errno;
use crate::register::{RegisterId, Value};

/// Event of a load: a message or an action of the loader. vCPU numbers count from zero.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadEvent {
    /// The input lists more registers than the loader.
    TooManyRegisters {
        /// Number of the vCPU.
        vcpu: usize,
        /// Number of registers in the input.
        incoming: usize,
        /// Number of registers in the loader's list.
        listed: usize,
    },
    /// The loader reports a register that only the source has as a failure.
    SourceOnly {
        /// Number of the vCPU.
        vcpu: usize,
        /// The register.
        id: RegisterId,
    },
    /// The loader reports a register that only the destination has as a warning.
    DestinationOnly {
        /// Number of the vCPU.
        vcpu: usize,
        /// The register.
        id: RegisterId,
    },
    /// KVM refused a write because of the value.
    ValueNotAccepted {
        /// Number of the vCPU.
        vcpu: usize,
        /// The register.
        id: RegisterId,
        /// The written value.
        value: Value,
        /// Value that the register keeps, if known.
        current: Option<Value>,
    },
    /// KVM refused a write because an earlier write hid the register.
    RegisterHidden {
        /// Number of the vCPU.
        vcpu: usize,
        /// The register.
        id: RegisterId,
    },
    /// KVM refused a write, which ends the load of Firecracker and Cloud Hypervisor.
    WriteFailed {
        /// Number of the vCPU.
        vcpu: usize,
        /// The register.
        id: RegisterId,
        /// The written value.
        value: Value,
        /// Error of KVM.
        errno: Errno,
    },
    /// The counter frequency of the host differs from that in the input, which ends the load of
    /// Cloud Hypervisor.
    CounterFrequency {
        /// Frequency in the input, in Hz.
        saved: u32,
        /// Frequency of the host, in Hz.
        host: u32,
    },
    /// The loader aborts on a subsection.
    AbortOnSubsection {
        /// Number of the vCPU.
        vcpu: usize,
        /// Name of the subsection.
        name: Cow<'static, str>,
    },
    /// The loader aborts when KVM refuses ICC_CTLR_EL1 of the VM's GICv3.
    AbortOnGic,
    /// The loader aborts when it writes a register.
    AbortOnWrite {
        /// Number of the vCPU.
        vcpu: usize,
        /// The register.
        id: RegisterId,
    },
    /// The section of this vCPU did not load.
    SectionFailed {
        /// Number of the vCPU.
        vcpu: usize,
    },
    /// The load as a whole failed.
    LoadFailed {
        /// Number of the vCPU whose section failed.
        vcpu: usize,
        /// Step that failed.
        step: LoadStep,
    },
    /// The write of all registers after the last section failed, and the loader exits.
    PutFailed,
}

/// Step of loading one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadStep {
    /// Reading the fields of the section, which include the length of the register list.
    Fields,
    /// Loading the list of registers.
    Registers,
    /// Reading a subsection that the loader does not know.
    Extension(Cow<'static, str>),
}

impl LoadEvent {
    /// Returns the vCPU of an event that only the ids in both lists decide, or `None` for another
    /// event.
    pub(super) const fn vcpu_of_list(&self) -> Option<usize> {
        match self {
            Self::SourceOnly { vcpu, .. } | Self::DestinationOnly { vcpu, .. } => Some(*vcpu),
            _ => None,
        }
    }

    /// Returns the [event of lists](Self::vcpu_of_list) for another vCPU with the same lists.
    pub(super) fn repeat_for(&self, vcpu: usize) -> Self {
        match self {
            Self::SourceOnly { id, .. } => Self::SourceOnly { vcpu, id: *id },
            Self::DestinationOnly { id, .. } => Self::DestinationOnly { vcpu, id: *id },
            other => other.clone(),
        }
    }
}
