//! [`Error`]: why KVM could not be asked, or a VM not be made, saved or loaded.
//!
//! What the kernel answered and what that means for the operation lives in [`crate::errno`].

use std::borrow::Cow;
use std::fmt;

use cpreg::destination::Features;
use cpreg::plan::PlanOutcome;
use cpreg::register::{RegisterId, Value};

use crate::errno::{
    Errno, describe_finalize_error, describe_list_error, describe_read_error, describe_write_error,
    to_io_error,
};

/// An operation on a host, a VM or a vCPU failed.
///
/// Its display is one line without the values of pointer-authentication keys, which are the guest's
/// secrets. Advice is no part of that line: see [`Error::hint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
}

/// The kind of an [`Error`], with what programs may want to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This program runs on another machine than Linux on arm64.
    UnsupportedPlatform {
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
    /// Opening `/dev/kvm` failed otherwise.
    Open(Errno),
    /// A VM could not be made.
    Create {
        /// The step that failed, by its ioctl: `KVM_CREATE_VM`.
        step: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A guest with these features could not be looked at.
    Probe {
        /// The guest's features.
        features: Features,
        /// What failed.
        cause: Box<Error>,
    },
    /// SVE of a guest that is looked at could not be finalized.
    Finalize(Errno),
    /// KVM did not list a vCPU's registers.
    List {
        /// The vCPU, of a VM that is saved.
        vcpu: Option<usize>,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel says that it tells which bits of ID registers may be written, and did not.
    Masks(Errno),
    /// A listed register could not be read.
    Read {
        /// The vCPU.
        vcpu: usize,
        /// The register.
        register: RegisterId,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The plan is refused, or unknown.
    NotReady(PlanOutcome),
    /// The VM has another number of vCPUs than the plan.
    VcpuCount {
        /// The plan's.
        plan: usize,
        /// The VM's.
        vm: usize,
    },
    /// The plan loads something that is no register.
    Extension {
        /// The vCPU.
        vcpu: usize,
        /// The extension's name.
        name: Cow<'static, str>,
    },
    /// A value has another width than its register.
    Width {
        /// The vCPU.
        vcpu: usize,
        /// The register.
        register: RegisterId,
        /// The value.
        value: Value,
    },
    /// The plan has two values for a register of which the VM has one.
    ConflictingValues {
        /// The register.
        register: RegisterId,
        /// Two vCPUs that disagree.
        vcpus: [usize; 2],
    },
    /// KVM refused a write.
    Refused(Box<RefusedWrite>),
    /// SVE of a vCPU that is loaded could not be finalized.
    FinalizeLoaded {
        /// The vCPU.
        vcpu: usize,
        /// The kernel's answer.
        errno: Errno,
        /// The number of registers that had been written.
        written_registers: usize,
    },
    /// A register that was written could not be read again.
    ReadBack {
        /// The vCPU.
        vcpu: usize,
        /// The register.
        register: RegisterId,
        /// The kernel's answer.
        errno: Errno,
    },
}

/// A write that KVM refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedWrite {
    /// The vCPU.
    pub vcpu: usize,
    /// The register.
    pub register: RegisterId,
    /// The value that was written.
    pub written_value: Value,
    /// The value that the register holds, or why it cannot be read.
    pub current_value: Result<Value, Errno>,
    /// The kernel's answer to the write.
    pub errno: Errno,
    /// The number of registers that had been written before.
    pub written_registers: usize,
}

impl RefusedWrite {
    /// Returns the meaning of the kernel's answer.
    pub fn meaning(&self) -> &'static str {
        describe_write_error(self.errno, self.register)
    }
}

/// The advice on a VM of which nothing was written.
const UNTOUCHED_HINT: &str = "Do not run the VM's vCPUs: they hold no guest.";
/// The advice on a VM of which something was written.
const HALF_LOADED_HINT: &str =
    "Do not run any of its vCPUs; make a new VM, or let the guest go on at the source.";

impl Error {
    /// Returns what kind of error it is.
    pub const fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Returns what to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.kind {
            ErrorKind::UnsupportedPlatform { .. } => {
                Some("run cpreg on the arm64 host itself, or name a recorded host (`cpreg hosts`)")
            }
            ErrorKind::Missing => Some(
                "the kernel has no KVM, or did not start at EL2 (see `dmesg | grep -i kvm`); in a \
                 VM its host has to offer nested virtualization, in a container the device has to \
                 be passed in",
            ),
            ErrorKind::Permission => {
                Some("run cpreg as root or as a member of the group that owns it (often kvm)")
            }
            ErrorKind::ApiVersion(_) => Some("is it KVM's device?"),
            ErrorKind::Open(_)
            | ErrorKind::Create { .. }
            | ErrorKind::Probe { .. }
            | ErrorKind::Finalize(_)
            | ErrorKind::List { .. }
            | ErrorKind::Masks(_)
            | ErrorKind::Read { .. } => None,
            ErrorKind::ReadBack { .. } => Some(
                "Do not run the VM's vCPUs; make a new VM, or let the guest go on at the source.",
            ),
            _ if self.is_vm_untouched() => Some(UNTOUCHED_HINT),
            _ => Some(HALF_LOADED_HINT),
        }
    }

    /// Returns the error and its hint as one text, for programs that print one.
    pub fn to_string_with_hint(&self) -> String {
        match self.hint() {
            // A sentence after those of the error, else the second half of its line.
            Some(hint) if hint.ends_with('.') => format!("{self} {hint}"),
            Some(hint) => format!("{self}: {hint}"),
            None => self.to_string(),
        }
    }

    /// Returns `true` if no register of the VM was written that was to be loaded. Its SVE may have
    /// been finalized.
    pub fn is_vm_untouched(&self) -> bool {
        match &self.kind {
            ErrorKind::Refused(refused) => refused.written_registers == 0,
            ErrorKind::FinalizeLoaded {
                written_registers: written,
                ..
            } => *written == 0,
            ErrorKind::ReadBack { .. } => false,
            _ => true,
        }
    }

    /// Returns the kernel's answer, if it was asked.
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
            | ErrorKind::NotReady(_)
            | ErrorKind::VcpuCount { .. }
            | ErrorKind::Extension { .. }
            | ErrorKind::Width { .. }
            | ErrorKind::ConflictingValues { .. } => None,
        }
    }

    /// Says with which features a guest was looked at.
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
                write!(f, "cannot make a VM: {step}: {}", to_io_error(*errno))
            }
            ErrorKind::Probe { features, cause } => {
                write!(f, "a guest with the features {features}: {cause}")
            }
            ErrorKind::Finalize(errno) => {
                write!(f, "cannot finalize SVE: {}", to_io_error(*errno))
            }
            ErrorKind::List { vcpu, errno } => {
                if let Some(vcpu) = vcpu {
                    write!(f, "vCPU {vcpu}: ")?;
                }
                let (answer, meaning) = (to_io_error(*errno), describe_list_error(*errno));
                write!(f, "KVM does not list its registers: {answer}: {meaning}")
            }
            ErrorKind::Masks(errno) => write!(
                f,
                "KVM does not tell which bits of ID registers may be written: {}",
                to_io_error(*errno)
            ),
            ErrorKind::Read {
                vcpu,
                register,
                errno,
            } => write!(
                f,
                "vCPU {vcpu}: {register} ({:#018x}) is listed and cannot be read: {}: {}",
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
            ErrorKind::Missing => f.write_str("there is no /dev/kvm"),
            ErrorKind::Permission => f.write_str("/dev/kvm may not be opened by this user"),
            ErrorKind::ApiVersion(version) => write!(
                f,
                "/dev/kvm says that its API has version {version}, and only version 12 was ever \
                 released"
            ),
            ErrorKind::Open(errno) => write!(f, "cannot open /dev/kvm: {}", to_io_error(*errno)),
            _ => Ok(()),
        }
    }

    /// Formats an error of loading a VM, with what it leaves behind.
    fn fmt_load(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::NotReady(PlanOutcome::Unknown) => f.write_str(
                "not enough is known to carry out this plan: see its undecided registers",
            ),
            ErrorKind::NotReady(_) => {
                f.write_str("the plan is refused: see the registers that stand in the way")
            }
            ErrorKind::VcpuCount { plan, vm } => write!(
                f,
                "the plan is for {plan} vCPUs and the VM has {vm}: make it with {plan}"
            ),
            ErrorKind::Extension { vcpu, name } => write!(
                f,
                "vCPU {vcpu}: the plan loads {name}, which is no register of KVM's: plan for this \
                 host"
            ),
            ErrorKind::Width {
                vcpu,
                register,
                value,
            } => write!(
                f,
                "vCPU {vcpu}: {value} is not of the width of {register} ({:#018x})",
                register.raw()
            ),
            ErrorKind::ConflictingValues {
                register,
                vcpus: [one, other],
            } => write!(
                f,
                "a VM has one value of {register} ({:#018x}), and the plan has one for vCPU {one} \
                 and another for vCPU {other}",
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
                "vCPU {vcpu}: {register} ({:#018x}) was written and cannot be read again: {}: {}",
                register.raw(),
                to_io_error(*errno),
                describe_read_error(*errno)
            ),
            _ => Ok(()),
        }?;
        match self.written_registers() {
            None => f.write_str("."),
            Some(0) => f.write_str(". Nothing was written."),
            Some(1) => f.write_str(". 1 register had been written: the VM is half loaded."),
            Some(written) => write!(
                f,
                ". {written} registers had been written: the VM is half loaded."
            ),
        }
    }

    /// Returns the number of registers that had been written, if it is known.
    fn written_registers(&self) -> Option<usize> {
        match &self.kind {
            ErrorKind::Refused(refused) => Some(refused.written_registers),
            ErrorKind::FinalizeLoaded {
                written_registers: written,
                ..
            } => Some(*written),
            ErrorKind::ReadBack { .. } => None,
            _ => Some(0),
        }
    }
}

