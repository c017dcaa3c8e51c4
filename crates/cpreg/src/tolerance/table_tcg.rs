//! The table of tolerances for QEMU's own emulation (TCG): registers that not every version lists
//! for the same CPU.
//!
//! An emulated CPU's list grows with each version, mostly by registers without state. The lists and
//! values are those of 5.2.0, 7.2.22, 10.0.13 and 11.1.3 (data/tcg-lists.tsv). docs/tcg-loading.md,
//! sections 4 and 6, describes each register and the results of a load without the register.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::{
    Category, Condition, Handling, HistoryEntry, RegisterDifference, RegisterSelector, Tolerance,
    VisibleEffect,
};
use crate::destination::Accelerator;
use crate::register::{Naming, RegisterId};
use crate::remedy::Remedy;
use crate::severity::Severity;

/// Names of stubs, which read as zero and keep nothing. DBGDTRTX is the name of one of them in QEMU
/// 10.1 and 10.2 (4f2b82f60).
const STUBS: &[&str] = &[
    "DBGDTR_EL0",
    "DBGDTRRX_EL0",
    "OSDTRRX_EL1",
    "OSDTRTX_EL1",
    "OSECCR_EL1",
    "MDCCINT_EL1",
    "MDCCSR_EL0",
    "DBGVCR32_EL2",
    "DBGDTRRXext",
    "DBGDTRTXext",
    "DBGDTRTXint",
    "DBGDTRTX",
    "DBGDCCINT",
    "DBGOSECCR",
    "DBGVCR",
];

/// Names of views of registers that are listed under another name, and of registers that no guest
/// of the CPU can access.
const VIEWS: &[&str] = &[
    // The 64-bit form holds the value.
    "PAR",
    "PAR_S",
    // Another name of RVBAR_EL1, which no guest can write.
    "RVBAR",
    // AArch32 at EL1, on CPUs without it.
    "DACR32_EL2",
    "IFSR32_EL2",
    // EL2 registers that QEMU lists for a machine with EL3 and without EL2. P15_4_C14_C2_0 is
    // CNTHP_TVAL, P15_4_C0_C0_0 is VPIDR.
    "HCR",
    "HCR2",
    "VTCR",
    "HIFAR",
    "HMAIR1",
    "P15_4_C14_C2_0",
    "HTTBR",
    "VTTBR",
    "CNTVOFF",
    "P15_4_C0_C0_0",
    "CNTHP_TVAL_EL2",
    "VMPIDR_EL2",
    "HSCTLR_S",
    "HACTLR_S",
    "HDCR_S",
    "HCPTR_S",
    "HSTR_S",
    "HACR_S",
    "HTCR_S",
    "HADFSR_S",
    "HAIFSR_S",
    "HSR_S",
    "HDFAR_S",
    "HPFAR_S",
    "HMAIR0_S",
    "HAMAIR0_S",
    "HAMAIR1_S",
    "HVBAR_S",
    "HTPIDR_S",
    "CNTHCTL_S",
    "CNTHP_CTL_S",
    "CNTHP_CVAL_S",
];

/// Names of debug registers that store a value and do nothing else: claim tags, and a lock that
/// QEMU ignores.
const TAGS: &[&str] = &["DBGCLAIMCLR_EL1", "DBGCLAIMCLR", "OSDLR_EL1", "DBGOSDLR"];

/// Names of registers that identify the CPU.
const IDENTIFICATION_REGISTERS: &[&str] = &[
    "DBGDEVID",
    "DBGDEVID1",
    "DBGDEVID2",
    "ID_PFR2",
    "ID_DFR1",
    "ID_MMFR5",
    "RMR",
    "RMR_EL1",
    "RMR_EL2",
    "RMR_EL3",
    "ERRIDR",
    "ERRIDR_EL1",
    "SMIDR_EL1",
    "SMPRI_EL1",
    "SMPRIMAP_EL2",
    "TCO",
    "AMAIR2_EL1",
    "AMAIR2_EL2",
    "AMAIR2_EL3",
    "MECIDR_EL2",
];

