//! [`Severity`] of changes that the guest could notice: tolerated differences and planned changes.
//!
//! The severity of a change of value depends on the register, the old value, the new value, and the
//! guest's own settings.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the severity of a change |
//! | [`hazards`] | the table of ID fields whose change can break a running guest |
//! | `level.rs` | the classes of severity |
//! | `guest_state.rs` | the guest's settings as evidence of the features it uses |

mod guest_state;
pub mod hazards;
mod level;

use crate::destination::kernel::RegisterKind;
use crate::register::{FieldDifference, RegisterId, differing_fields};

pub use guest_state::{GuestState, Usage};
use hazards::Hazard;
pub use level::Severity;

/// Severity of a change, with its effect on the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Rating {
    /// Severity of the change.
    pub severity: Severity,
    /// Use of what the change takes away, according to the guest's state. Only for a fatal change.
    pub usage: Usage,
    /// Effect on the guest; empty if the severity alone describes the change.
    pub consequence: &'static str,
}

impl Rating {
    const fn new(severity: Severity) -> Self {
        Self {
            severity,
            usage: Usage::Unknown,
            consequence: "",
        }
    }
}

/// Returns the severity of changing a register's value in a running guest, with `guest` as evidence
/// of the features that the guest uses.
pub fn rate_change(register: RegisterId, from: u64, to: u64, guest: &GuestState) -> Severity {
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
        RegisterKind::Identification | RegisterKind::CacheType | RegisterKind::Implementation => {
            rate_fields(register, from, to, guest)
                .map(|(_, rating)| rating.severity)
                .max()
                .unwrap_or(Severity::Low)
        }
        RegisterKind::VectorLengths => Severity::Fatal,
        _ => Severity::Medium,
    }
}

/// Returns the severity of each change of a field of an ID register, CTR_EL0 or MIDR_EL1.
pub fn rate_fields(
    register: RegisterId,
    from: u64,
    to: u64,
    guest: &GuestState,
) -> impl Iterator<Item = (FieldDifference, Rating)> {
    differing_fields(aarch64_view(register), from, to)
        .map(move |difference| (difference, rate_field(register, difference, to, guest)))
}

/// Returns `true` if the severity of a change of this register depends on its fields.
pub(crate) fn is_rated_by_field(register: RegisterId) -> bool {
    matches!(
        RegisterKind::from_id(aarch64_view(register)),
        RegisterKind::Identification | RegisterKind::CacheType | RegisterKind::Implementation
    )
}

/// Returns `true` if the severity of a change depends on the guest's own settings.
pub(crate) fn depends_on_guest(register: RegisterId, from: u64, to: u64) -> bool {
    let register = aarch64_view(register);
    differing_fields(register, from, to)
        .any(|difference| Hazard::of(register).any(|hazard| hazard.depends_on_guest(difference)))
}

fn rate_field(
    register: RegisterId,
    difference: FieldDifference,
    to: u64,
    guest: &GuestState,
) -> Rating {
    let register = aarch64_view(register);
    let hazards = Hazard::of(register);
    let worst = hazards
        .filter_map(|hazard| hazard.assess(difference, to, guest))
        .max_by_key(|assessment| (assessment.severity, assessment.usage));
    if let Some(worst) = worst {
        return Rating {
            severity: worst.severity,
            usage: worst.usage,
            consequence: worst.consequence,
        };
    }
    Rating::new(match RegisterKind::from_id(register) {
        RegisterKind::CacheType => rate_cache_field(difference),
        RegisterKind::Implementation => Severity::High,
        _ => rate_id_field(register, difference),
    })
}

/// Returns the severity of changing a field of CTR_EL0 that no hazard describes.
fn rate_cache_field(difference: FieldDifference) -> Severity {
    match difference.field.name() {
        // Raised: the guest maintains its caches more than this CPU needs.
        "DIC" | "IDC" | "L1Ip" | "IminLine" | "DminLine" => Severity::Low,
        _ => Severity::High,
    }
}

