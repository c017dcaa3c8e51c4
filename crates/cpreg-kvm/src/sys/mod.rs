//! The real KVM: [`Kvm`] opens `/dev/kvm`; vCPUs are `kvm_ioctls::VcpuFd`, so that a VMM's own do as well.
//!
//! | file | what lives there |
//! |---|---|
//! | `arm64.rs` | the host, its VMs and vCPUs; Linux on arm64 only |
//! | `identity.rs` | which kernel and CPU it is; Linux on arm64 only |
//! | `capabilities.rs` | what KVM says it can do; Linux on arm64 only |
//! | `sys.rs` | two ioctls; Linux on arm64 only |
//! | `other.rs` | the same types on any other machine, where [`Kvm::open`] says why there is no such host |

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod arm64;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod capabilities;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod identity;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod ioctls;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod unsupported;

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub use arm64::{Kvm, KvmVm};
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
pub use unsupported::{Kvm, KvmVm};

#[cfg(all(test, not(all(target_os = "linux", target_arch = "aarch64"))))]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn there_is_no_such_host_elsewhere() {
        let error = Kvm::open().expect_err("no KVM on arm64");
        assert!(matches!(
            error.kind(),
            ErrorKind::UnsupportedPlatform { .. }
        ));
    }
}