/// Names of registers of features that an older version lacks.
const FEATURES: &[&str] = &[
    "SCXTNUM_EL0",
    "SCXTNUM_EL1",
    "SCXTNUM_EL2",
    "SCXTNUM_EL3",
    "TPIDR2_EL0",
    "CONTEXTIDR_EL2",
    "DISR_EL1",
    "VDISR_EL2",
    "VSESR_EL2",
    "DISR",
    "VDISR",
    "VDFSR",
    "SMCR_EL1",
    "SMCR_EL2",
    "SVCR",
    "HCRX_EL2",
    "VSTTBR_EL2",
    "VSTCR_EL2",
    "HFGRTR_EL2",
    "HFGWTR_EL2",
    "HFGITR_EL2",
    "HDFGRTR_EL2",
    "HDFGWTR_EL2",
    "CNTPOFF_EL2",
    "VNCR_EL2",
    "CNTHVS_CTL_EL2",
    "CNTHVS_CVAL_EL2",
    "CNTHPS_CTL_EL2",
    "CNTHPS_CVAL_EL2",
    "TCR2_EL1",
    "TCR2_EL2",
    "PIR_EL1",
    "PIR_EL2",
    "PIR_EL3",
    "PIRE0_EL1",
    "PIRE0_EL2",
    "S2PIR_EL2",
    "MAIR2_EL1",
    "MAIR2_EL2",
    "MAIR2_EL3",
    "SCTLR2_EL1",
    "SCTLR2_EL2",
    "SCTLR2_EL3",
    "GCSCR_EL1",
    "GCSCR_EL2",
    "GCSCR_EL3",
    "GCSCRE0_EL1",
    "GCSPR_EL0",
    "GCSPR_EL1",
    "GCSPR_EL2",
    "GCSPR_EL3",
    "FPMR",
    "MECID_P0_EL2",
    "MECID_A0_EL2",
    "MECID_P1_EL2",
    "MECID_A1_EL2",
    "VMECID_P_EL2",
    "VMECID_A_EL2",
    "MECID_RL_A_EL3",
];

/// Names of the counters that 5.2 lacks.
const COUNTERS: &[&str] = &[
    "PMEVCNTR4_EL0",
    "PMEVCNTR5_EL0",
    "PMEVTYPER4_EL0",
    "PMEVTYPER5_EL0",
];

/// Effect of a missing register that the guest could notice.
const MISSING_REGISTER_EFFECT: &str =
    "the destination does not have the register: a guest's access to it may be UNDEFINED";

/// Mask of two fields of ID_DFR0: MMapTrc is wrong up to QEMU 7.2, CopSDbg up to QEMU 5.2.
const ID_DFR0_CORRECTED: u64 = 0xf_00f0;

fn select_by_name(names: &[&str]) -> RegisterSelector {
    let ids = names
        .iter()
        .filter_map(|name| RegisterId::parse_in(name, Naming::Architectural).ok());
    RegisterSelector::Ids(Cow::Owned(ids.collect()))
}

/// Returns an entry that ignores source-only registers under a condition. Other entries override
/// some of its members.
fn source_only(
    registers: RegisterSelector,
    category: Category,
    condition: Condition,
    reason: &'static str,
) -> Tolerance {
    Tolerance {
        registers,
        accelerator: Some(Accelerator::Tcg),
        difference: RegisterDifference::SourceOnly,
        condition,
        handling: Handling::Ignore,
        visible_effect: None,
        category,
        reason: Cow::Borrowed(reason),
        remedy: Some(Remedy::StopOrIgnore),
        history: Vec::new(),
        is_operator_entry: false,
        origin: None,
    }
}

/// Returns the built-in entries for TCG.
pub(super) fn built_in_entries() -> Vec<Tolerance> {
    let mut entries = stateless_entries();
    entries.extend(identification());
    entries.extend(features());
    entries.extend(qemu_5_2_entries());
    entries
}

const ZERO: Condition = Condition::Value {
    mask: u64::MAX,
    expected: 0,
};

const fn visible_effect(description: &'static str) -> VisibleEffect {
    VisibleEffect {
        severity: Severity::Low,
        description: Cow::Borrowed(description),
    }
}

/// Returns entries for registers without any state, without state of their own, or without state
/// that a guest needs.
fn stateless_entries() -> Vec<Tolerance> {
    vec![
        Tolerance {
            visible_effect: Some(visible_effect(MISSING_REGISTER_EFFECT)),
            history: vec![
                HistoryEntry {
                    release: "QEMU 10.1",
                    commit: "4f2b82f60",
                    description: "a register of the debug channel listed with a wrong encoding",
                },
                HistoryEntry {
                    release: "QEMU 11.1",
                    commit: "234b3eaddd",
                    description: "DBGDTR_EL0 tolerated for -cpu host only",
                },
            ],
            ..source_only(
                select_by_name(STUBS),
                Category::ListedByMistake,
                Condition::Always,
                "it reads as zero and keeps nothing",
            )
        },
        source_only(
            select_by_name(VIEWS),
            Category::ListedByMistake,
            Condition::Always,
            "it is another name of a listed register, or no guest of this CPU can access it",
        ),
        Tolerance {
            visible_effect: Some(visible_effect(
                "the value is lost; nothing else depends on it",
            )),
            ..source_only(
                select_by_name(TAGS),
                Category::New,
                Condition::Always,
                "claim tags of debuggers, and a lock that QEMU ignores",
            )
        },
    ]
}

