//! [`LoadEvent`]: messages and actions of a loader during a load.

use alloc::borrow::Cow;

use crate::register::{RegisterId, Value};

/// Event of a load: a message or an action of the loader. `vcpu` counts from zero.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadEvent {
    /// The input's list is longer than the loader's.
    TooManyRegisters {
        /// Number of the vCPU.
        vcpu: usize,
        /// Number of registers in the input.
        incoming: usize,
        /// Number of registers in the loader's list.
        listed: usize,
    },
    /// The loader reports a register that only the input has as a failure.
    OnlyInInput {
        /// Number of the vCPU.
        vcpu: usize,
        /// The register.
        id: RegisterId,
    },
    /// The loader reports a register that only the destination has as a warning.
    OnlyAtDestination {
        /// Number of the vCPU.
        vcpu: usize,
        /// The register.
        id: RegisterId,
    },
    /// A write was refused because of the value.
    ValueNotTaken {
        /// Number of the vCPU.
        vcpu: usize,
        /// The register.
        id: RegisterId,
        /// The written value.
        value: Value,
        /// The register's current value.
        current: Option<Value>,
    },
    /// A write was refused because an earlier write hid the register.
    RegisterHidden {
        /// Number of the vCPU.
        vcpu: usize,
        /// The register.
        id: RegisterId,
    },
    /// The loader aborts on a subsection.
    AbortOnSubsection {
        /// Number of the vCPU.
        vcpu: usize,
        /// Name of the subsection.
        name: Cow<'static, str>,
    },
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
    /// Writing all registers after the last section failed, which ends the program.
    PutFailed,
}

/// Step of loading one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadStep {
    /// Reading the fields.
    Fields,
    /// Loading the registers.
    Registers,
    /// Reading a subsection that the loader does not know.
    Extension(Cow<'static, str>),
}
