//! The table of ID fields whose change can break a running guest, each with the consequence.
//!
//! A guest reads ID registers when it boots, and relies on them until it shuts down. A kernel that
//! refuses such a change protects the guest. An adjustment takes the protection away, so the table
//! decides which adjustments are possible at all.
//!
//! Sources: Arm ARM; Linux `arch/arm64/kernel/cpufeature.c`, `arch/arm64/mm/{context,proc}.c` of
//! v6.1 to v7.3 (read); measurements of moves between Graviton2 and Apple M3 (gimbal-local,
//! `docs/graviton-acid-test-results.md`) for ASIDs, CTR_EL0.DIC and AArch32 at EL0. docs/facts.md
//! has the details.

use super::guest_state::{Granule, GuestState, Usage, VcpuSettings};
use super::level::Severity;
use crate::register::{FieldDifference, RegisterId as Id};

/// ID field whose change can break a running guest.
#[derive(Clone, Copy, Debug)]
pub struct Hazard {
    /// Register with the field.
    pub register: Id,
    /// Name of the field.
    pub field: &'static str,
    /// Changes of the field to which the hazard applies.
    applies: fn(FieldDifference) -> bool,
    rule: Rule,
    /// Effect of the change on a guest that uses the feature.
    pub consequence: &'static str,
}

/// Severity of a hazard.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Fatal.
    Fatal,
    /// Fatal, unless the guest's state proves that the guest does not use the feature.
    FatalUnlessUnused(UsageOf),
    /// Fatal if the guest's state proves that the guest uses the feature.
    FatalIfInUse(UsageOf),
    /// Fatal if the register's new value replaces the feature by one that is not compatible.
    FatalIfReplaced(fn(to: u64) -> bool),
    /// Fatal, except at a destination whose caches need no maintenance.
    FatalIfNotCoherent,
    /// High: a mitigation, or the revision of the CPU.
    High,
}

/// Use of a feature by one vCPU, which the new value of the field takes away.
type UsageOf = fn(&VcpuSettings, FieldDifference) -> Usage;

/// Hazard of a particular change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Assessment {
    pub(super) severity: Severity,
    pub(super) usage: Usage,
    pub(super) consequence: &'static str,
}

impl Hazard {
    /// Returns the hazards of a register.
    pub(super) fn of(register: Id) -> impl Iterator<Item = &'static Self> {
        HAZARDS
            .iter()
            .filter(move |hazard| hazard.register == register)
    }

    /// Returns the assessment of a change of this field, or `None` if the hazard does not apply.
    ///
    /// `new_value` is that of the whole register.
    pub(super) fn assess(
        &self,
        difference: FieldDifference,
        new_value: u64,
        guest: &GuestState,
    ) -> Option<Assessment> {
        if !self.applies(difference) {
            return None;
        }
        let usage_of = |usage: UsageOf| guest.usage(|vcpu| usage(vcpu, difference));
        let (severity, usage) = match self.rule {
            Rule::Fatal => (Severity::Fatal, Usage::InUse),
            Rule::FatalIfNotCoherent if guest.has_coherent_caches() => return None,
            Rule::FatalIfNotCoherent => (Severity::Fatal, Usage::InUse),
            Rule::FatalIfReplaced(is_replaced) if is_replaced(new_value) => {
                (Severity::Fatal, Usage::InUse)
            }
            Rule::FatalIfReplaced(_) => return None,
            Rule::High => (Severity::High, Usage::InUse),
            Rule::FatalUnlessUnused(usage) => match usage_of(usage) {
                Usage::Unused => return None,
                usage => (Severity::Fatal, usage),
            },
            Rule::FatalIfInUse(usage) => match usage_of(usage) {
                Usage::InUse => (Severity::Fatal, Usage::InUse),
                _ => return None,
            },
        };
        Some(Assessment {
            severity,
            usage,
            consequence: self.consequence,
        })
    }

    /// Returns `true` if the guest's own settings decide the severity of a change of this field.
    pub(super) fn depends_on_guest(&self, difference: FieldDifference) -> bool {
        matches!(
            self.rule,
            Rule::FatalUnlessUnused(_) | Rule::FatalIfInUse(_)
        ) && self.applies(difference)
    }

    fn applies(&self, difference: FieldDifference) -> bool {
        difference.field.name() == self.field && (self.applies)(difference)
    }
}

/// Returns `true` if a field's new value promises less.
fn is_lowered(difference: FieldDifference) -> bool {
    let FieldDifference { field, from, to } = difference;
    field.rank(to) < field.rank(from)
}