/// Returns entries for registers that identify the CPU.
fn identification() -> Vec<Tolerance> {
    let effect = visible_effect("the guest then reads the destination's own value");
    vec![
        Tolerance {
            visible_effect: Some(effect.clone()),
            history: vec![HistoryEntry {
                release: "QEMU 11.0",
                commit: "",
                description: "computed at each read (FEAT_RNG_TRAP), no longer listed",
            }],
            ..source_only(
                RegisterSelector::Ids(Cow::Borrowed(&[RegisterId::ID_AA64ISAR0_EL1])),
                Category::Identification,
                Condition::Always,
                "an emulator that does not list it always shows its own value; for named CPUs it is the same in every version",
            )
        },
        Tolerance {
            visible_effect: Some(effect),
            ..source_only(
                select_by_name(IDENTIFICATION_REGISTERS),
                Category::Identification,
                Condition::Always,
                "it identifies the emulated CPU and cannot be written",
            )
        },
        source_only(
            RegisterSelector::ReservedAArch32,
            Category::Identification,
            ZERO,
            "a reserved AArch32 ID register, which always reads as zero",
        ),
        Tolerance {
            visible_effect: Some(visible_effect(MISSING_REGISTER_EFFECT)),
            ..source_only(
                RegisterSelector::ImplementationDefined,
                Category::Identification,
                Condition::Always,
                "implementation-defined registers are constants in the emulator",
            )
        },
    ]
}

/// Returns entries for registers of features that an older version lacks.
fn features() -> Vec<Tolerance> {
    vec![
        Tolerance {
            visible_effect: Some(visible_effect(MISSING_REGISTER_EFFECT)),
            ..source_only(
                select_by_name(FEATURES),
                Category::New,
                ZERO,
                "it holds zero, its reset value: the guest does not use it",
            )
        },
        source_only(
            select_by_name(&["SMCR_EL3", "ZCR_EL3"]),
            Category::New,
            Condition::Value {
                mask: !0x4000_000f,
                expected: 0,
            },
            "it holds at most its reset value: the longest vector length, and FA64",
        ),
    ]
}

/// Returns entries for values that QEMU 5.2 and 7.2 report differently from later versions.
fn qemu_5_2_entries() -> Vec<Tolerance> {
    vec![
        Tolerance {
            difference: RegisterDifference::ValueNotAccepted,
            handling: Handling::SetToNearest,
            remedy: Some(Remedy::text(
                "accept the destination's value: the two QEMUs emulate different CPUs",
            )),
            ..source_only(
                select_by_name(&["ID_DFR0", "ID_DFR0_EL1"]),
                Category::Identification,
                Condition::DiffersIn {
                    mask: ID_DFR0_CORRECTED,
                },
                "older QEMUs claim trace and secure debug registers that QEMU never had, and QEMU accepts only its own value; the guest can use none of them",
            )
        },
        Tolerance {
            difference: RegisterDifference::ValueNotAccepted,
            handling: Handling::SetToNearest,
            remedy: Some(Remedy::text(
                "accept the destination's value: the two QEMUs emulate different CPUs",
            )),
            ..source_only(
                RegisterSelector::Ids(Cow::Borrowed(&[RegisterId::PMCR_EL0])),
                Category::Identification,
                Condition::OtherRegister {
                    register: RegisterId::PMCNTENSET_EL0,
                    mask: 0b11_0000,
                    expected: 0,
                },
                "QEMU 5.2 has four counters, and PMCR_EL0.N must be 4; the guest does not use the others",
            )
        },
        source_only(
            select_by_name(COUNTERS),
            Category::New,
            Condition::And(
                Box::new(ZERO),
                Box::new(Condition::OtherRegister {
                    register: RegisterId::PMCNTENSET_EL0,
                    mask: 0b11_0000,
                    expected: 0,
                }),
            ),
            "QEMU 5.2 has four counters; this one holds zero and is off",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_register() {
        for name in [
            STUBS,
            VIEWS,
            TAGS,
            IDENTIFICATION_REGISTERS,
            FEATURES,
            COUNTERS,
        ]
        .concat()
        {
            assert!(
                RegisterId::parse_in(name, Naming::Architectural).is_ok(),
                "{name}"
            );
        }
    }
}
