//! KVM's calls, as a VMM makes them.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_ulong, c_void};
use std::fs::File;
use std::os::fd::IntoRawFd as _;

const CREATE_VM: c_ulong = 0xae01;
const CREATE_VCPU: c_ulong = 0xae41;
const RUN: c_ulong = 0xae80;
const SET_MP_STATE: c_ulong = 0x4004_ae99;
const GET_ONE_REG: c_ulong = 0x4010_aeab;
const SET_ONE_REG: c_ulong = 0x4010_aeac;
const ARM_VCPU_INIT: c_ulong = 0x4020_aeae;
const GET_REG_LIST: c_ulong = 0xc008_aeb0;

/// Highest descriptor that a child closes.
const LAST_DESCRIPTOR: c_int = 1023;

/// Values of one vCPU by id.
pub(crate) type Values = BTreeMap<u64, u64>;

/// VM with its vCPUs.
pub(crate) struct VmHandle {
    kvm: c_int,
    vm: c_int,
    pub(crate) vcpus: Vec<Vcpu>,
}

/// vCPU with this descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Vcpu(pub(crate) c_int);

impl VmHandle {
    /// Creates a VM and its vCPUs.
    pub(crate) fn create(vcpus: usize) -> Self {
        let kvm = File::open("/dev/null").expect("a descriptor").into_raw_fd();
        let vm = call_with_number(kvm, CREATE_VM, 0);
        assert!(vm >= 0, "{}", std::io::Error::last_os_error());
        let vcpus = (0..vcpus).map(|number| call_with_number(vm, CREATE_VCPU, number));
        Self {
            kvm,
            vm,
            vcpus: vcpus.map(Vcpu).collect(),
        }
    }

    /// Closes all descriptors.
    pub(crate) fn close(self) {
        let vcpus = self.vcpus.iter().map(|vcpu| vcpu.0);
        for descriptor in vcpus.chain([self.vm, self.kvm]) {
            // SAFETY: The descriptor belongs to the VM, which nothing uses afterwards.
            assert_eq!(unsafe { libc::close(descriptor) }, 0);
        }
    }
}

impl Vcpu {
    pub(crate) fn initialize(self) {
        let mut init = [0_u32; 8];
        assert_eq!(self.call(ARM_VCPU_INIT, init.as_mut_ptr().cast()), 0);
    }

    /// Returns the ids that fit QEMU's list, ascending.
    pub(crate) fn list(self) -> Vec<u64> {
        let mut length = [0_u64];
        // QEMU learns the length from a call that fails.
        assert_eq!(self.call(GET_REG_LIST, length.as_mut_ptr().cast()), -1);
        let capacity = usize::try_from(length[0]).expect("a length");
        let mut words = vec![0; capacity + 1];
        words[0] = length[0];
        assert_eq!(self.call(GET_REG_LIST, words.as_mut_ptr().cast()), 0);
        let mut list: Vec<_> = words.drain(1..).filter(|id| is_in_list(*id)).collect();
        list.sort_unstable();
        list
    }

    pub(crate) fn get(self, id: u64) -> u64 {
        let mut value = 0;
        let result = self.access(GET_ONE_REG, id, &mut value);
        assert_eq!(result, 0, "{id:#x}: {}", std::io::Error::last_os_error());
        value
    }

    /// Writes a register. Returns `true` if the call succeeds.
    pub(crate) fn set(self, id: u64, mut value: u64) -> bool {
        self.access(SET_ONE_REG, id, &mut value) == 0
    }

    /// Sets the state of the vCPU and runs it. Returns `true` if both calls succeed.
    pub(crate) fn run(self) -> bool {
        let mut state = [0_u32];
        self.call(SET_MP_STATE, state.as_mut_ptr().cast()) == 0 && self.enter()
    }

    /// Runs the vCPU. Returns `true` if the call succeeds.
    pub(crate) fn enter(self) -> bool {
        self.call(RUN, std::ptr::null_mut()) == 0
    }

    fn access(self, request: c_ulong, id: u64, value: &mut u64) -> c_int {
        let mut argument = [id, (&raw mut *value).expose_provenance() as u64];
        self.call(request, argument.as_mut_ptr().cast())
    }

    /// Makes a call whose argument is memory that is valid for the request.
    pub(crate) fn call(self, request: c_ulong, argument: *mut c_void) -> c_int {
        // SAFETY: The callers pass memory that is valid for the request.
        unsafe { libc::ioctl(self.0, request, argument) }
    }
}

/// Returns `true` if QEMU has the register in its list: at most 64 bits wide, and not a core
/// register.
fn is_in_list(id: u64) -> bool {
    const CORE: u64 = 0x0010;
    let size = id >> 52 & 0xf;
    let group = id >> 16 & 0xffff;
    (2..=3).contains(&size) && group != CORE
}

fn call_with_number(descriptor: c_int, request: c_ulong, number: usize) -> c_int {
    // SAFETY: The argument is a number.
    unsafe { libc::ioctl(descriptor, request, number) }
}

/// Forks. The child closes all descriptors but the first three, and ends. Returns its status.
pub(crate) fn fork_and_close() -> c_int {
    // SAFETY: The child calls only functions that are safe after `fork`: `close` and `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        for descriptor in 3..=LAST_DESCRIPTOR {
            // SAFETY: The child uses no descriptor afterwards.
            unsafe { libc::close(descriptor) };
        }
        // SAFETY: The function has no conditions.
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0, "{}", std::io::Error::last_os_error());
    let mut status = -1;
    // SAFETY: The status is valid memory.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    status
}
