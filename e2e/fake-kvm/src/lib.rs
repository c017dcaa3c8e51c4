//! `libe2e_fake_kvm.so`: KVM of a recorded host, inside a process and without a kernel module.
//!
//! The library is preloaded behind `libcpreg_interpose.so` and exports `ioctl`, which answers KVM's
//! requests as [`cpreg_kvm::recorded`] does. `KVM_CREATE_VM` and `KVM_CREATE_VCPU` return
//! duplicates of the descriptor on which they are called. All other requests go to the C library.
//!
//! | variable | |
//! |---|---|
//! | `FAKE_KVM_HOST` | recorded host with features: `linux-6.16.12/neoverse-n1/pmu` |
//! | `FAKE_KVM_VCPUS` | number of vCPUs of each VM |
//! | `FAKE_KVM_FAILING_WRITE` | number of the register write that fails (`EIO`), from 1 |
//!
//! Like KVM, the library refuses calls of a forked process about its parent's VM (`EIO`).
#![deny(unsafe_code)]
#![expect(unsafe_code, reason = "functions of the C library")]

mod kvm;

use std::ffi::{c_int, c_ulong, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use kvm::FakeKvm;

type Ioctl = unsafe extern "C" fn(c_int, c_ulong, *mut c_void) -> c_int;

/// Group of KVM's ioctls.
const KVMIO: u32 = 0xae;

/// Request that the library answers at once, for measurements. No device has the request.
const EMPTY_REQUEST: u32 = 0x4e00;

/// Replaces the C library's `ioctl`.
///
/// # Safety
/// As for `ioctl(2)`: the argument must be valid for the request.
#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(descriptor: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    static KVM: OnceLock<FakeKvm> = OnceLock::new();

    let number = u32::try_from(request & 0xffff_ffff).unwrap_or(0);
    if number == EMPTY_REQUEST {
        return 0;
    }
    if number >> 8 & 0xff != KVMIO {
        // SAFETY: The call is as it came.
        return unsafe { next_ioctl(descriptor, request, argument) };
    }
    let kvm = KVM.get_or_init(FakeKvm::from_environment);
    // SAFETY: The caller passes an argument that is valid for the request.
    match unsafe { kvm.ioctl(descriptor, number, argument) } {
        Ok(result) => result,
        Err(errno) => {
            // SAFETY: The C library returns the address of this thread's errno.
            unsafe { *libc::__errno_location() = errno };
            -1
        }
    }
}

/// Calls the C library's `ioctl`.
///
/// # Safety
/// As for `ioctl(2)`.
unsafe fn next_ioctl(descriptor: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

    let mut next = NEXT.load(Ordering::Acquire);
    if next.is_null() {
        // SAFETY: The name ends with a zero byte.
        next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"ioctl".as_ptr()) };
        NEXT.store(next, Ordering::Release);
    }
    // SAFETY: The pointer is that of the C library's `ioctl`. On arm64 and x86-64 Linux a function
    // receives a variable argument as any other.
    unsafe {
        let next: Ioctl = std::mem::transmute(next);
        next(descriptor, request, argument)
    }
}
