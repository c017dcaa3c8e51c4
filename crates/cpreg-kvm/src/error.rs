//! [`Error`]: a failed query of KVM, or a VM that cannot be created, saved or loaded.
//!
//! [`crate::errno`] has the meanings of the kernel's errors.

use std::borrow::Cow;
use std::fmt;

use cpreg::destination::Features;
use cpreg::hardware::HardwareFact;
use cpreg::plan::PlanOutcome;
use cpreg::register::{RegisterId, Value};

use crate::errno::{
    Errno, describe_finalize_error, describe_list_error, describe_read_error, describe_write_error,
    to_io_error,
};

/// Error of an operation on a host, a VM or a vCPU.
///
/// `Display` prints one line without the values of pointer-authentication keys, which are the
/// guest's secrets. The line does not contain the hint: see [`Error::hint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
}

/// The kind of an [`Error`], with details for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The platform is not Linux on arm64.
    UnsupportedPlatform {
        /// Architecture, as Rust names it.
        architecture: &'static str,
        /// Operating system, as Rust names it.
        system: &'static str,
    },
    /// `/dev/kvm` does not exist.
    Missing,
    /// `/dev/kvm` exists, but this user may not open it.
    Permission,
    /// KVM has another API version than this program supports.
    ApiVersion(i32),
    /// Opening `/dev/kvm` failed for another reason.
    Open(Errno),
    /// A VM could not be created.
    Create {
        /// Step that failed, as the name of its ioctl: `KVM_CREATE_VM`.
        step: &'static str,
        /// The kernel's errno.
        errno: Errno,
    },
    /// A guest with these features could not be probed.
    Probe {
        /// The guest's features.
        features: Features,
        /// Underlying error.
        cause: Box<Error>,
    },
    /// SVE of a probed guest could not be finalized.
    Finalize(Errno),
    /// A guest reads another value than this process.
    ContradictoryFacts {
        /// The fact.
        fact: HardwareFact,
        /// Value that this process reads.
        process: u64,
        /// Value that the guest reads.
        guest: u64,
    },
    /// KVM did not list a vCPU's registers.
    List {
        /// Number of the vCPU in a save, or `None` in a probe.
        vcpu: Option<usize>,
        /// The kernel's errno.
        errno: Errno,
    },
    /// The kernel claims to report the writable bits of ID registers, but the query failed.
    Masks(Errno),
    /// A listed register could not be read.
    Read {
        /// Number of the vCPU, from 0.
        vcpu: usize,
        /// The register.
        register: RegisterId,
        /// The kernel's errno.
        errno: Errno,
    },
    /// The plan is refused or unknown.
    NotReady(PlanOutcome),
    /// The VM has another number of vCPUs than the plan.
    VcpuCount {
        /// Number in the plan.
        plan: usize,
        /// Number in the VM.
        vm: usize,
    },
    /// The plan loads an extension, which is not a register.
    Extension {
        /// Number of the vCPU, from 0.
        vcpu: usize,
        /// The extension's name.
        name: Cow<'static, str>,
    },
    /// A value has another width than its register.
    Width {
        /// Number of the vCPU, from 0.
        vcpu: usize,
        /// The register.
        register: RegisterId,
        /// The value.
        value: Value,
    },
    /// The plan has different values for a register that the VM has once.
    ConflictingValues {
        /// The register.
        register: RegisterId,
        /// Numbers of two vCPUs with different values.
        vcpus: [usize; 2],
    },
    /// KVM refused a write.
    Refused(Box<RefusedWrite>),
    /// SVE of a vCPU could not be finalized during a load.
    FinalizeLoaded {
        /// Number of the vCPU, from 0.
        vcpu: usize,
        /// The kernel's errno.
        errno: Errno,
        /// Number of registers written earlier in the load.
        written_registers: usize,
    },
    /// A register that was written could not be read back.
    ReadBack {
        /// Number of the vCPU, from 0.
        vcpu: usize,
        /// The register.
        register: RegisterId,
        /// The kernel's errno.
        errno: Errno,
    },
}

