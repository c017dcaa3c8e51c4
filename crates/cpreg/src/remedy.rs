//! [`Remedy`]: a remedy for a difference or a failed load, as data.
//!
//! The texts here name no commands or options of a program. The texts in the crate `cpreg-report`
//! name those of `cpreg` and QEMU.

use alloc::borrow::Cow;
use core::fmt;

use crate::register::RegisterId;

/// Remedy that the user can choose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Remedy {
    /// Check whether the VM loads at the destination.
    Check {
        /// Register whose proposed change of value the user accepts, if any.
        accept: Option<RegisterId>,
    },
    /// Compare two hosts.
    Compare,
    /// Convert the VM so that it loads at the destination.
    Convert,
    /// Record the destination without a guest.
    Probe,
    /// Have the destination's loader load the VM without its RAM.
    Rehearse,
    /// Write a report of the VM without RAM and secrets, for support.
    Report,
    /// Show the VM's registers.
    Show {
        /// Register to show, or `None` for all.
        register: Option<RegisterId>,
    },
    /// Read the table of tolerances.
    Tolerances,
    /// Start the VM on the source with a PSCI version that all hosts have.
    StartWithCommonPsciVersion,
    /// Give the VM a PMU on both sides, or on neither.
    MatchPmu,
    /// Make the guest stop using the register, or ignore the register.
    StopOrIgnore,
    /// Choose a destination that has the register, or ignore the register.
    DestinationWithRegister,
    /// Choose a destination that accepts the value, or ignore the register.
    DestinationForValue,
    /// Choose a destination that keeps the field's value, or start the guest anew.
    KeepFields {
        /// Register with the field.
        register: RegisterId,
        /// Name of the field.
        field: &'static str,
    },
    /// Set a value that the destination accepts.
    SetAcceptedValue,
    /// Give all vCPUs one value of a VM-wide register.
    AlignVcpus,
    /// Ignore the register, whatever its value is.
    IgnoreAny,
    /// Set one field of a register.
    SetField {
        /// Register to change.
        register: RegisterId,
        /// Name of the field.
        field: &'static str,
        /// New value of the field.
        value: u64,
    },
    /// Another remedy, as text. The word `VALUE` stands for the destination's value.
    Text(Cow<'static, str>),
}

impl Remedy {
    /// Remedy to check whether the unchanged VM loads at the destination.
    pub const CHECK: Self = Self::Check { accept: None };
    /// Remedy to show all registers of the VM.
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
            Self::Convert => "convert the VM so that it loads at the destination",
            Self::Probe => "record the destination without a guest",
            Self::Rehearse => "have the destination load the VM without its RAM",
            Self::Report => "write a report of the VM without RAM and secrets, for support",
            Self::Show { register: None } => "show the VM's registers",
            Self::Show {
                register: Some(register),
            } => return write!(f, "show the VM's value of {register}"),
            Self::Tolerances => "read why and when a difference in the register is harmless",
            Self::StartWithCommonPsciVersion => {
                "start the VM on the source with a PSCI version that all hosts have"
            }
            Self::MatchPmu => {
                "give the VM at the destination a PMU, or remove the PMU on the source"
            }
            Self::StopOrIgnore => {
                "the guest uses a feature that the older QEMU lacks: stop using it in the guest, \
                 or ignore the register if the guest does not need it"
            }
            Self::DestinationWithRegister => {
                "choose a destination that has the register; or, if the guest does not need it, \
                 ignore it and lose its value"
            }
            Self::DestinationForValue => {
                "choose a destination that accepts the value (the same CPU model, a newer kernel \
                 or QEMU); or ignore it, and the guest gets the destination's value"
            }
            Self::KeepFields { register, field } => {
                return write!(
                    f,
                    "choose a destination that keeps {register}.{field}, or shut the guest down \
                     and start it there"
                );
            }
            Self::SetAcceptedValue => "set a value that the destination accepts, or none",
            Self::AlignVcpus => {
                "save the VM again; if the vCPUs still disagree, set one value for all"
            }
            Self::IgnoreAny => {
                "check whether the register's value may be lost, and ignore it with any value"
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
