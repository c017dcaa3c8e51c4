//! [`Tolerance`]: one entry of the table.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::Condition;
use crate::destination::Accelerator;
use crate::destination::kernel::RegisterKind;
use crate::register::{DecodedId, RegisterId};
use crate::remedy::Remedy;
use crate::severity::Severity;

/// Entry of the table.
#[derive(Clone, Debug)]
pub struct Tolerance {
    /// Registers that the entry applies to.
    pub registers: RegisterSelector,
    /// Accelerator that the entry applies to, or `None` for any.
    pub accelerator: Option<Accelerator>,
    /// Difference that the entry applies to.
    pub difference: RegisterDifference,
    /// Condition of the entry. If the condition does not hold, the plan refuses the VM.
    pub condition: Condition,
    /// Handling of the difference if the condition holds.
    pub handling: Handling,
    /// Effect of the handling that the guest could notice.
    pub visible_effect: Option<VisibleEffect>,
    /// Category of the registers.
    pub category: Category,
    /// Reason why the difference is harmless if the condition holds.
    pub reason: Cow<'static, str>,
    /// Remedy if the condition does not hold.
    pub remedy: Option<Remedy>,
    /// Changes to the registers in kernels and VMMs.
    pub history: Vec<HistoryEntry>,
    /// `true` if an operator added the entry. Every report then prints the lost values.
    pub is_operator_entry: bool,
    /// Place of the entry in a file; `None` for an entry without a file.
    pub origin: Option<EntryOrigin>,
}

impl Tolerance {
    /// Returns `true` if the entry is about this register and difference.
    pub(super) fn applies_to(
        &self,
        id: RegisterId,
        difference: RegisterDifference,
        accelerator: Option<Accelerator>,
    ) -> bool {
        self.difference == difference
            && (self.accelerator.is_none() || self.accelerator == accelerator)
            && self.registers.contains(id)
    }
}

/// Place of an operator's entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryOrigin {
    /// Name of the file.
    pub file: String,
    /// Number of the entry in the file, from 1.
    pub number: usize,
}

/// Set of registers that an entry applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterSelector {
    /// Listed registers.
    Ids(Cow<'static, [RegisterId]>),
    /// Slots of CCSIDR_EL1.
    CacheSizes,
    /// Registers of the Performance Monitors extension.
    PerformanceMonitors,
    /// Implementation-defined registers of both instruction sets.
    ImplementationDefined,
    /// AArch32 ID registers without a name.
    ReservedAArch32,
}

impl RegisterSelector {
    /// Returns `true` if the set contains this register.
    pub fn contains(&self, id: RegisterId) -> bool {
        match self {
            Self::Ids(ids) => ids.contains(&id),
            Self::CacheSizes => matches!(RegisterKind::from_id(id), RegisterKind::CacheSize(_)),
            Self::PerformanceMonitors => id.is_pmu(),
            Self::ImplementationDefined => match id.decode() {
                DecodedId::SystemRegister(register) => register.crn == 15,
                DecodedId::Coprocessor(register) => {
                    register.crn == 15 || register.wide && register.crm == 15
                }
                _ => false,
            },
            Self::ReservedAArch32 => {
                matches!(
                    id.decode(),
                    DecodedId::Coprocessor(register)
                        if !register.wide && register.coprocessor == 15 && register.crn == 0
                ) && id.name().is_none()
            }
        }
    }
}

/// Difference between input and destination in one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegisterDifference {
    /// Only the source has the register.
    SourceOnly,
    /// Only the destination has the register.
    DestinationOnly,
    /// Both have the register, and the destination does not accept the value.
    ValueNotAccepted,
    /// Both have the register, and one of them lists the register under the entry's id, which is
    /// wrong.
    OtherId,
}

impl RegisterDifference {
    pub(super) const ALL: [Self; 4] = [
        Self::SourceOnly,
        Self::DestinationOnly,
        Self::ValueNotAccepted,
        Self::OtherId,
    ];

    /// Returns the name used in files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceOnly => "source-only",
            Self::DestinationOnly => "destination-only",
            Self::ValueNotAccepted => "value-not-accepted",
            Self::OtherId => "other-id",
        }
    }

    /// Returns the difference with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|difference| difference.name() == name)
    }
}

/// Handling of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handling {
    /// Leave the register out.
    Ignore,
    /// Leave the destination's register at its reset value.
    KeepAtReset,
    /// Write this value instead.
    Set(u64),
    /// Write the nearest value that the destination accepts instead.
    SetToNearest,
    /// Load the register under the id in the destination's list. The entry's id and this one, which
    /// is the correct one, stand for one register. Only for [`RegisterDifference::OtherId`].
    Rename(RegisterId),
    /// Refuse the VM.
    Refuse,
}

impl Handling {
    /// Returns the name used in files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::KeepAtReset => "keep-at-reset",
            Self::Set(_) => "set",
            Self::SetToNearest => "set-to-nearest",
            Self::Rename(_) => "rename",
            Self::Refuse => "refuse",
        }
    }
}

/// Effect of a handled difference that the guest could notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisibleEffect {
    /// Severity of the effect.
    pub severity: Severity,
    /// Description of the effect.
    pub description: Cow<'static, str>,
}

/// Category of registers that differ between hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// Control register: decides which features the kernel shows the guest.
    Control,
    /// Register that some kernels list although the guest lacks the feature.
    ListedByMistake,
    /// Register that newer kernels list, and that older kernels omit by mistake.
    MissingByMistake,
    /// Register of a feature that older hosts lack.
    New,
    /// Register that describes real or emulated hardware.
    Identification,
    /// Register that a program recorded under a wrong id.
    OtherId,
    /// Register of an operator's entry.
    Operator,
}

impl Category {
    /// Returns the name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::ListedByMistake => "listed by mistake",
            Self::MissingByMistake => "missing by mistake",
            Self::New => "new",
            Self::Identification => "identification",
            Self::OtherId => "recorded under another id",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Change to a register in a kernel or VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// First release with the change: `v6.13`, or `QEMU 11.1`.
    pub release: &'static str,
    /// Abbreviated commit of the change; empty if not known.
    pub commit: &'static str,
    /// Description of the change.
    pub description: &'static str,
}
