//! The guest that reads hardware facts: [`FactProgram`] in a VM of its own.
#![expect(unsafe_code, reason = "KVM takes the address of the guest's memory")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cpreg::register::RegisterId;
use cpreg_hosts::fact_program::{FactProgram, ProgramState};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{DeviceFd, VcpuExit, VcpuFd, VmFd};
use memmap2::MmapMut;

use super::step_error::create_error;
use crate::errno;
use crate::error::{Error, ErrorKind};
use crate::host::Vcpu as _;

/// Physical address of the program in the guest.
const PROGRAM_ADDRESS: u64 = 0x4000_0000;
/// Time that the program may take. It executes some hundred instructions, of which about 20 exit
/// to KVM.
const RUN_TIMEOUT: Duration = Duration::from_secs(10);
/// Errno of an interrupted system call.
const EINTR: i32 = 4;
/// Maximum number of exits to this process. The program causes one.
const MAX_EXITS: usize = 16;

/// Guest that reads hardware facts.
struct FactGuest {
    // Rust drops fields in order: the VM does not use the memory after the VM is closed.
    vcpu: VcpuFd,
    _gic: DeviceFd,
    vm: VmFd,
    memory: MmapMut,
}

/// Runs the program on the vCPU of a new VM, and returns the program's state.
///
/// # Errors
/// Returns an error if the VM gets no memory, or the vCPU cannot run.
pub(super) fn run(
    vm: VmFd,
    gic: DeviceFd,
    vcpu: VcpuFd,
    distributor: u64,
) -> Result<ProgramState, Error> {
    let memory = MmapMut::map_anon(FactProgram::MEMORY_LEN).map_err(|error| {
        let errno = errno::from_raw(error.raw_os_error().unwrap_or(0));
        ErrorKind::Create {
            step: "mmap",
            errno,
        }
    })?;
    let mut guest = FactGuest {
        vcpu,
        _gic: gic,
        vm,
        memory,
    };
    let program = FactProgram::new(Some(distributor));
    guest.memory[..program.code().len()].copy_from_slice(program.code());
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: PROGRAM_ADDRESS,
        memory_size: FactProgram::MEMORY_LEN as u64,
        userspace_addr: guest.memory.as_mut_ptr().expose_provenance() as u64,
    };
    // SAFETY: The region is a mapping of that length, which no Rust code accesses while the vCPU
    // runs. `FactGuest` unmaps it after the VM is closed, because Rust drops fields in order.
    unsafe { guest.vm.set_user_memory_region(region) }
        .map_err(create_error("KVM_SET_USER_MEMORY_REGION"))?;
    guest
        .vcpu
        .set(RegisterId::CORE_PC, &PROGRAM_ADDRESS.to_le_bytes())
        .map_err(|errno| ErrorKind::Create {
            step: "KVM_SET_ONE_REG (PC)",
            errno,
        })?;
    // A vCPU that does not stop keeps its thread. The process does not wait for the thread.
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(guest.run()));
    receiver
        .recv_timeout(RUN_TIMEOUT)
        .unwrap_or(Ok(ProgramState::Running))
}

impl FactGuest {
    /// Runs the vCPU until the program has ended.
    fn run(mut self) -> Result<ProgramState, Error> {
        for _ in 0..MAX_EXITS {
            match self.vcpu.run() {
                Ok(VcpuExit::Intr) => {}
                // A signal interrupted the call.
                Err(error) if error.errno() == EINTR => {}
                Ok(_) => break,
                Err(error) => return Err(create_error("KVM_RUN")(error)),
            }
        }
        let results = &self.memory[FactProgram::RESULTS_OFFSET..];
        Ok(ProgramState::from_results(
            &results[..FactProgram::RESULTS_LEN],
        ))
    }
}