/// Returns `true` if only a field's new value means that the feature is absent.
fn is_removed(difference: FieldDifference) -> bool {
    let FieldDifference { field, from, to } = difference;
    // A signed field has the value 0 for the basic feature, and 0xf for none.
    let absent = if field.is_signed() { 0xf } else { 0 };
    to == absent && from != absent
}

const fn fatal(register: Id, field: &'static str, consequence: &'static str) -> Hazard {
    Hazard {
        register,
        field,
        applies: is_lowered,
        rule: Rule::Fatal,
        consequence,
    }
}

const fn cache(field: &'static str, consequence: &'static str) -> Hazard {
    Hazard {
        rule: Rule::FatalIfNotCoherent,
        ..fatal(Id::CTR_EL0, field, consequence)
    }
}

const fn unless_unused(
    register: Id,
    field: &'static str,
    usage: UsageOf,
    consequence: &'static str,
) -> Hazard {
    Hazard {
        rule: Rule::FatalUnlessUnused(usage),
        ..fatal(register, field, consequence)
    }
}

const fn if_in_use(
    register: Id,
    field: &'static str,
    usage: UsageOf,
    consequence: &'static str,
) -> Hazard {
    Hazard {
        rule: Rule::FatalIfInUse(usage),
        ..fatal(register, field, consequence)
    }
}

const fn mitigation(register: Id, field: &'static str, consequence: &'static str) -> Hazard {
    Hazard {
        rule: Rule::High,
        ..fatal(register, field, consequence)
    }
}

/// Returns a hazard that applies to any change of the field.
const fn any_change(hazard: Hazard) -> Hazard {
    Hazard {
        applies: |_| true,
        ..hazard
    }
}

/// Returns a hazard that applies only if the feature becomes absent.
const fn removal(hazard: Hazard) -> Hazard {
    Hazard {
        applies: is_removed,
        ..hazard
    }
}

const NO_GRANULE: &str =
    "the guest's page tables have this page size, so every memory access faults";
const OTHER_ALGORITHM: &str = "pointers that the guest signed no longer authenticate";
/// Fields APA and API of ID_AA64ISAR1_EL1.
const AUTHENTICATION_ALGORITHMS: u64 = 0xff << 4;
const OTHER_CPU: &str = "the guest runs another CPU's errata workarounds and lacks this CPU's";
const SPECTRE: &str = "the guest decided at boot that it needs no mitigation";
const STALE_CODE: &str =
    "the guest skips cache maintenance that this CPU needs, and runs stale instructions";

