//! The real KVM: [`Kvm`] opens `/dev/kvm`; vCPUs are `kvm_ioctls::VcpuFd`, so that a VMM's own do as well.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | what can be wrong with `/dev/kvm` |
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
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod other;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod sys;

use std::fmt;

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub use arm64::{Kvm, KvmVm};
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
pub use other::{Kvm, KvmVm};

use crate::errno::{Errno, os_error};

/// There is no KVM to talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// This is no Linux on arm64.
    OtherMachine {
        /// The architecture, as Rust names it.
        architecture: &'static str,
        /// The operating system, as Rust names it.
        system: &'static str,
    },
    /// There is no `/dev/kvm`.
    Missing,
    /// `/dev/kvm` is there, and not for this user.
    Permission,
    /// KVM has another API than this program knows.
    ApiVersion(i32),
    /// Opening it failed otherwise.
    Other(Errno),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherMachine {
                architecture,
                system,
            } => {
                let architecture = match *architecture {
                    "x86_64" => "x86-64",
                    "aarch64" => "arm64",
                    other => other,
                };
                let system = match *system {
                    "linux" => "Linux",
                    "macos" => "macOS",
                    "windows" => "Windows",
                    other => other,
                };
                write!(
                    f,
                    "this machine is {architecture} {system}, not arm64 Linux: run cpreg on the arm64 host itself, or name a recorded host (`cpreg hosts`)"
                )
            }
            Self::Missing => f.write_str(
                "there is no /dev/kvm: the kernel has no KVM, or did not start at EL2 (see `dmesg | grep -i kvm`); in a VM its host has to offer nested virtualization, in a container the device has to be passed in",
            ),
            Self::Permission => f.write_str(
                "/dev/kvm may not be opened by this user: run cpreg as root or as a member of the group that owns it (often kvm)",
            ),
            Self::ApiVersion(version) => write!(
                f,
                "/dev/kvm says that its API has version {version}, and only version 12 was ever released: is it KVM's device?"
            ),
            Self::Other(errno) => write!(f, "cannot open /dev/kvm: {}", os_error(*errno)),
        }
    }
}

impl std::error::Error for OpenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_says_what_to_do() {
        let error = OpenError::OtherMachine {
            architecture: "x86_64",
            system: "linux",
        };
        let text = error.to_string();
        assert!(
            text.starts_with("this machine is x86-64 Linux, not arm64 Linux: "),
            "{text}"
        );
    }

    #[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
    #[test]
    fn there_is_no_such_host_elsewhere() {
        assert!(matches!(Kvm::open(), Err(OpenError::OtherMachine { .. })));
    }
}
