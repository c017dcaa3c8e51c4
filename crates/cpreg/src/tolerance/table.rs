//! The table of tolerances for KVM: harmless differences, with their conditions and reasons.
//!
//! Registers appear by name. No entry depends on a VMM's machine version. The first entry for a
//! register and a difference applies. Without an entry, a plan refuses a register that only the
//! input has. A register that only the destination has keeps its reset value, and the plan reports
//! it.
//!
//! Sources: Linux commits and releases as cited; lists and values of real kernels 5.10.223 to 7.3.4
//! (recorded); the public discussions of QEMU's mitigation series (qemu-devel, September 2025 to
//! April 2026) and of PSCI versions (`kvm-psci-version`).

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::{
    Category, Condition, Handling, HistoryEntry, RegisterDifference, RegisterSelector, Tolerance,
    VisibleEffect,
};
use crate::destination::Accelerator;
use crate::register::RegisterId as Id;
use crate::remedy::Remedy;
use crate::severity::Severity;

/// Returns the built-in entries.
pub(crate) fn built_in_entries() -> Vec<Tolerance> {
    let mut entries = Vec::new();
    entries.extend(psci());
    entries.extend(services());
    entries.extend(mitigations());
    // PMMIR_EL1 has a separate entry, which must precede that of the other PMU registers.
    entries.extend(new_register_entries());
    entries.extend(listed_by_mistake());
    entries.extend(super::table_el2::built_in_entries());
    entries.extend(missing_by_mistake());
    entries.extend(cache_geometry());
    entries.extend(super::table_tcg::built_in_entries());
    entries.extend(super::table_hvf::built_in_entries());
    entries
}

/// Returns an entry for KVM's source-only registers, ignored under a condition.
///
/// Callers change the fields that differ.
fn source_only(
    registers: &'static [Id],
    category: Category,
    condition: Condition,
    reason: &'static str,
    remedy: Option<Remedy>,
    history: &[HistoryEntry],
) -> Tolerance {
    Tolerance {
        registers: RegisterSelector::Ids(Cow::Borrowed(registers)),
        accelerator: Some(Accelerator::Kvm),
        difference: RegisterDifference::SourceOnly,
        condition,
        handling: Handling::Ignore,
        visible_effect: None,
        category,
        reason: Cow::Borrowed(reason),
        remedy,
        history: history.to_vec(),
        is_operator_entry: false,
        origin: None,
    }
}

fn value_not_accepted(
    registers: &'static [Id],
    reason: &'static str,
    remedy: Option<Remedy>,
    history: &[HistoryEntry],
) -> Tolerance {
    Tolerance {
        difference: RegisterDifference::ValueNotAccepted,
        handling: Handling::Refuse,
        ..source_only(
            registers,
            Category::Control,
            Condition::Always,
            reason,
            remedy,
            history,
        )
    }
}

fn visible_effect(severity: Severity, description: &'static str) -> VisibleEffect {
    VisibleEffect {
        severity,
        description: Cow::Borrowed(description),
    }
}

const fn history_entry(
    release: &'static str,
    commit: &'static str,
    description: &'static str,
) -> HistoryEntry {
    HistoryEntry {
        release,
        commit,
        description,
    }
}

const fn equals(expected: u64) -> Condition {
    Condition::Value {
        mask: u64::MAX,
        expected,
    }
}

const fn bits_clear(mask: u64) -> Condition {
    Condition::Value { mask, expected: 0 }
}

// ---- control registers: they decide which features the kernel shows the guest

fn psci() -> Vec<Tolerance> {
    const PSCI: &[HistoryEntry] = &[
        history_entry("v4.17", "85bd0ba1ff98", "listed; default 1.0"),
        history_entry("v5.18", "512865d83fd9", "default 1.1 (SYSTEM_RESET2)"),
        history_entry("v6.13", "8be82d536a9f", "default 1.3 (SYSTEM_OFF2)"),
    ];
    vec![
        source_only(
            &[Id::PSCI_VERSION],
            Category::Control,
            Condition::Value {
                mask: u64::MAX,
                expected: 0x2,
            },
            "a kernel without the register shows PSCI 0.2",
            Some(Remedy::StartWithCommonPsciVersion),
            PSCI,
        ),
        value_not_accepted(
            &[Id::PSCI_VERSION],
            "the guest was promised a PSCI version that the destination's kernel does not have",
            Some(Remedy::StartWithCommonPsciVersion),
            PSCI,
        ),
    ]
}

