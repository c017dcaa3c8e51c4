//! The operations on a host, a VM and a vCPU that this crate needs: [`Host`], [`Vm`], [`Vcpu`].
//!
//! [`crate::sys`] implements the traits for the real KVM. [`crate::recorded`] implements them for a
//! recorded host, with which a VMM author can test on any machine. The VMM owns the guest's memory
//! and devices, and runs the guest.

use cpreg::destination::Features;
use cpreg::hardware::HardwareFacts;
use cpreg::register::RegisterId;
use cpreg_hosts::fact_program::ProgramState;
use cpreg_hosts::record::{Capabilities, Identity};

use crate::errno::Errno;
use crate::error::Error;

/// A host with KVM.
pub trait Host {
    /// VM of this host.
    type Vm: Vm;

    /// Returns the kernel and CPU of the host.
    fn identity(&self) -> Identity;

    /// Returns the capabilities of KVM (`KVM_CHECK_EXTENSION`).
    fn capabilities(&self) -> Capabilities;

    /// Returns the properties that guests see and that no register list holds, as far as a process
    /// can read them.
    fn hardware(&self) -> HardwareFacts;

    /// Runs [`FactProgram`](cpreg_hosts::fact_program::FactProgram) in a VM with these features,
    /// and returns the program's state when the vCPU stops.
    ///
    /// # Errors
    /// Returns the step that failed, and its errno.
    fn run_fact_program(&self, features: Features) -> Result<ProgramState, Error>;

    /// Creates a VM without memory, in the way in which a VMM creates its own.
    ///
    /// The vCPUs are initialised with these features, and SVE is not finalized. The VM has an
    /// initialised in-kernel GICv3 and, with [`Features::PMU`], an initialised PMU.
    ///
    /// # Errors
    /// Returns the step that failed, and its errno.
    fn create_vm(&self, features: Features, vcpus: usize) -> Result<Self::Vm, Error>;
}

/// VM of a host.
pub trait Vm {
    /// vCPU of this VM.
    type Vcpu: Vcpu;

    /// Returns the vCPUs in the order of their numbers.
    fn vcpus(&self) -> &[Self::Vcpu];

    /// Returns the bits of each ID register that user space may change, ascending by register.
    ///
    /// Returns `None` if the kernel does not report the bits (`KVM_ARM_GET_REG_WRITABLE_MASKS`,
    /// v6.7, 3f9cd0ca8484).
    ///
    /// # Errors
    /// Returns the kernel's errno if the kernel claims to report the bits and fails.
    fn writable_masks(&self) -> Result<Option<Vec<(RegisterId, u64)>>, Errno>;
}

/// vCPU, initialised (`KVM_ARM_VCPU_INIT`) and not running.
pub trait Vcpu {
    /// Returns all registers that KVM lists (`KVM_GET_REG_LIST`), in KVM's order.
    ///
    /// # Errors
    /// [`Errno::EPERM`] for a vCPU with SVE that is not finalized.
    fn list(&self) -> Result<Vec<RegisterId>, Errno>;

    /// Reads a register (`KVM_GET_ONE_REG`) into `bytes`, least significant byte first.
    ///
    /// `bytes` must have the length [`RegisterId::size_bytes`].
    ///
    /// # Errors
    /// Returns the kernel's errno.
    fn get(&self, id: RegisterId, bytes: &mut [u8]) -> Result<(), Errno>;

    /// Writes a register (`KVM_SET_ONE_REG`) from `bytes`, as [`Self::get`] reads it.
    ///
    /// # Errors
    /// Returns the kernel's errno.
    fn set(&self, id: RegisterId, bytes: &[u8]) -> Result<(), Errno>;

    /// Finalizes SVE (`KVM_ARM_VCPU_FINALIZE`): fixes the vector lengths and creates SVE's
    /// registers.
    ///
    /// # Errors
    /// Returns the kernel's errno: [`Errno::EPERM`] if SVE is already finalized, [`Errno::EINVAL`]
    /// for a vCPU without SVE.
    fn finalize_sve(&self) -> Result<(), Errno>;
}
