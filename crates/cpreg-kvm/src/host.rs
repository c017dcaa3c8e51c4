//! The few operations on a host, a VM and a vCPU that everything here is made of: [`Host`], [`Vm`], [`Vcpu`].
//!
//! The real KVM implements them, and so does a recorded host that behaves as its record says, so that a VMM's author can test on any
//! machine what is done with them. Guests' memory, devices and running are the VMM's own.

use cpreg::destination::Features;
use cpreg::register::RegisterId;
use cpreg_hosts::record::{Capabilities, Identity};

use crate::errno::Errno;
use crate::error::Error;

/// A host with KVM.
pub trait Host {
    /// Its VMs.
    type Vm: Vm;

    /// Which kernel and CPU it is.
    fn identity(&self) -> Identity;

    /// What it says it can do (`KVM_CHECK_EXTENSION`).
    fn capabilities(&self) -> Capabilities;

    /// Makes a VM that is never run: its vCPUs initialised with these features and not finalized, an in-kernel GICv3 initialised,
    /// and with [`Features::PMU`] the PMU as well. A VMM does the same with its own VM.
    ///
    /// # Errors
    /// Which step failed, and how.
    fn create_vm(&self, features: Features, vcpus: usize) -> Result<Self::Vm, Error>;
}

/// A VM of that host.
pub trait Vm {
    /// Its vCPUs.
    type Vcpu: Vcpu;

    /// Its vCPUs, in the order of their numbers.
    fn vcpus(&self) -> &[Self::Vcpu];

    /// For each ID register the bits that user space may change (`KVM_ARM_GET_REG_WRITABLE_MASKS`, v6.7, 3f9cd0ca8484), ascending
    /// by register; `None` where the kernel does not tell.
    ///
    /// # Errors
    /// What the kernel answered, where it should have told.
    fn writable_masks(&self) -> Result<Option<Vec<(RegisterId, u64)>>, Errno>;
}

/// A vCPU, initialised (`KVM_ARM_VCPU_INIT`) and not running.
pub trait Vcpu {
    /// The registers that KVM lists (`KVM_GET_REG_LIST`), in its order, however many.
    ///
    /// # Errors
    /// [`Errno::EPERM`] for a vCPU with SVE that is not finalized.
    fn list(&self) -> Result<Vec<RegisterId>, Errno>;

    /// Reads a register (`KVM_GET_ONE_REG`) into `bytes`, least significant first; there must be as many as
    /// [`RegisterId::size_bytes`] says.
    ///
    /// # Errors
    /// What the kernel answered.
    fn get(&self, id: RegisterId, bytes: &mut [u8]) -> Result<(), Errno>;

    /// Writes a register (`KVM_SET_ONE_REG`) from `bytes`, as [`Self::get`] reads it.
    ///
    /// # Errors
    /// What the kernel answered.
    fn set(&self, id: RegisterId, bytes: &[u8]) -> Result<(), Errno>;

    /// Fixes SVE's vector lengths (`KVM_ARM_VCPU_FINALIZE`), after which its registers exist.
    ///
    /// # Errors
    /// What the kernel answered: [`Errno::EPERM`] if it is done already, [`Errno::EINVAL`] without SVE.
    fn finalize_sve(&self) -> Result<(), Errno>;
}