/// A write that KVM refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedWrite {
    /// Number of the vCPU, from 0.
    pub vcpu: usize,
    /// The register.
    pub register: RegisterId,
    /// The value that was written.
    pub written_value: Value,
    /// Value that the register holds, or the errno of the failed read.
    pub current_value: Result<Value, Errno>,
    /// Errno of the write.
    pub errno: Errno,
    /// Number of registers written earlier in the load.
    pub written_registers: usize,
}

impl RefusedWrite {
    /// Returns the meaning of the errno of the write.
    pub fn meaning(&self) -> &'static str {
        describe_write_error(self.errno, self.register)
    }
}

/// Hint for a VM to which no register was written.
const UNTOUCHED_HINT: &str = "Do not run the VM's vCPUs: they hold no guest.";
/// Hint for a VM to which some registers were written.
const HALF_LOADED_HINT: &str =
    "Do not run any of its vCPUs; create a new VM, or resume the guest at the source.";

impl Error {
    /// Returns the kind of the error.
    pub const fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Returns the hint for the user, if there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.kind {
            ErrorKind::UnsupportedPlatform { .. } => {
                Some("run cpreg on the arm64 host, or name a recorded host (`cpreg hosts`)")
            }
            ErrorKind::Missing => Some(
                "the kernel has no KVM, or did not start at EL2 (see `dmesg | grep -i kvm`). A VM \
                 needs nested virtualization on its host, a container needs the device passed in",
            ),
            ErrorKind::Permission => {
                Some("run cpreg as root or as a member of the group of the device (often kvm)")
            }
            ErrorKind::ApiVersion(_) => Some("check that /dev/kvm is KVM's device"),
            ErrorKind::ContradictoryFacts { .. } => Some(
                "if the CPUs of this host differ (big.LITTLE), run the command on CPUs of one kind, \
                 with `taskset`",
            ),
            ErrorKind::Open(_)
            | ErrorKind::Create { .. }
            | ErrorKind::Probe { .. }
            | ErrorKind::Finalize(_)
            | ErrorKind::List { .. }
            | ErrorKind::Masks(_)
            | ErrorKind::Read { .. } => None,
            ErrorKind::ReadBack { .. } => Some(
                "Do not run the VM's vCPUs; create a new VM, or resume the guest at the source.",
            ),
            _ if self.is_vm_untouched() => Some(UNTOUCHED_HINT),
            _ => Some(HALF_LOADED_HINT),
        }
    }

    /// Returns the error and its hint as one text, for programs with one message.
    pub fn to_string_with_hint(&self) -> String {
        match self.hint() {
            // A hint that is a sentence follows the error as a sentence. Other hints continue the
            // error's line.
            Some(hint) if hint.ends_with('.') => format!("{self} {hint}"),
            Some(hint) => format!("{self}: {hint}"),
            None => self.to_string(),
        }
    }

    /// Returns `true` if no register of the VM was written by the load.
    ///
    /// SVE of its vCPUs may have been finalized.
    pub fn is_vm_untouched(&self) -> bool {
        match &self.kind {
            ErrorKind::Refused(refused) => refused.written_registers == 0,
            ErrorKind::FinalizeLoaded {
                written_registers, ..
            } => *written_registers == 0,
            ErrorKind::ReadBack { .. } => false,
            _ => true,
        }
    }

    /// Returns the kernel's errno, if a system call failed.
    pub fn errno(&self) -> Option<Errno> {
        self.errno_ref().copied()
    }

    fn errno_ref(&self) -> Option<&Errno> {
        match &self.kind {
            ErrorKind::Open(errno)
            | ErrorKind::Create { errno, .. }
            | ErrorKind::Finalize(errno)
            | ErrorKind::List { errno, .. }
            | ErrorKind::Masks(errno)
            | ErrorKind::Read { errno, .. }
            | ErrorKind::FinalizeLoaded { errno, .. }
            | ErrorKind::ReadBack { errno, .. } => Some(errno),
            ErrorKind::Refused(refused) => Some(&refused.errno),
            ErrorKind::Probe { cause, .. } => cause.errno_ref(),
            ErrorKind::UnsupportedPlatform { .. }
            | ErrorKind::Missing
            | ErrorKind::Permission
            | ErrorKind::ApiVersion(_)
            | ErrorKind::ContradictoryFacts { .. }
            | ErrorKind::NotReady(_)
            | ErrorKind::VcpuCount { .. }
            | ErrorKind::Extension { .. }
            | ErrorKind::Width { .. }
            | ErrorKind::ConflictingValues { .. } => None,
        }
    }

    /// Adds the features of the probed guest.
    pub(crate) fn with_probe_features(self, features: Features) -> Self {
        let cause = Box::new(self);
        ErrorKind::Probe { features, cause }.into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ErrorKind::Probe { cause, .. } => Some(cause),
            _ => self.errno_ref().map(|errno| errno as _),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::UnsupportedPlatform { .. }
            | ErrorKind::Missing
            | ErrorKind::Permission
            | ErrorKind::ApiVersion(_)
            | ErrorKind::Open(_) => self.fmt_open(f),
            ErrorKind::Create { step, errno } => {
                write!(f, "cannot create a VM: {step}: {}", to_io_error(*errno))
            }
            ErrorKind::Probe { features, cause } => {
                write!(f, "a guest with the features {features}: {cause}")
            }
            ErrorKind::Finalize(errno) => {
                write!(f, "cannot finalize SVE: {}", to_io_error(*errno))
            }
            ErrorKind::ContradictoryFacts {
                fact,
                process,
                guest,
            } => {
                let name = match fact {
                    HardwareFact::VectorLengths => "the SVE vector lengths",
                    _ => fact.register(),
                };
                write!(
                    f,
                    "a guest reads {guest:#x} in {name}, and this process {process:#x}"
                )
            }
            ErrorKind::List { vcpu, errno } => {
                if let Some(vcpu) = vcpu {
                    write!(f, "vCPU {vcpu}: ")?;
                }
                let (error, meaning) = (to_io_error(*errno), describe_list_error(*errno));
                write!(f, "KVM does not list its registers: {error}: {meaning}")
            }
            ErrorKind::Masks(errno) => write!(
                f,
                "KVM does not report the writable bits of ID registers: {}",
                to_io_error(*errno)
            ),
            ErrorKind::Read {
                vcpu,
                register,
                errno,
            } => write!(
                f,
                "vCPU {vcpu}: {register} ({:#018x}) is listed but cannot be read: {}: {}",
                register.raw(),
                to_io_error(*errno),
                describe_read_error(*errno)
            ),
            _ => self.fmt_load(f),
        }
    }
}

