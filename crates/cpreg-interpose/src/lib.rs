//! `libcpreg_interpose.so`: cpreg's decisions inside an unmodified VMM, at its KVM calls.
//!
//! The library is preloaded into a VMM and exports `ioctl` and `close`. The calls about a vCPU's
//! registers go to [`cpreg_vcpu_filter`], and all others go to the kernel untouched. `cpreg run`
//! starts a VMM with the library. The variable `CPREG_INTERPOSE` holds the policy as JSON, or
//! `off`.
//!
//! | file | content |
//! |---|---|
//! | `exports` | the exported functions, and the start of the library |
//! | `next` | the functions that the exported ones replace |
//! | `process` | [`process::Process`]: the interposer from the first VM of a process |
//! | `interposer` | [`interposer::Interposer`]: dispatch of calls |
//! | `descriptors` | descriptors of VMs and vCPUs |
//! | `requests` | numbers of KVM's ioctls |
//! | `memory` | arguments in the VMM's memory |
//! | `kernel` | a vCPU of the kernel as [`cpreg_kvm::Vcpu`] |
//! | `log` | events on standard error, in the log, and in the memory file |
//!
//! # Decisions
//!
//! - The library calls the next `ioctl` in the search order of the dynamic linker (`dlsym` with
//!   `RTLD_NEXT`), resolved once at the start. A system call would pass over other preloaded
//!   libraries. Either way the kernel sees the same system calls, so seccomp filters need no
//!   change.
//! - The library learns descriptors from `KVM_CREATE_VM` and `KVM_CREATE_VCPU`, and forgets them at
//!   `close`. Each KVM descriptor begins with one of these calls, which overwrites a stale entry.
//!   The library finds a duplicate of a descriptor through `/proc/self/fd` when the VMM first uses
//!   it, so it need not replace `dup` and `fcntl`.
//! - A process gets an interposer when it makes its first VM. Programs that the VMM starts inherit
//!   its environment, and all their calls pass.
//! - The child of a `fork` begins without the parent's VMs. The kernel refuses calls about the
//!   parent's vCPUs (`EIO`), as without the library.
//! - A vCPU whose VM is not known does not run in a process that receives a VM or makes settings.
//! - Calls on other descriptors, and `KVM_RUN` after the first one, allocate nothing.
//! - A panic is caught. The call then goes to the kernel as it came, and the panic is logged. A
//!   vCPU's first `KVM_RUN` after a panic ends the process, because the VM was not checked.
//! - On other machines than arm64 the library passes all calls, unless the variable
//!   `CPREG_INTERPOSE_FAKE_KVM` is set. Tests set it and preload a fake KVM behind the library.
#![deny(unsafe_code)]

mod descriptors;
// A test program keeps the C library's functions.
#[cfg(not(test))]
mod exports;
mod interposer;
mod kernel;
mod log;
mod memory;
#[cfg(not(test))]
mod next;
mod process;
mod requests;