fn services() -> Vec<Tolerance> {
    const BITMAPS: &[HistoryEntry] = &[
        history_entry(
            "v5.19",
            "05714cab7d63",
            "STD_BMAP listed; all services offered by default",
        ),
        history_entry("v5.19", "428fd6788d4d", "STD_HYP_BMAP listed"),
        history_entry("v5.19", "b22216e1a617", "VENDOR_HYP_BMAP listed"),
    ];
    const CLEAR_SERVICES: Remedy = Remedy::text(
        "clear the services that the destination does not know in this register on the source, before the guest first runs",
    );
    let bitmap = |register: &'static [Id], services: u64, description: &'static str| Tolerance {
        visible_effect: Some(visible_effect(Severity::Low, description)),
        ..source_only(
            register,
            Category::Control,
            bits_clear(!services),
            "a kernel without this register offers its services to every guest; the register only disables services",
            Some(CLEAR_SERVICES),
            BITMAPS,
        )
    };
    vec![
        bitmap(
            &[Id::STD_BMAP],
            1,
            "TRNG calls get the default of the destination's kernel: refused before v5.12, offered by later ones",
        ),
        bitmap(
            &[Id::STD_HYP_BMAP],
            1,
            "stolen-time calls get the default of the destination's kernel: offered since v5.5",
        ),
        bitmap(
            &[Id::VENDOR_HYP_BMAP],
            3,
            "KVM's own calls get the default of the destination's kernel: the PTP clock is refused before v5.13, offered by later ones",
        ),
        source_only(
            &[Id::VENDOR_HYP_BMAP_2],
            Category::Control,
            equals(0),
            "zero offers no service, like a kernel without the register",
            Some(Remedy::text(
                "do not give the VM target implementation CPUs on the source",
            )),
            &[history_entry("v6.15", "c0000e58c74e", "listed; default 0")],
        ),
    ]
}

fn mitigations() -> Vec<Tolerance> {
    const MITIGATIONS: &[HistoryEntry] = &[
        history_entry("v5.3", "99adb567632b", "WORKAROUND_1 and _2 listed"),
        history_entry(
            "v5.18",
            "a5905d6af492",
            "WORKAROUND_3 listed, in stable kernels as well",
        ),
    ];
    vec![
        source_only(
            &[
                Id::SMCCC_ARCH_WORKAROUND_1,
                Id::SMCCC_ARCH_WORKAROUND_2,
                Id::SMCCC_ARCH_WORKAROUND_3,
            ],
            Category::Control,
            equals(0),
            "zero promises the guest no mitigation, like a kernel without the register",
            Some(Remedy::text(
                "the guest relies on the mitigation: move the VM to a host whose kernel offers it",
            )),
            MITIGATIONS,
        ),
        value_not_accepted(
            &[
                Id::SMCCC_ARCH_WORKAROUND_1,
                Id::SMCCC_ARCH_WORKAROUND_2,
                Id::SMCCC_ARCH_WORKAROUND_3,
            ],
            "KVM compares it with the host's own level and does not store it: the destination mitigates less than the source. It reads as the host's level, \
             so the state may claim more than the guest was promised when it booted on another host",
            Some(Remedy::text(
                "move the VM to a host with the same mitigation; or, if the guest booted on a host without it, accept the lower level",
            )),
            MITIGATIONS,
        ),
    ]
}

/// Remedy for a register of a feature that the destination lacks.
const REMOVE_FEATURE: Remedy = Remedy::text(
    "disable the feature on the source before the guest first runs, or move the VM to a host that has it",
);

// ---- listed by mistake: some kernels list the register although the guest lacks the feature

fn listed_by_mistake() -> Vec<Tolerance> {
    fn without_s1pie() -> Condition {
        // TCR2_EL1.PIE (bit 1) clear: the permission indirection registers are not used.
        const UNUSED: Condition = Condition::OtherRegister {
            register: Id::TCR2_EL1,
            mask: 1 << 1,
            expected: 0,
        };
        Condition::WithoutFeature {
            register: Id::ID_AA64MMFR3_EL1,
            field: "S1PIE",
            lsb: 8,
            unused: Box::new(UNUSED),
        }
    }
    let pmu = Tolerance {
        registers: RegisterSelector::PerformanceMonitors,
        ..source_only(
            &[],
            Category::ListedByMistake,
            Condition::PmuUnused,
            "kernels up to v5.10 list the PMU's registers for VMs without a PMU; the destination VM has no PMU, and all of its registers in the input hold their reset values",
            Some(Remedy::MatchPmu),
            &[history_entry(
                "v5.12",
                "11663111cd49",
                "listed only for VMs with a PMU",
            )],
        )
    };
    vec![
        source_only(
            &[Id::TCR2_EL1],
            Category::ListedByMistake,
            Condition::WithoutFeature {
                register: Id::ID_AA64MMFR3_EL1,
                field: "TCRX",
                lsb: 0,
                unused: Box::new(equals(0)),
            },
            "the guest does not have the register: its ID_AA64MMFR3_EL1.TCRX is 0",
            Some(REMOVE_FEATURE),
            &[
                history_entry("v6.5", "fbff56068232", "listed for every guest"),
                history_entry(
                    "v6.13",
                    "0fcb4eea5345",
                    "listed only if ID_AA64MMFR3_EL1.TCRX is not 0",
                ),
                history_entry("QEMU 11.1", "113ed8e53c", "tolerated on either side"),
            ],
        ),
        source_only(
            &[Id::PIRE0_EL1, Id::PIR_EL1],
            Category::ListedByMistake,
            without_s1pie(),
            "the guest does not have the register: its ID_AA64MMFR3_EL1.S1PIE is 0. The register's value means nothing: its reset value is KVM's poison",
            Some(REMOVE_FEATURE),
            &[
                history_entry("v6.5", "86f9de9db178", "listed for every guest"),
                history_entry(
                    "v6.13",
                    "a68cddbe47ef",
                    "listed only if ID_AA64MMFR3_EL1.S1PIE is not 0",
                ),
                history_entry("QEMU 11.1", "113ed8e53c", "tolerated on either side"),
            ],
        ),
        pmu,
    ]
}