impl Error {
    /// Formats an error of opening KVM.
    fn fmt_open(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::UnsupportedPlatform {
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
                    "this machine is {architecture} {system}, not arm64 Linux"
                )
            }
            ErrorKind::Missing => f.write_str("/dev/kvm does not exist"),
            ErrorKind::Permission => f.write_str("this user may not open /dev/kvm"),
            ErrorKind::ApiVersion(version) => write!(
                f,
                "/dev/kvm has API version {version}, but only version 12 was ever released"
            ),
            ErrorKind::Open(errno) => write!(f, "cannot open /dev/kvm: {}", to_io_error(*errno)),
            _ => Ok(()),
        }
    }

    /// Formats an error of loading a VM, with the number of registers written.
    fn fmt_load(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::NotReady(PlanOutcome::Unknown) => {
                f.write_str("the plan has undecided registers, which must be decided first")
            }
            ErrorKind::NotReady(_) => {
                f.write_str("the plan is refused: some of its registers block the load")
            }
            ErrorKind::VcpuCount { plan, vm } => write!(
                f,
                "the plan has {plan} vCPUs but the VM has {vm}: create the VM with {plan}"
            ),
            ErrorKind::Extension { vcpu, name } => write!(
                f,
                "vCPU {vcpu}: the plan loads {name}, which is not a register of KVM: make a plan \
                 for this host"
            ),
            ErrorKind::Width {
                vcpu,
                register,
                value,
            } => write!(
                f,
                "vCPU {vcpu}: {value} does not have the width of {register} ({:#018x})",
                register.raw()
            ),
            ErrorKind::ConflictingValues {
                register,
                vcpus: [one, other],
            } => write!(
                f,
                "a VM has one value of {register} ({:#018x}), but the plan has different values \
                 for vCPU {one} and vCPU {other}",
                register.raw()
            ),
            ErrorKind::Refused(refused) => write!(f, "{refused}"),
            ErrorKind::FinalizeLoaded { vcpu, errno, .. } => write!(
                f,
                "vCPU {vcpu}: SVE cannot be finalized: {}: {}",
                to_io_error(*errno),
                describe_finalize_error(*errno)
            ),
            ErrorKind::ReadBack {
                vcpu,
                register,
                errno,
            } => write!(
                f,
                "vCPU {vcpu}: {register} ({:#018x}) was written but cannot be read back: {}: {}",
                register.raw(),
                to_io_error(*errno),
                describe_read_error(*errno)
            ),
            _ => Ok(()),
        }?;
        match self.written_registers() {
            None => f.write_str("."),
            Some(0) => f.write_str(". Nothing was written."),
            Some(1) => f.write_str(". 1 register was written before: the VM is half loaded."),
            Some(written) => write!(
                f,
                ". {written} registers were written before: the VM is half loaded."
            ),
        }
    }

    /// Returns the number of registers that the load wrote earlier than the error, if known.
    fn written_registers(&self) -> Option<usize> {
        match &self.kind {
            ErrorKind::Refused(refused) => Some(refused.written_registers),
            ErrorKind::FinalizeLoaded {
                written_registers, ..
            } => Some(*written_registers),
            ErrorKind::ReadBack { .. } => None,
            _ => Some(0),
        }
    }
}