/// All hazards.
pub(super) const HAZARDS: &[Hazard] = &[
    // ---- the CPU itself
    any_change(fatal(Id::MIDR_EL1, "Implementer", OTHER_CPU)),
    any_change(fatal(Id::MIDR_EL1, "PartNum", OTHER_CPU)),
    any_change(mitigation(
        Id::MIDR_EL1,
        "Variant",
        "the guest has the errata workarounds of another revision of the CPU",
    )),
    any_change(mitigation(
        Id::MIDR_EL1,
        "Revision",
        "the guest has the errata workarounds of another revision of the CPU",
    )),
    // ---- caches
    cache("DIC", STALE_CODE),
    cache("IDC", STALE_CODE),
    cache("L1Ip", STALE_CODE),
    cache(
        "IminLine",
        "the guest's loops over instruction cache lines skip lines",
    ),
    cache(
        "DminLine",
        "the guest's loops over data cache lines skip lines",
    ),
    // ---- instructions that kernel and libraries chose at their start
    fatal(
        Id::ID_AA64ISAR0_EL1,
        "Atomic",
        "the kernel and its libraries use LSE atomics, which become undefined instructions",
    ),
    removal(fatal(
        Id::ID_AA64PFR0_EL1,
        "FP",
        "the guest has no floating point any more",
    )),
    removal(fatal(
        Id::ID_AA64PFR0_EL1,
        "AdvSIMD",
        "the guest has no Advanced SIMD any more",
    )),
    fatal(
        Id::ID_AA64PFR0_EL1,
        "EL0",
        "the VM stops when its first 32-bit program runs",
    ),
    // ---- address translation
    unless_unused(
        Id::ID_AA64MMFR0_EL1,
        "TGran4",
        |vcpu, change| lost_granule(vcpu, Granule::Size4K, change),
        NO_GRANULE,
    ),
    unless_unused(
        Id::ID_AA64MMFR0_EL1,
        "TGran16",
        |vcpu, change| lost_granule(vcpu, Granule::Size16K, change),
        NO_GRANULE,
    ),
    unless_unused(
        Id::ID_AA64MMFR0_EL1,
        "TGran64",
        |vcpu, change| lost_granule(vcpu, Granule::Size64K, change),
        NO_GRANULE,
    ),
    unless_unused(
        Id::ID_AA64MMFR0_EL1,
        "ASIDBits",
        |vcpu, _| vcpu.wide_asids(),
        "unrelated processes share TLB entries, and read and write each other's memory",
    ),
    unless_unused(
        Id::ID_AA64MMFR0_EL1,
        "PARange",
        |vcpu, change| vcpu.physical_range(change.to),
        "the guest's page tables may hold addresses that this CPU cannot translate",
    ),
    unless_unused(
        Id::ID_AA64MMFR1_EL1,
        "VMIDBits",
        |vcpu, _| vcpu.vmids(),
        "unrelated nested VMs share TLB entries",
    ),
    unless_unused(
        Id::ID_AA64MMFR2_EL1,
        "VARange",
        |vcpu, change| vcpu.virtual_range(change.to),
        "the guest uses virtual addresses that this CPU cannot translate",
    ),
    Hazard {
        // Higher values concern EL2 only.
        applies: |change| is_lowered(change) && change.to < 3,
        ..unless_unused(
            Id::ID_AA64MMFR1_EL1,
            "HAFDBS",
            |vcpu, change| vcpu.table_updates(change.to),
            "the guest expects the CPU to set access and dirty bits, and loses written pages",
        )
    },
    if_in_use(
        Id::ID_AA64MMFR1_EL1,
        "HPDS",
        |vcpu, _| vcpu.flat_permissions(),
        "the CPU takes other permissions from the guest's page tables",
    ),
    if_in_use(
        Id::ID_AA64MMFR2_EL1,
        "E0PD",
        |vcpu, _| vcpu.fast_faults(),
        "the guest's protection against reading kernel addresses is gone",
    ),
    if_in_use(
        Id::ID_AA64MMFR3_EL1,
        "TCRX",
        |vcpu, _| vcpu.extended_translation(u64::MAX),
        "the guest's settings in TCR2_EL1 are gone",
    ),
    if_in_use(
        Id::ID_AA64MMFR3_EL1,
        "SCTLRX",
        |vcpu, _| vcpu.extended_control(),
        "the guest's settings in SCTLR2_EL1 are gone",
    ),
    if_in_use(
        Id::ID_AA64MMFR3_EL1,
        "S1PIE",
        |vcpu, _| vcpu.extended_translation(1 << 1),
        "the CPU takes other permissions from the guest's page tables",
    ),
    if_in_use(
        Id::ID_AA64MMFR3_EL1,
        "S1POE",
        |vcpu, _| vcpu.extended_translation(1 << 3 | 1 << 2),
        "the guest's protection keys are gone",
    ),
    // ---- pointer authentication and branch targets
    Hazard {
        rule: Rule::FatalIfReplaced(|isar1| isar1 & AUTHENTICATION_ALGORITHMS != 0),
        ..removal(fatal(Id::ID_AA64ISAR1_EL1, "APA", OTHER_ALGORITHM))
    },
    Hazard {
        rule: Rule::FatalIfReplaced(|isar1| isar1 & AUTHENTICATION_ALGORITHMS != 0),
        ..removal(fatal(Id::ID_AA64ISAR1_EL1, "API", OTHER_ALGORITHM))
    },
    signed_addresses(Id::ID_AA64ISAR1_EL1, "APA"),
    signed_addresses(Id::ID_AA64ISAR1_EL1, "API"),
    signed_addresses(Id::ID_AA64ISAR2_EL1, "APA3"),
    unless_unused(
        Id::ID_AA64ISAR1_EL1,
        "GPA",
        |vcpu, _| vcpu.generic_authentication(),
        "programs that sign data find their signatures wrong",
    ),
    unless_unused(
        Id::ID_AA64ISAR1_EL1,
        "GPI",
        |vcpu, _| vcpu.generic_authentication(),
        "programs that sign data find their signatures wrong",
    ),
    unless_unused(
        Id::ID_AA64ISAR2_EL1,
        "GPA3",
        |vcpu, _| vcpu.generic_authentication(),
        "programs that sign data find their signatures wrong",
    ),
    unless_unused(
        Id::ID_AA64PFR1_EL1,
        "BT",
        |vcpu, _| vcpu.branch_targets(),
        "the guest's protection of branch targets is gone",
    ),
    // ---- instructions and registers that the guest has enabled
    unless_unused(
        Id::ID_AA64ISAR2_EL1,
        "MOPS",
        |vcpu, _| vcpu.memory_copies(),
        "programs that use CPY and SET end with an undefined instruction",
    ),
    unless_unused(
        Id::ID_AA64PFR0_EL1,
        "SVE",
        |vcpu, _| vcpu.vectors(),
        "programs that use SVE end with an undefined instruction, and the kernel fails",
    ),
    unless_unused(
        Id::ID_AA64PFR1_EL1,
        "MTE",
        |vcpu, _| vcpu.memory_tags(),
        "tagged pointers and tags in memory no longer match",
    ),
    removal(unless_unused(
        Id::ID_AA64MMFR1_EL1,
        "PAN",
        |vcpu, _| vcpu.privileged_access_never(),
        "the kernel's next write of PSTATE.PAN is an undefined instruction",
    )),
    Hazard {
        // FEAT_PAN3.
        applies: |change| change.from >= 3 && (1..3).contains(&change.to),
        ..unless_unused(
            Id::ID_AA64MMFR1_EL1,
            "PAN",
            |vcpu, _| vcpu.execute_access_never(),
            "the guest's protection of its kernel from execute-only pages is gone",
        )
    },
    unless_unused(
        Id::ID_AA64MMFR2_EL1,
        "UAO",
        |vcpu, _| vcpu.user_access_override(),
        "the kernel's next write of PSTATE.UAO is an undefined instruction",
    ),
    unless_unused(
        Id::ID_AA64PFR1_EL1,
        "SSBS",
        |vcpu, _| vcpu.speculative_store_bypass(),
        "the kernel's next write of PSTATE.SSBS is an undefined instruction",
    ),
    unless_unused(
        Id::ID_AA64PFR0_EL1,
        "DIT",
        |vcpu, _| vcpu.data_independent_timing(),
        "the kernel's next write of PSTATE.DIT is an undefined instruction",
    ),
    if_in_use(
        Id::ID_AA64PFR1_EL1,
        "SME",
        |vcpu, _| vcpu.matrices(),
        "programs that use SME end with an undefined instruction, and the kernel fails",
    ),
    if_in_use(
        Id::ID_AA64PFR1_EL1,
        "NMI",
        |vcpu, _| vcpu.unmaskable_interrupts(),
        "the kernel's next write of PSTATE.ALLINT is an undefined instruction",
    ),
    if_in_use(
        Id::ID_AA64PFR1_EL1,
        "GCS",
        |vcpu, _| vcpu.control_stacks(),
        "programs with guarded control stacks end with an undefined instruction",
    ),
    // ---- mitigations
    mitigation(Id::ID_AA64PFR0_EL1, "CSV2", SPECTRE),
    mitigation(Id::ID_AA64PFR0_EL1, "CSV3", SPECTRE),
    mitigation(Id::ID_AA64PFR1_EL1, "CSV2_frac", SPECTRE),
    mitigation(Id::ID_AA64MMFR1_EL1, "ECBHB", SPECTRE),
    mitigation(
        Id::ID_AA64ISAR2_EL1,
        "CLRBHB",
        "the guest's mitigation of branch history injection does nothing",
    ),
    mitigation(
        Id::ID_AA64ISAR1_EL1,
        "SPECRES",
        "the guest's barriers against speculation are undefined instructions",
    ),
    mitigation(
        Id::ID_AA64PFR1_EL1,
        "SSBS",
        "the guest's mitigation of Spectre v4 is gone",
    ),
];

