//! [`Tolerance`]: one entry of the table.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use super::Condition;
use crate::destination::Accelerator;
use crate::destination::kernel::RegisterKind;
use crate::register::{DecodedId, RegisterId};
use crate::remedy::Remedy;
use crate::severity::Severity;

/// One entry of the table.
#[derive(Clone, Debug)]
pub struct Tolerance {
    /// The registers that it is about.
    pub registers: RegisterSelector,
    /// Under which accelerator; `None` for any.
    pub accelerator: Option<Accelerator>,
    /// Which difference it is about.
    pub difference: RegisterDifference,
    /// When it holds; otherwise the VM is refused.
    pub condition: Condition,
    /// What is done when it holds.
    pub handling: Handling,
    /// What the guest could notice when it is handled so.
    pub visible_effect: Option<VisibleEffect>,
    /// What kind of register this is in the sense of the difference.
    pub category: Category,
    /// Why it is harmless when the condition holds.
    pub reason: Cow<'static, str>,
    /// What to do when it does not hold.
    pub remedy: Option<Remedy>,
    /// What happened to the register, when.
    pub history: Vec<HistoryEntry>,
    /// Whether an operator added it: then what is lost is printed in every report.
    pub is_operator_entry: bool,
}

/// Which registers an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterSelector {
    /// These.
    Ids(Cow<'static, [RegisterId]>),
    /// The slots of CCSIDR_EL1.
    CacheSizes,
    /// The registers of the Performance Monitors extension.
    PerformanceMonitors,
    /// Implementation-defined registers of both instruction sets.
    ImplementationDefined,
    /// AArch32's ID registers without a name.
    ReservedAArch32,
}

impl RegisterSelector {
    /// Whether this register is among them.
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
                id.name().is_none()
                    && matches!(
                        id.decode(),
                        DecodedId::Coprocessor(register)
                            if !register.wide && register.coprocessor == 15 && register.crn == 0
                    )
            }
        }
    }
}

/// Which difference between input and destination an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegisterDifference {
    /// The register is only in the input.
    OnlyInInput,
    /// The register is only at the destination.
    OnlyAtDestination,
    /// The register is in both, and the destination does not take the value.
    ValueNotTaken,
}

impl RegisterDifference {
    /// The word for it in files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnlyInInput => "only-in-input",
            Self::OnlyAtDestination => "only-at-destination",
            Self::ValueNotTaken => "value-not-taken",
        }
    }

    /// The difference with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::OnlyInInput,
            Self::OnlyAtDestination,
            Self::ValueNotTaken,
        ]
        .into_iter()
        .find(|difference| difference.name() == name)
    }
}

/// What is done about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handling {
    /// Leave the register out.
    Ignore,
    /// Leave the destination's register at its reset value.
    KeepAtReset,
    /// Write this value instead.
    Set(u64),
    /// Write the nearest value that the destination takes instead.
    SetToNearest,
    /// Do not move the VM.
    Refuse,
}

impl Handling {
    /// The word for it in files and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::KeepAtReset => "keep-at-reset",
            Self::Set(_) => "set",
            Self::SetToNearest => "set-to-nearest",
            Self::Refuse => "refuse",
        }
    }
}

/// What the guest could notice of a difference that is handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisibleEffect {
    /// How bad that may be.
    pub severity: Severity,
    /// What it could notice.
    pub description: Cow<'static, str>,
}

/// What kind of register an entry is about; see the design's table of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// Decides what the kernel shows the guest.
    Control,
    /// A kernel listed it though the guest has no such feature.
    ListedByMistake,
    /// It should have been listed, and newer kernels do.
    MissingByMistake,
    /// Came with something that an older host has not.
    New,
    /// Describes hardware, or what stands for it.
    Identification,
    /// An operator's own.
    Operator,
}

impl Category {
    /// The word for it in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::ListedByMistake => "listed by mistake",
            Self::MissingByMistake => "missing by mistake",
            Self::New => "new",
            Self::Identification => "identification",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Something that happened to a register in a kernel or VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The first release with it: `v6.13`, or `QEMU 11.1`.
    pub release: &'static str,
    /// The commit, abbreviated; empty where none is known.
    pub commit: &'static str,
    /// What changed.
    pub description: &'static str,
}