// ---- missing by mistake: older kernels should list the register, and newer kernels do

fn missing_by_mistake() -> Vec<Tolerance> {
    const LOCK: &[HistoryEntry] = &[history_entry(
        "v5.18",
        "d42e26716d03",
        "listed; reset value 0x8, unlocked",
    )];
    let os_lock = source_only(
        &[Id::OSLSR_EL1],
        Category::MissingByMistake,
        equals(0x8),
        "the OS lock is implemented and not locked, as on a kernel that does not list it",
        Some(Remedy::text(
            "let the guest unlock the OS lock (OSLAR_EL1) first",
        )),
        LOCK,
    );
    let sve_id = source_only(
        &[Id::ID_AA64ZFR0_EL1],
        Category::MissingByMistake,
        equals(0),
        "the guest reads zero on a kernel that does not list the register",
        Some(Remedy::text(
            "the guest has SVE, which it does not have at the destination",
        )),
        &[
            history_entry("v5.2", "", "not listed without SVE"),
            history_entry("v5.10", "f81cb2c3ad41", "listed again for every guest"),
        ],
    );
    let mut entries = vec![os_lock];
    entries.extend(physical_timer());
    entries.push(sve_id);
    entries
}

fn physical_timer() -> Vec<Tolerance> {
    const PHYSICAL_TIMER: &[HistoryEntry] = &[history_entry(
        "v6.4",
        "680232a94c12",
        "listed for every guest",
    )];
    const IN_USE: Remedy = Remedy::text(
        "the guest uses its physical timer, which this destination does not load: an armed timer would never fire",
    );
    let destination_only =
        |registers: &'static [Id], description: &'static str, reason: &'static str| Tolerance {
            difference: RegisterDifference::DestinationOnly,
            handling: Handling::KeepAtReset,
            visible_effect: Some(visible_effect(Severity::High, description)),
            ..source_only(
                registers,
                Category::MissingByMistake,
                Condition::Always,
                reason,
                None,
                PHYSICAL_TIMER,
            )
        };
    vec![
        source_only(
            &[Id::PTIMER_CTL],
            Category::MissingByMistake,
            bits_clear(1),
            "the physical timer is off (ENABLE is 0)",
            Some(IN_USE),
            PHYSICAL_TIMER,
        ),
        source_only(
            &[Id::PTIMER_CVAL],
            Category::MissingByMistake,
            Condition::OtherRegister {
                register: Id::PTIMER_CTL,
                mask: 1,
                expected: 0,
            },
            "the physical timer is off (CNTP_CTL_EL0.ENABLE is 0), so its deadline is not used",
            Some(IN_USE),
            PHYSICAL_TIMER,
        ),
        Tolerance {
            visible_effect: Some(visible_effect(
                Severity::High,
                "CNTPCT_EL0 becomes the destination's own counter: it jumps, possibly backwards",
            )),
            ..source_only(
                &[Id::PTIMER_CNT],
                Category::MissingByMistake,
                Condition::Always,
                "a kernel without the register always shows the guest the host's own physical counter",
                None,
                PHYSICAL_TIMER,
            )
        },
        destination_only(
            &[Id::PTIMER_CNT],
            "the source's kernel does not save CNTPCT_EL0: it becomes the destination's own counter and jumps, possibly backwards",
            "a kernel without the register shows the guest the host's own physical counter, and so does a kernel whose register is not written",
        ),
        // The effect covers both registers of the timer; the entry for the deadline has none.
        destination_only(
            &[Id::PTIMER_CTL],
            "the source's kernel does not save the physical timer (CNTP_CTL_EL0, CNTP_CVAL_EL0): it is off at the destination, and a guest that armed it receives no \
             more interrupts from it; Linux under KVM uses the virtual timer",
            "a kernel without the register does not save the physical timer, so it is not known whether the guest armed it",
        ),
        Tolerance {
            visible_effect: None,
            ..destination_only(
                &[Id::PTIMER_CVAL],
                "",
                "the deadline of the physical timer, which CNTP_CTL_EL0 leaves off",
            )
        },
    ]
}