/// Returns the use of a granule that the new value removes, or of its 52-bit addresses.
fn lost_granule(vcpu: &VcpuSettings, granule: Granule, change: FieldDifference) -> Usage {
    if is_absent_granule(granule, change.to) {
        vcpu.granule(granule)
    } else {
        vcpu.wide_addresses(granule)
    }
}

/// Returns `true` if a value of TGran4, TGran16 or TGran64 says that the granule is not supported.
const fn is_absent_granule(granule: Granule, value: u64) -> bool {
    match granule {
        Granule::Size16K => value == 0,
        Granule::Size4K | Granule::Size64K => value >= 8,
    }
}

/// Returns the hazard of removing or changing an algorithm of address authentication.
const fn signed_addresses(register: Id, field: &'static str) -> Hazard {
    Hazard {
        applies: is_signature_lost,
        ..unless_unused(
            register,
            field,
            |vcpu, _| vcpu.signed_addresses(),
            "return addresses that the guest signed no longer authenticate",
        )
    }
}

/// Returns `true` if signatures made under the old value do not authenticate under the new one.
///
/// FEAT_PAuth2 (3) combines the signature with the pointer. Higher values only differ in the
/// handling of a wrong signature.
const fn is_signature_lost(change: FieldDifference) -> bool {
    const PAUTH2: u64 = 3;
    change.from != 0 && (change.to == 0 || (change.from >= PAUTH2) != (change.to >= PAUTH2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hazard_names_a_field_of_the_register() {
        for hazard in HAZARDS {
            let field = hazard.register.field(hazard.field);
            assert!(
                field.is_some(),
                "{}.{} has no such field",
                hazard.register,
                hazard.field
            );
        }
    }
}
