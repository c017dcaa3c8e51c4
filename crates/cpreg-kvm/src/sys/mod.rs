//! The real KVM: [`Kvm`] opens `/dev/kvm`; vCPUs are `kvm_ioctls::VcpuFd`, which VMMs use too.
//!
//! | file | content |
//! |---|---|
//! | `arm64.rs` | the host, its VMs and vCPUs; Linux on arm64 only |
//! | `identity.rs` | the kernel and CPU of the host; Linux on arm64 only |
//! | `physical_cpus.rs` | the kinds of CPU of the host; Linux on arm64 only |
//! | `fact_guest.rs` | the guest that reads hardware facts; Linux on arm64 only |
//! | `capabilities.rs` | the capabilities of KVM; Linux on arm64 only |
//! | `ioctls.rs` | ioctls; Linux on arm64 only |
//! | `step_error.rs` | errors of the steps that create a VM; Linux on arm64 only |
//! | `system_registers.rs` | registers that a process can read; Linux on arm64 only |
//! | `unsupported.rs` | the same types elsewhere, where [`Kvm::open`] returns an error |

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod arm64;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod capabilities;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod fact_guest;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod identity;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod ioctls;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod physical_cpus;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod step_error;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod system_registers;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod unsupported;

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub use arm64::{Kvm, KvmVm, read_process_facts};
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
pub use unsupported::{Kvm, KvmVm, read_process_facts};

#[cfg(all(test, not(all(target_os = "linux", target_arch = "aarch64"))))]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn open_fails_elsewhere() {
        let error = Kvm::open().expect_err("no KVM on arm64");
        assert!(matches!(
            error.kind(),
            ErrorKind::UnsupportedPlatform { .. }
        ));
    }
}
