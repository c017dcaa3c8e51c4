//! [`Remedy`]: a way out of a difference or of a failed load, as data.
//!
//! The words here name no program's commands and options. A report that knows them has words of its own: those of the
//! command `cpreg` and of QEMU live in the crate `cpreg-report`.

use alloc::borrow::Cow;
use core::fmt;

use crate::register::RegisterId;

/// A way out that is up to the user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Remedy {
    /// Check whether the VM loads at the destination.
    Check {
        /// Whose adjustment to accept.
        accept: Option<RegisterId>,
    },
    /// Compare two hosts.
    Compare,
    /// Write the VM so that it loads at the destination.
    Convert,
    /// Record the destination without a guest.
    Probe,
    /// Have the destination's loader load the VM without its RAM.
    Rehearse,
    /// Write the VM without RAM and secrets, for whoever can help.
    Report,
    /// Show what the VM holds.
    Show {
        /// The register to show; all if it is missing.
        register: Option<RegisterId>,
    },
    /// Read the table of tolerances.
    Tolerances,
    /// Start the VM on the source with a PSCI version that all hosts have.
    StartWithCommonPsciVersion,
    /// Give the VM performance monitors on both sides, or on neither.
    MatchPmu,
    /// Let the guest stop using the register, or ignore it.
    StopOrIgnore,
    /// Choose a destination that has the register, or ignore it.
    DestinationWithRegister,
    /// Choose a destination that takes the value, or ignore it.
    DestinationForValue,
    /// Set a value that is taken.
    SetAcceptedValue,
    /// Make the vCPUs agree.
    AlignVcpus,
    /// Ignore the register whatever it holds.
    IgnoreAny,
    /// Set one field of a register.
    SetField {
        /// The register.
        register: RegisterId,
        /// The field's name.
        field: &'static str,
        /// The field's value.
        value: u64,
    },
    /// Something else, in words. `{destination}` stands for the destination's value.
    Text(Cow<'static, str>),
}

impl Remedy {
    /// Check whether the VM loads at the destination as it is.
    pub const CHECK: Self = Self::Check { accept: None };
    /// Show all that the VM holds.
    pub const SHOW: Self = Self::Show { register: None };

    /// Returns this text as a remedy.
    pub const fn text(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check { accept: None } => "check whether the VM loads at the destination",
            Self::Check {
                accept: Some(register),
            } => {
                return write!(
                    f,
                    "check whether the VM loads at the destination with another value of {register}"
                );
            }
            Self::Compare => "compare the two hosts register by register",
            Self::Convert => "write the VM so that it loads at the destination",
            Self::Probe => "record the destination without a guest",
            Self::Rehearse => "have the destination load the VM without its RAM",
            Self::Report => "write the VM without RAM and secrets, for whoever can help",
            Self::Show { register: None } => "look at what the VM holds",
            Self::Show {
                register: Some(register),
            } => return write!(f, "look at what the VM holds in {register}"),
            Self::Tolerances => "read why and when a difference in the register is harmless",
            Self::StartWithCommonPsciVersion => {
                "start the VM on the source with a PSCI version that all hosts have"
            }
            Self::MatchPmu => "give the VM at the destination a PMU, or take it away on the source",
            Self::StopOrIgnore => {
                "the guest uses what the older QEMU has not got: let it stop doing so, or ignore \
                 the register if it can do without"
            }
            Self::DestinationWithRegister => {
                "choose a destination that has it; or, if the guest can do without, ignore it and \
                 lose what it holds"
            }
            Self::DestinationForValue => {
                "choose a destination that takes it (the same CPU model, a newer kernel or QEMU); \
                 or ignore it, which leaves the destination's own value to the guest"
            }
            Self::SetAcceptedValue => "set a value that it takes, or none",
            Self::AlignVcpus => "save the VM again; if they still disagree, set one value for all",
            Self::IgnoreAny => {
                "see whether what it holds may be lost, and ignore it whatever it holds"
            }
            Self::SetField {
                register,
                field,
                value,
            } => return write!(f, "set {register}.{field} to {value:#x}"),
            Self::Text(text) => text,
        })
    }
}
