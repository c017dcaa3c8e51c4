//! A vCPU of the kernel, and the calls to it.
#![expect(unsafe_code, reason = "ioctls take pointers")]

use std::ffi::{c_int, c_void};

use cpreg::register::RegisterId;
use cpreg_kvm::{Errno, Vcpu};

use crate::requests;

/// Calls to the kernel.
pub(crate) trait Calls {
    /// Makes an ioctl. Returns its result, or the errno.
    ///
    /// # Safety
    /// The argument must be valid for the request.
    unsafe fn ioctl(
        &self,
        descriptor: c_int,
        request: u32,
        argument: *mut c_void,
    ) -> Result<c_int, c_int>;

    /// Returns the kernel's description of an open descriptor: the target of its link in
    /// `/proc/self/fd`.
    fn describe(&self, descriptor: c_int) -> Option<String> {
        let target = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
        target.into_os_string().into_string().ok()
    }
}

/// vCPU with this descriptor.
pub(crate) struct KernelVcpu<'a, C> {
    pub(crate) calls: &'a C,
    pub(crate) descriptor: c_int,
}

/// `struct kvm_one_reg`.
#[repr(C)]
struct OneRegister {
    id: u64,
    address: u64,
}

/// Number of ids for which the first call has memory. An arm64 vCPU lists 200 to 500 registers.
const LIST_CAPACITY: usize = 1024;
/// Maximum number of ids in a list.
const MAX_LIST_LEN: usize = 1 << 17;

impl<C: Calls> KernelVcpu<'_, C> {
    /// Makes an ioctl.
    ///
    /// # Safety
    /// As for [`Calls::ioctl`].
    unsafe fn call(&self, request: u32, argument: *mut c_void) -> Result<(), Errno> {
        // SAFETY: The caller fulfils the conditions.
        let result = unsafe { self.calls.ioctl(self.descriptor, request, argument) };
        result
            .map(|_| ())
            .map_err(|errno| Errno(u16::try_from(errno).unwrap_or(u16::MAX)))
    }
}

impl<C: Calls> Vcpu for KernelVcpu<'_, C> {
    fn list(&self) -> Result<Vec<RegisterId>, Errno> {
        let mut capacity = LIST_CAPACITY;
        loop {
            let mut list = vec![0_u64; capacity + 1];
            list[0] = capacity as u64;
            // SAFETY: The first word is the number of words that follow it.
            let result = unsafe { self.call(requests::GET_REG_LIST, list.as_mut_ptr().cast()) };
            let count = usize::try_from(list[0]).unwrap_or(usize::MAX);
            match result {
                Ok(()) => {
                    let ids = list.into_iter().skip(1).take(count);
                    return Ok(ids.map(RegisterId::from_raw).collect());
                }
                Err(Errno::E2BIG) if count > capacity && count <= MAX_LIST_LEN => {
                    capacity = count;
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    fn get(&self, id: RegisterId, bytes: &mut [u8]) -> Result<(), Errno> {
        if id.size_bytes() != Some(bytes.len()) {
            return Err(Errno::EINVAL);
        }
        let mut register = OneRegister {
            id: id.raw(),
            address: bytes.as_mut_ptr().expose_provenance() as u64,
        };
        // SAFETY: The kernel writes as many bytes as the id names, which is the length of `bytes`.
        unsafe { self.call(requests::GET_ONE_REG, (&raw mut register).cast()) }
    }

    fn set(&self, id: RegisterId, bytes: &[u8]) -> Result<(), Errno> {
        if id.size_bytes() != Some(bytes.len()) {
            return Err(Errno::EINVAL);
        }
        let mut register = OneRegister {
            id: id.raw(),
            address: bytes.as_ptr().expose_provenance() as u64,
        };
        // SAFETY: The kernel reads as many bytes as the id names, which is the length of `bytes`.
        unsafe { self.call(requests::SET_ONE_REG, (&raw mut register).cast()) }
    }

    fn finalize_sve(&self) -> Result<(), Errno> {
        /// `KVM_ARM_VCPU_SVE`.
        const SVE: c_int = 4;
        let mut feature = SVE;
        // SAFETY: The kernel reads the number of the feature.
        unsafe { self.call(requests::ARM_VCPU_FINALIZE, (&raw mut feature).cast()) }
    }
}
