//! The types for any platform but Linux on arm64, where they have no values.

use std::convert::Infallible;

use cpreg::destination::Features;
use cpreg::hardware::HardwareFacts;
use cpreg::register::RegisterId;
use cpreg_hosts::fact_program::ProgramState;
use cpreg_hosts::record::{Capabilities, Identity};

use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::host::{Host, Vcpu, Vm};

/// KVM of this host; not available on this platform.
#[derive(Debug)]
pub struct Kvm(Infallible);

/// VM of this host; not available on this platform.
#[derive(Debug)]
pub struct KvmVm(Infallible);

/// vCPU of this host; not available on this platform.
#[derive(Debug)]
pub struct KvmVcpu(Infallible);

impl Kvm {
    /// Opens `/dev/kvm`.
    ///
    /// # Errors
    /// Always [`ErrorKind::UnsupportedPlatform`] on this platform.
    pub fn open() -> Result<Self, Error> {
        Err(ErrorKind::UnsupportedPlatform {
            architecture: std::env::consts::ARCH,
            system: std::env::consts::OS,
        }
        .into())
    }

    /// Returns `true` if KVM refuses to make an interrupt controller of this version.
    pub fn refuses_gic(&self, _: u8) -> bool {
        match self.0 {}
    }
}

/// Returns `None`: only Linux on arm64 shows the properties to a process.
pub const fn read_process_facts() -> Option<HardwareFacts> {
    None
}

impl Host for Kvm {
    type Vm = KvmVm;

    fn identity(&self) -> Identity {
        match self.0 {}
    }

    fn capabilities(&self) -> Capabilities {
        match self.0 {}
    }

    fn hardware(&self) -> HardwareFacts {
        match self.0 {}
    }

    fn run_fact_program(&self, _: Features) -> Result<ProgramState, Error> {
        match self.0 {}
    }

    fn create_vm(&self, _: Features, _: usize) -> Result<Self::Vm, Error> {
        match self.0 {}
    }
}

impl Vm for KvmVm {
    type Vcpu = KvmVcpu;

    fn vcpus(&self) -> &[Self::Vcpu] {
        match self.0 {}
    }

    fn writable_masks(&self) -> Result<Option<Vec<(RegisterId, u64)>>, Errno> {
        match self.0 {}
    }
}

impl Vcpu for KvmVcpu {
    fn list(&self) -> Result<Vec<RegisterId>, Errno> {
        match self.0 {}
    }

    fn get(&self, _: RegisterId, _: &mut [u8]) -> Result<(), Errno> {
        match self.0 {}
    }

    fn set(&self, _: RegisterId, _: &[u8]) -> Result<(), Errno> {
        match self.0 {}
    }

    fn finalize_sve(&self) -> Result<(), Errno> {
        match self.0 {}
    }
}