impl fmt::Display for RefusedWrite {
    /// Formats the write without the values of pointer-authentication keys, which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vcpu,
            register,
            written_value,
            current_value,
            errno,
            ..
        } = self;
        write!(f, "vCPU {vcpu}: {register} ({:#018x}) ", register.raw())?;
        match current_value {
            _ if register.is_secret() => f.write_str("refused its value (not shown)")?,
            Ok(current_value) => write!(f, "refused {written_value} and holds {current_value}")?,
            Err(read_errno) => write!(
                f,
                "refused {written_value} and cannot be read ({})",
                to_io_error(*read_errno)
            )?,
        }
        write!(f, ": {}: {}", to_io_error(*errno), self.meaning())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_separate_from_the_error() {
        let error = Error::from(ErrorKind::UnsupportedPlatform {
            architecture: "x86_64",
            system: "linux",
        });
        assert_eq!(
            error.to_string(),
            "this machine is x86-64 Linux, not arm64 Linux"
        );
        assert_eq!(
            error.to_string_with_hint(),
            "this machine is x86-64 Linux, not arm64 Linux: run cpreg on the arm64 host, or \
             name a recorded host (`cpreg hosts`)"
        );
        let counts = Error::from(ErrorKind::VcpuCount { plan: 1, vm: 2 });
        assert_eq!(
            counts.to_string_with_hint(),
            "the plan has 1 vCPUs but the VM has 2: create the VM with 1. Nothing was written. Do \
             not run the VM's vCPUs: they hold no guest."
        );
        let finalize = |written| {
            Error::from(ErrorKind::FinalizeLoaded {
                vcpu: 3,
                errno: Errno::EINVAL,
                written_registers: written,
            })
        };
        assert!(finalize(0).is_vm_untouched() && !finalize(1).is_vm_untouched());
        assert_eq!(
            finalize(1).to_string_with_hint(),
            "vCPU 3: SVE cannot be finalized: Invalid argument (os error 22): the vCPU has no SVE: \
             it was not initialised with KVM_ARM_VCPU_SVE. 1 register was written before: the VM is \
             half loaded. Do not run any of its vCPUs; create a new VM, or resume the guest at the \
             source."
        );
        let unread = Error::from(ErrorKind::ReadBack {
            vcpu: 0,
            register: RegisterId::CTR_EL0,
            errno: Errno::ENOEXEC,
        });
        assert_eq!(
            unread.to_string_with_hint(),
            "vCPU 0: CTR_EL0 (0x603000000013d801) was written but cannot be read back: Exec format \
             error (os error 8): the vCPU is not initialised (KVM_ARM_VCPU_INIT). Do not run the \
             VM's vCPUs; create a new VM, or resume the guest at the source."
        );
    }
}
