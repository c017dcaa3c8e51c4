//! [`Severity`] of changes that the guest could notice: tolerated differences and planned changes.
//!
//! The severity of a change of value depends on the register, the old value and the new value.

use core::fmt;

use crate::destination::kernel::RegisterKind;
use crate::register::{FieldDifference, RegisterId, differing_fields};

/// Severity of a change that the guest could notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A running guest will hardly notice the change.
    Low,
    /// A feature that a guest may use is missing or differs.
    Medium,
    /// A feature that guests rely on is missing or wrong.
    High,
}

impl Severity {
    /// Returns the name used in reports and consents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// Returns the severity with this name, or `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Low, Self::Medium, Self::High]
            .into_iter()
            .find(|severity| severity.name() == name)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Returns the severity of changing a register's value in a running guest.
pub fn rate_change(register: RegisterId, from: u64, to: u64) -> Severity {
    let register = aarch64_view(register);
    match RegisterKind::from_id(register) {
        RegisterKind::PsciVersion => rate_psci_change(from, to),
        // KVM traps cache maintenance by set and way, and executes it correctly for any geometry
        // that the guest reads.
        RegisterKind::CacheLevels | RegisterKind::CacheSize(_) => Severity::Low,
        RegisterKind::FirmwareBitmap(_) if from & !to == 0 => Severity::Low,
        RegisterKind::FirmwareBitmap(_) => Severity::Medium,
        RegisterKind::Workaround(_) if to < from => Severity::High,
        RegisterKind::Workaround(_) => Severity::Low,
        RegisterKind::Identification => differing_fields(register, from, to)
            .map(|difference| rate_field_change(register, difference))
            .max()
            .unwrap_or(Severity::Low),
        RegisterKind::CacheType | RegisterKind::Implementation | RegisterKind::VectorLengths => {
            Severity::High
        }
        _ => Severity::Medium,
    }
}

/// Returns the severity of changing one field of an ID register.
pub fn rate_field_change(register: RegisterId, difference: FieldDifference) -> Severity {
    let register = aarch64_view(register);
    let is_debug = matches!(
        register,
        RegisterId::ID_DFR0_EL1
            | RegisterId::ID_DFR1_EL1
            | RegisterId::ID_AA64DFR0_EL1
            | RegisterId::ID_AA64DFR1_EL1
    );
    let is_lowered = difference.field.rank(difference.to) < difference.field.rank(difference.from);
    // Kernels and emulators show different debug architecture versions for one CPU. Some show
    // memory-mapped access, which no VM has. Only a missing PMU and fewer breakpoints matter to a
    // guest.
    let is_version_change = is_debug
        && match difference.field.name() {
            "DebugVer" | "CopDbg" | "CopSDbg" | "MMapDbg" | "MMapTrc" => true,
            "PMUVer" | "PerfMon" => !matches!(difference.to, 0 | 0xf),
            _ => false,
        };
    if is_lowered && !is_version_change {
        Severity::Medium
    } else {
        // Low for a raised field: the guest read its ID registers when it booted.
        Severity::Low
    }
}

/// Returns `true` if the register is an ID register, of either instruction set.
pub(crate) fn is_identification(register: RegisterId) -> bool {
    RegisterKind::from_id(aarch64_view(register)) == RegisterKind::Identification
}

/// Returns the AArch64 register that an AArch32 register is a view of, or the register itself.
fn aarch64_view(register: RegisterId) -> RegisterId {
    register
        .counterpart()
        .map_or(register, |counterpart| counterpart.id)
}

/// Returns the severity of a change of the PSCI version.
///
/// PSCI 1.0 added PSCI_FEATURES, by which a guest discovers all other functions. PSCI 1.1 added
/// SYSTEM_RESET2, and 1.3 added SYSTEM_OFF2.
fn rate_psci_change(from: u64, to: u64) -> Severity {
    match to {
        _ if to >= from => Severity::Low,
        0x1_0001.. => Severity::Low,
        0x1_0000 => Severity::Medium,
        _ => Severity::High,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psci_severity_rises_as_the_version_falls() {
        let psci = |from, to| rate_change(RegisterId::PSCI_VERSION, from, to);
        assert_eq!(psci(0x1_0003, 0x1_0001), Severity::Low);
        assert_eq!(psci(0x1_0001, 0x1_0000), Severity::Medium);
        assert_eq!(psci(0x1_0001, 0x2), Severity::High);
        assert_eq!(psci(0x1_0000, 0x1_0003), Severity::Low);
    }

    #[test]
    fn removing_a_feature_is_worse_than_adding_one() {
        let id = RegisterId::ID_AA64ISAR0_EL1;
        assert_eq!(rate_change(id, 0x10, 0x00), Severity::Medium);
        assert_eq!(rate_change(id, 0x00, 0x10), Severity::Low);
        assert_eq!(
            rate_change(RegisterId::ID_AA64DFR0_EL1, 0x8, 0x6),
            Severity::Low
        );
    }
}