// ---- new: registers of features that older hosts lack

fn new_register_entries() -> Vec<Tolerance> {
    // TCR2_EL1.{E0POE, POE} (bits 2 and 3) clear: the overlays are not used.
    const OVERLAYS_UNUSED: Condition = Condition::OtherRegister {
        register: Id::TCR2_EL1,
        mask: 0b1100,
        expected: 0,
    };
    vec![
        source_only(
            &[Id::SCTLR2_EL1],
            Category::New,
            Condition::WithoutFeature {
                register: Id::ID_AA64MMFR3_EL1,
                field: "SCTLRX",
                lsb: 4,
                unused: Box::new(equals(0)),
            },
            "the guest does not have the register (ID_AA64MMFR3_EL1.SCTLRX is 0), or loses it by the user's decision while it holds 0",
            Some(REMOVE_FEATURE),
            &[history_entry(
                "v6.17",
                "81fbef164766",
                "listed if ID_AA64MMFR3_EL1.SCTLRX is not 0, which it is by default from this release on",
            )],
        ),
        source_only(
            &[Id::FPMR],
            Category::New,
            Condition::WithoutFeature {
                register: Id::ID_AA64PFR2_EL1,
                field: "FPMR",
                lsb: 32,
                unused: Box::new(equals(0)),
            },
            "the guest does not have the register (ID_AA64PFR2_EL1.FPMR is 0), or loses it by the user's decision while it holds 0",
            Some(REMOVE_FEATURE),
            &[history_entry(
                "v6.12",
                "ef3be86021c3",
                "listed if ID_AA64PFR2_EL1.FPMR is not 0",
            )],
        ),
        source_only(
            &[Id::POR_EL0, Id::POR_EL1],
            Category::New,
            Condition::WithoutFeature {
                register: Id::ID_AA64MMFR3_EL1,
                field: "S1POE",
                lsb: 16,
                unused: Box::new(OVERLAYS_UNUSED),
            },
            "the guest does not have the register (ID_AA64MMFR3_EL1.S1POE is 0), or loses it by the user's decision while permission overlays are off",
            Some(REMOVE_FEATURE),
            &[history_entry(
                "v6.12",
                "",
                "listed if ID_AA64MMFR3_EL1.S1POE is not 0",
            )],
        ),
        source_only(
            &[Id::PMMIR_EL1],
            Category::New,
            equals(0),
            "zero describes nothing of the machine, and a guest reads zero if the register is not listed",
            Some(Remedy::text(
                "start the VM on the source without PMU_V3_STRICT",
            )),
            &[history_entry(
                "v7.3",
                "453f6ff04b8d",
                "listed for every VM with a PMU; 0 unless PMU_V3_STRICT",
            )],
        ),
    ]
}

// ---- cache geometry

fn cache_geometry() -> Vec<Tolerance> {
    const HISTORY: &[HistoryEntry] = &[history_entry(
        "v6.3",
        "7af0c2534f4c",
        "CLIDR_EL1 and CCSIDR_EL1 fabricated and writable, all 14 slots listed; before, the host's own and invariant",
    )];
    let cache_value_not_accepted = |registers: RegisterSelector, reason: &'static str| Tolerance {
        registers,
        category: Category::Identification,
        ..value_not_accepted(
            &[],
            reason,
            Some(Remedy::text(
                "accept the destination's cache geometry for the guest",
            )),
            HISTORY,
        )
    };
    vec![
        Tolerance {
            registers: RegisterSelector::CacheSizes,
            ..source_only(
                &[],
                Category::Identification,
                Condition::NoSuchCache,
                "the slot describes a cache that the guest's CLIDR_EL1 does not have",
                Some(Remedy::text(
                    "the destination's caches have fewer levels than the source's",
                )),
                HISTORY,
            )
        },
        cache_value_not_accepted(
            RegisterSelector::CacheSizes,
            "hosts up to v6.2 show the guest their own caches and accept no others",
        ),
        cache_value_not_accepted(
            RegisterSelector::Ids(Cow::Borrowed(&[Id::CLIDR_EL1])),
            "hosts up to v6.2 show the guest their own caches and accept no others",
        ),
    ]
}