impl fmt::Display for RefusedWrite {
    /// Without the values of pointer-authentication keys, which are the guest's secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vcpu,
            register,
            written_value: wrote,
            current_value: holds,
            errno,
            ..
        } = self;
        write!(f, "vCPU {vcpu}: {register} ({:#018x}) ", register.raw())?;
        match holds {
            _ if register.is_secret() => f.write_str("did not take its value (not shown)")?,
            Ok(holds) => write!(f, "did not take {wrote} and holds {holds}")?,
            Err(unread) => write!(
                f,
                "did not take {wrote} and cannot be read ({})",
                to_io_error(*unread)
            )?,
        }
        write!(f, ": {}: {}", to_io_error(*errno), self.meaning())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stands_beside_the_error() {
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
            "this machine is x86-64 Linux, not arm64 Linux: run cpreg on the arm64 host itself, or \
             name a recorded host (`cpreg hosts`)"
        );
        let counts = Error::from(ErrorKind::VcpuCount { plan: 1, vm: 2 });
        assert_eq!(
            counts.to_string_with_hint(),
            "the plan is for 1 vCPUs and the VM has 2: make it with 1. Nothing was written. Do not \
             run the VM's vCPUs: they hold no guest."
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
             it was not initialised with KVM_ARM_VCPU_SVE. 1 register had been written: the VM is \
             half loaded. Do not run any of its vCPUs; make a new VM, or let the guest go on at the \
             source."
        );
        let unread = Error::from(ErrorKind::ReadBack {
            vcpu: 0,
            register: RegisterId::CTR_EL0,
            errno: Errno::ENOEXEC,
        });
        assert_eq!(
            unread.to_string_with_hint(),
            "vCPU 0: CTR_EL0 (0x603000000013d801) was written and cannot be read again: Exec format \
             error (os error 8): the vCPU is not initialised (KVM_ARM_VCPU_INIT). Do not run the \
             VM's vCPUs; make a new VM, or let the guest go on at the source."
        );
    }
}
