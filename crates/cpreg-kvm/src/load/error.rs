//! [`LoadError`]: what stood in the way of a load, and what that leaves behind.

use std::borrow::Cow;
use std::fmt;

use cpreg::plan::Outcome;
use cpreg::register::{RegisterId, Value};

use crate::errno::{Errno, meaning_of_read, meaning_of_write, os_error};

/// A plan could not be carried out. No vCPU of the VM may be run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// The plan is refused, or unknown. Nothing was touched.
    NotReady(Outcome),
    /// The VM has another number of vCPUs than the plan. Nothing was touched.
    VcpuCount {
        /// The plan's.
        plan: usize,
        /// The VM's.
        vm: usize,
    },
    /// The plan loads something that is no register. Nothing was touched.
    Extension {
        /// Which vCPU's.
        vcpu: usize,
        /// Its name.
        name: Cow<'static, str>,
    },
    /// A value has another width than its register. Nothing was touched.
    Width {
        /// Which vCPU.
        vcpu: usize,
        /// Which register.
        register: RegisterId,
        /// The value.
        value: Value,
    },
    /// The plan has two values for a register of which the VM has one. Nothing was touched.
    Disagree {
        /// Which register.
        register: RegisterId,
        /// Two vCPUs that disagree.
        vcpus: [usize; 2],
    },
    /// KVM refused a write.
    Refused(Box<Refused>),
    /// SVE could not be finalized.
    Finalize {
        /// Which vCPU.
        vcpu: usize,
        /// What the kernel answered.
        errno: Errno,
        /// How many registers had been written.
        written: usize,
    },
    /// What was written could not be read again.
    Unread {
        /// Which vCPU.
        vcpu: usize,
        /// Which register.
        register: RegisterId,
        /// What the kernel answered.
        errno: Errno,
    },
}

/// A write that KVM refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which vCPU.
    pub vcpu: usize,
    /// Which register.
    pub register: RegisterId,
    /// What was written.
    pub wrote: Value,
    /// What the register holds, or why it cannot be read.
    pub holds: Result<Value, Errno>,
    /// What the kernel answered to the write.
    pub errno: Errno,
    /// How many registers had been written before.
    pub written: usize,
}

impl Refused {
    /// What it means that the kernel answered that.
    pub fn meaning(&self) -> &'static str {
        meaning_of_write(self.errno, self.register)
    }
}

impl LoadError {
    /// Whether no register of the VM was written. SVE may have been finalized.
    pub fn touched_nothing(&self) -> bool {
        match self {
            Self::NotReady(_)
            | Self::VcpuCount { .. }
            | Self::Extension { .. }
            | Self::Width { .. }
            | Self::Disagree { .. } => true,
            Self::Refused(refused) => refused.written == 0,
            Self::Finalize { written, .. } => *written == 0,
            Self::Unread { .. } => false,
        }
    }
}

/// What to say at the end of an error.
const UNTOUCHED: &str = "Nothing was written. Do not run the VM's vCPUs: they hold no guest.";

/// What a half loaded VM is good for.
fn half_loaded(f: &mut fmt::Formatter<'_>, written: usize) -> fmt::Result {
    match written {
        0 => f.write_str(UNTOUCHED),
        _ => write!(
            f,
            "{written} register{} had been written: the VM is half loaded. Do not run any of its vCPUs; make a new VM, or let the guest go on at the source.",
            if written == 1 { "" } else { "s" }
        ),
    }
}

impl fmt::Display for Refused {
    /// Without the values of pointer-authentication keys, which are the guest's secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vcpu,
            register,
            wrote,
            holds,
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
                os_error(*unread)
            )?,
        }
        write!(f, ": {}: {}", os_error(*errno), self.meaning())
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady(Outcome::Unknown) => write!(
                f,
                "not enough is known to carry out this plan: see its undecided registers. {UNTOUCHED}"
            ),
            Self::NotReady(_) => write!(
                f,
                "the plan is refused: see the registers that stand in the way. {UNTOUCHED}"
            ),
            Self::VcpuCount { plan, vm } => write!(
                f,
                "the plan is for {plan} vCPUs and the VM has {vm}: make it with {plan}. {UNTOUCHED}"
            ),
            Self::Extension { vcpu, name } => write!(
                f,
                "vCPU {vcpu}: the plan loads {name}, which is no register of KVM's: plan for this host. {UNTOUCHED}"
            ),
            Self::Width {
                vcpu,
                register,
                value,
            } => write!(
                f,
                "vCPU {vcpu}: {value} is not of the width of {register} ({:#018x}). {UNTOUCHED}",
                register.raw()
            ),
            Self::Disagree {
                register,
                vcpus: [one, other],
            } => write!(
                f,
                "a VM has one value of {register} ({:#018x}), and the plan has one for vCPU {one} and another for vCPU {other}. {UNTOUCHED}",
                register.raw()
            ),
            Self::Refused(refused) => {
                write!(f, "{refused}. ")?;
                half_loaded(f, refused.written)
            }
            Self::Finalize {
                vcpu,
                errno,
                written,
            } => {
                let why = match *errno {
                    Errno::EINVAL => {
                        "the vCPU has no SVE: it was not initialised with KVM_ARM_VCPU_SVE"
                    }
                    Errno::ENOEXEC => "the vCPU is not initialised (KVM_ARM_VCPU_INIT)",
                    _ => "KVM is not known to answer that here",
                };
                write!(
                    f,
                    "vCPU {vcpu}: SVE cannot be finalized: {}: {why}. ",
                    os_error(*errno)
                )?;
                half_loaded(f, *written)
            }
            Self::Unread {
                vcpu,
                register,
                errno,
            } => write!(
                f,
                "vCPU {vcpu}: {register} ({:#018x}) was written and cannot be read again: {}: {}. Do not run the VM's vCPUs; make a new VM, or let the guest go on at the source.",
                register.raw(),
                os_error(*errno),
                meaning_of_read(*errno)
            ),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(refused) => Some(&refused.errno),
            Self::Finalize { errno, .. } | Self::Unread { errno, .. } => Some(errno),
            _ => None,
        }
    }
}