/// Returns the severity of changing a field of an ID register that no hazard describes.
fn rate_id_field(register: RegisterId, difference: FieldDifference) -> Severity {
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
    use alloc::vec::Vec;

    use super::*;
    use crate::register::{RegisterField, Value};
    use crate::vm::{Registers, Vcpu, Vm};

    fn rate(register: RegisterId, from: u64, to: u64) -> Severity {
        rate_change(register, from, to, &GuestState::UNKNOWN)
    }

    #[test]
    fn psci_severity_rises_as_the_version_falls() {
        let psci = |from, to| rate(RegisterId::PSCI_VERSION, from, to);
        assert_eq!(psci(0x1_0003, 0x1_0001), Severity::Low);
        assert_eq!(psci(0x1_0001, 0x1_0000), Severity::Medium);
        assert_eq!(psci(0x1_0001, 0x2), Severity::High);
        assert_eq!(psci(0x1_0000, 0x1_0003), Severity::Low);
    }

    #[test]
    fn removing_a_feature_is_worse_than_adding_one() {
        let id = RegisterId::ID_AA64ISAR0_EL1;
        assert_eq!(rate(id, 0x10, 0x00), Severity::Medium);
        assert_eq!(rate(id, 0x00, 0x10), Severity::Low);
        assert_eq!(rate(RegisterId::ID_AA64DFR0_EL1, 0x8, 0x6), Severity::Low);
    }

    /// A Linux guest: pages of 4 KiB, 48-bit addresses, 16-bit ASIDs, access and dirty bits.
    fn linux() -> GuestState {
        let registers = [
            (RegisterId::TCR_EL1, 0x1b5_b510_3510),
            (RegisterId::SCTLR_EL1, 0x34f4_d91d),
            (RegisterId::CPACR_EL1, 0x30_0000),
        ];
        let pairs = registers
            .into_iter()
            .map(|(id, value)| (id, Value::U64(value)));
        let vcpu = Vcpu {
            registers: Registers::from_pairs(pairs).expect("no id twice"),
            pstate: Some(0x6000_0005),
            ..Vcpu::default()
        };
        let vm = Vm {
            vcpus: alloc::vec![vcpu],
            ..Vm::default()
        };
        GuestState::from_vm(&vm, |_, value| value)
    }

    /// Returns the severities of changing one field: in a guest without settings, and in Linux.
    fn rate_field_text(field: &str, from: u64, to: u64) -> [Severity; 2] {
        let field: RegisterField = field.parse().expect("a field");
        let [from, to] = [from, to].map(|value| field.field.insert(0, value).expect("it fits"));
        [GuestState::UNKNOWN, linux()].map(|guest| rate_change(field.id, from, to, &guest))
    }

    #[test]
    fn severities_follow_the_table_and_the_guest() {
        use Severity::{Fatal, High, Low, Medium};
        let cases = [
            // Fatal whatever the state says.
            ("ID_AA64ISAR0_EL1.Atomic", 2, 0, [Fatal, Fatal]),
            ("ID_AA64PFR0_EL1.EL0", 2, 1, [Fatal, Fatal]),
            ("ID_AA64PFR0_EL1.FP", 0, 0xf, [Fatal, Fatal]),
            ("CTR_EL0.DIC", 1, 0, [Fatal, Fatal]),
            ("CTR_EL0.IDC", 1, 0, [Fatal, Fatal]),
            ("CTR_EL0.DminLine", 5, 4, [Fatal, Fatal]),
            ("MIDR_EL1.PartNum", 0xd0c, 0xd40, [Fatal, Fatal]),
            ("MIDR_EL1.Implementer", 0x41, 0xc0, [Fatal, Fatal]),
            // In use in Linux.
            ("ID_AA64MMFR0_EL1.ASIDBits", 2, 0, [Fatal, Fatal]),
            ("ID_AA64MMFR0_EL1.PARange", 5, 2, [Fatal, Fatal]),
            ("ID_AA64MMFR0_EL1.TGran4", 0, 0xf, [Fatal, Fatal]),
            ("ID_AA64MMFR1_EL1.HAFDBS", 2, 1, [Fatal, Fatal]),
            // Proven unused in Linux.
            ("ID_AA64MMFR0_EL1.TGran64", 0, 0xf, [Fatal, Medium]),
            ("ID_AA64MMFR0_EL1.TGran16", 1, 0, [Fatal, Medium]),
            ("ID_AA64MMFR0_EL1.TGran4", 1, 0, [Fatal, Medium]),
            ("ID_AA64MMFR0_EL1.PARange", 6, 5, [Fatal, Medium]),
            ("ID_AA64MMFR1_EL1.HAFDBS", 3, 2, [Fatal, Medium]),
            ("ID_AA64MMFR1_EL1.PAN", 2, 0, [Fatal, Medium]),
            ("ID_AA64MMFR2_EL1.VARange", 1, 0, [Fatal, Medium]),
            ("ID_AA64ISAR1_EL1.APA", 1, 0, [Fatal, Medium]),
            ("ID_AA64ISAR1_EL1.API", 1, 5, [Fatal, Low]),
            ("ID_AA64ISAR2_EL1.MOPS", 1, 0, [Fatal, Medium]),
            ("ID_AA64PFR0_EL1.SVE", 1, 0, [Fatal, Medium]),
            ("ID_AA64PFR1_EL1.BT", 1, 0, [Fatal, Medium]),
            ("ID_AA64PFR1_EL1.MTE", 2, 0, [Fatal, Medium]),
            // PSTATE is no proof that the guest does not use a feature.
            ("ID_AA64PFR0_EL1.DIT", 1, 0, [Fatal, Fatal]),
            ("ID_AA64PFR1_EL1.SSBS", 2, 1, [Fatal, Fatal]),
            // Fatal only with proof.
            ("ID_AA64MMFR3_EL1.TCRX", 1, 0, [Medium, Medium]),
            // High: mitigations and revisions.
            ("ID_AA64PFR0_EL1.CSV2", 1, 0, [High, High]),
            ("ID_AA64ISAR2_EL1.CLRBHB", 1, 0, [High, High]),
            ("MIDR_EL1.Revision", 1, 2, [High, High]),
            ("CTR_EL0.ERG", 4, 5, [High, High]),
            // Raised.
            ("ID_AA64MMFR0_EL1.ASIDBits", 0, 2, [Low, Low]),
            ("ID_AA64ISAR1_EL1.APA", 0, 5, [Low, Low]),
            ("CTR_EL0.DIC", 0, 1, [Low, Low]),
            // No hazard.
            ("ID_AA64ISAR0_EL1.AES", 2, 1, [Medium, Medium]),
        ];
        for (field, from, to, expected) in cases {
            assert_eq!(
                rate_field_text(field, from, to),
                expected,
                "{field} {from} -> {to}"
            );
        }
    }

    #[test]
    fn another_authentication_algorithm_is_fatal_even_if_unused() {
        let (apa, api) = (0x10, 0x100);
        let severity = rate_change(RegisterId::ID_AA64ISAR1_EL1, apa, api, &linux());
        assert_eq!(severity, Severity::Fatal);
    }

    #[test]
    fn a_fatal_change_has_a_consequence() {
        let every_hazard = hazards::HAZARDS.iter();
        let without: Vec<_> = every_hazard
            .filter(|hazard| hazard.consequence.is_empty())
            .collect();
        assert!(without.is_empty(), "{without:?}");
        let (_, rating) = rate_fields(RegisterId::ID_AA64MMFR0_EL1, 0x20, 0, &linux())
            .next()
            .expect("a field");
        assert_eq!(rating.usage, Usage::InUse);
        assert!(rating.consequence.contains("TLB"));
    }
}
