//! [`Severity`] of something that the guest could notice: of a tolerated difference, of a planned change. That of a change of a value
//! belongs to (register, from, to).

use core::fmt;

use crate::destination::kernel::RegisterKind;
use crate::register::{FieldDifference, RegisterId, differing_fields};

/// How bad something is that the guest could notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A guest that runs will hardly notice.
    Low,
    /// Something that a guest may use is gone or differs.
    Medium,
    /// Something that guests rely on is gone or wrong.
    High,
}

impl Severity {
    /// The word for it in reports and consents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// The severity with that name.
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

/// How bad it is that a register changes so under a guest's feet.
pub fn rate_change(register: RegisterId, from: u64, to: u64) -> Severity {
    let register = aarch64_view(register);
    match RegisterKind::from_id(register) {
        RegisterKind::PsciVersion => rate_psci_change(from, to),
        // Set/way maintenance by a geometry that is not the machine's is trapped and done by KVM whatever it says.
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

/// How bad it is that one field of an ID register changes so.
pub fn rate_field_change(register: RegisterId, difference: FieldDifference) -> Severity {
    let register = aarch64_view(register);
    let debug = matches!(
        register,
        RegisterId::ID_DFR0_EL1
            | RegisterId::ID_DFR1_EL1
            | RegisterId::ID_AA64DFR0_EL1
            | RegisterId::ID_AA64DFR1_EL1
    );
    let lowered = difference.field.rank(difference.to) < difference.field.rank(difference.from);
    // Kernels and emulators show other versions of one CPU's debug architecture, and once claimed access through memory that no VM
    // has. A PMU that is gone, or fewer breakpoints, is something else.
    let version = debug
        && match difference.field.name() {
            "DebugVer" | "CopDbg" | "CopSDbg" | "MMapDbg" | "MMapTrc" => true,
            "PMUVer" | "PerfMon" => !matches!(difference.to, 0 | 0xf),
            _ => false,
        };
    if lowered && !version {
        Severity::Medium
    } else {
        // Raised: a guest has read its ID registers when it started.
        Severity::Low
    }
}

/// Whether the register is an ID register, of either instruction set.
pub(crate) fn is_identification(register: RegisterId) -> bool {
    RegisterKind::from_id(aarch64_view(register)) == RegisterKind::Identification
}

/// The AArch64 register that an AArch32 one shows, or the register itself.
fn aarch64_view(register: RegisterId) -> RegisterId {
    register
        .counterpart()
        .map_or(register, |counterpart| counterpart.id)
}

/// 1.3 added SYSTEM_OFF2, 1.1 SYSTEM_RESET2, 1.0 PSCI_FEATURES, by which a guest finds everything else.
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
    fn psci_gets_worse_the_lower_it_goes() {
        let psci = |from, to| rate_change(RegisterId::PSCI_VERSION, from, to);
        assert_eq!(psci(0x1_0003, 0x1_0001), Severity::Low);
        assert_eq!(psci(0x1_0001, 0x1_0000), Severity::Medium);
        assert_eq!(psci(0x1_0001, 0x2), Severity::High);
        assert_eq!(psci(0x1_0000, 0x1_0003), Severity::Low);
    }

    #[test]
    fn a_feature_taken_away_is_worse_than_one_added() {
        let id = RegisterId::ID_AA64ISAR0_EL1;
        assert_eq!(rate_change(id, 0x10, 0x00), Severity::Medium);
        assert_eq!(rate_change(id, 0x00, 0x10), Severity::Low);
        assert_eq!(
            rate_change(RegisterId::ID_AA64DFR0_EL1, 0x8, 0x6),
            Severity::Low
        );
    }
}
