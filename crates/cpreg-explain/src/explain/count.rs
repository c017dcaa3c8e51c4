//! Explanation of a register list that is longer than the loader's, from recorded list lengths.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use cpreg::destination::Accelerator;
use cpreg::register::{Naming, RegisterId};
use cpreg::remedy::Remedy;

use super::explanation::{AffectedRegister, Cause, Explanation, FailureKind, cause};
use crate::list_lengths::{self, Pair};

/// Explains a list that is too long, from its length and the loader's.
pub(super) fn explain_register_count(
    count: Option<(i64, i64)>,
    accelerator: Option<Accelerator>,
    registers: Vec<AffectedRegister>,
) -> Explanation {
    let (meaning, causes) = match count {
        Some((incoming, local)) if incoming < 0 || local < 0 => (
            format!(
                "the length of the register list is {incoming}, which no vCPU has: the stream is \
                 damaged, or read from the wrong offset"
            ),
            Vec::new(),
        ),
        Some((incoming, local)) => {
            let judgement = judge(incoming, local, accelerator);
            let meaning = format!(
                "the VM has {incoming} registers per vCPU and the destination {local}. QEMU up to \
                 10.2 compares these two numbers before any register, and refuses the VM even if \
                 all registers that the destination lacks (at least {}) are harmless{}",
                incoming.saturating_sub(local),
                judgement.note
            );
            (meaning, judgement.causes)
        }
        None => (
            "the VM has more registers per vCPU than the destination; another line of QEMU's log \
             has the two numbers. QEMU up to 10.2 compares the numbers before any register, and \
             refuses the VM even if all registers that the destination lacks are harmless"
                .to_string(),
            match accelerator {
                Some(Accelerator::Tcg) => vec![tcg_cause()],
                _ => general_causes(),
            },
        ),
    };
    let is_tcg_only = causes == [tcg_cause()];
    let remedies = vec![
        Remedy::CHECK,
        Remedy::Probe,
        Remedy::Rehearse,
        Remedy::Convert,
    ];
    let explanation = Explanation::new(FailureKind::REGISTER_COUNT, meaning, causes, remedies)
        .with_registers(registers);
    if !is_tcg_only {
        return explanation;
    }
    explanation.with_command(
        "qemu-system-aarch64 --version",
        "shows the version; under TCG the two sides need the same one, with the same -cpu",
    )
}

/// Conclusions from two lengths.
struct Judgement {
    /// Text to append to the meaning; empty if recorded lists have both lengths.
    note: String,
    causes: Vec<Cause>,
}

/// Compares the lengths with the recorded lists of the accelerators that are possible.
fn judge(incoming: i64, local: i64, accelerator: Option<Accelerator>) -> Judgement {
    let is_possible = |other: Accelerator| accelerator.is_none_or(|known| known == other);
    let mut pairs = list_lengths::pairs(incoming, local);
    pairs.retain(|pair| is_possible(pair.accelerator));
    // Causes under KVM (host kernels) come first, then causes under TCG (QEMU versions).
    pairs.sort_by_key(|pair| pair.accelerator != Accelerator::Kvm);
    if !pairs.is_empty() {
        return Judgement {
            note: String::new(),
            causes: pairs.iter().map(pair_cause).collect(),
        };
    }
    if is_possible(Accelerator::Tcg) {
        let families = list_lengths::families_with(Accelerator::Tcg, incoming, local);
        if let Some(cpu) = families.first() {
            return Judgement {
                note: format!(
                    ". Both numbers are lengths of QEMU's own lists under TCG ({cpu}), and no \
                     recorded list of KVM has them: the host's kernel is not the reason"
                ),
                causes: vec![tcg_cause()],
            };
        }
    }
    let note = unrecorded_note(incoming, local);
    let difference = incoming.saturating_sub(local);
    let similar = list_lengths::pairs_with_difference(incoming, local);
    let mut causes = Vec::new();
    if is_possible(Accelerator::Kvm) {
        let pmu = similar.iter().find(|pair| pair.is_pmu_only());
        if let Some(pair) = pmu {
            causes.push(pmu_cause(pair.source_only.len()));
        } else if difference == 1 && list_lengths::is_shorter_than_recorded(incoming) {
            causes.push(cause(
                "to a kernel before Linux 5.10 (or RHEL 8's 4.18): ID_AA64ZFR0_EL1. Kernels from \
                 5.2 to 5.9 hide it from guests without SVE, and other kernels list it. It is \
                 harmless if its value is 0",
                "Linux v5.10 (f81cb2c3ad41)",
            ));
        } else {
            causes.extend(similar_causes(&similar, incoming));
        }
        if causes.is_empty() {
            causes.extend(general_causes());
        }
    }
    if is_possible(Accelerator::Tcg) {
        causes.push(tcg_cause());
    }
    Judgement { note, causes }
}

/// Returns causes from recorded pairs with the same difference in length as the failure's lists.
///
/// Only pairs under KVM count, and only if the source's length is near `incoming`.
/// Another CPU has other caches and breakpoints, which change a list by a few registers. A much
/// shorter or longer list is of another kernel or another VM.
fn similar_causes(similar: &[Pair], incoming: i64) -> Vec<Cause> {
    const MAX_SIMILAR_PAIRS: usize = 3;
    const MAX_DISTANCE: u64 = 16;
    let is_near = |pair: &&Pair| incoming.abs_diff(i64::from(pair.lengths.0)) <= MAX_DISTANCE;
    similar
        .iter()
        .filter(|pair| pair.accelerator == Accelerator::Kvm)
        .filter(is_near)
        .take(MAX_SIMILAR_PAIRS)
        .map(|pair| {
            cause(
                format!(
                    "possibly (only the difference in length matches): {}",
                    describe_pair(pair)
                ),
                format!("{}; other CPUs have other lengths", describe_evidence(pair)),
            )
        })
        .collect()
}

/// Returns a sentence that names the lengths without a recorded list.
fn unrecorded_note(incoming: i64, local: i64) -> String {
    let is_unrecorded = |length: &i64| !list_lengths::has_length(*length);
    let unrecorded: Vec<String> = [incoming, local]
        .iter()
        .filter(|length| is_unrecorded(length))
        .map(ToString::to_string)
        .collect();
    match unrecorded.as_slice() {
        [] => ". No recorded CPU has both lengths".to_string(),
        [one] => format!(". No recorded list has {one} registers"),
        both => format!(". No recorded list has {} registers", both.join(" or ")),
    }
}

fn pair_cause(pair: &Pair) -> Cause {
    if pair.is_pmu_only() && pair.source_hosts == pair.destination_hosts {
        return pmu_cause(pair.source_only.len());
    }
    cause(describe_pair(pair), describe_evidence(pair))
}

fn pmu_cause(count: usize) -> Cause {
    cause(
        format!(
            "the {count} registers of the PMU: the VM has one and the destination does not. Start \
             both with the same `pmu=on` or `pmu=off` (libvirt: <pmu state='off'/> in <features>), \
             or use a host whose kernel finds the PMU"
        ),
        "the recorded lists of one kernel with and without a PMU",
    )
}

fn tcg_cause() -> Cause {
    cause(
        "under TCG: every QEMU version has a different list for every CPU model. Use the same QEMU \
         version and the same -cpu on both sides",
        "recorded with QEMU 5.2, 7.2, 10.0 and 11.1",
    )
}

fn format_registers(ids: &[RegisterId], accelerator: Accelerator) -> String {
    const MAX_LISTED: usize = 8;
    let naming = match accelerator {
        Accelerator::Kvm => Naming::Kvm,
        _ => Naming::Architectural,
    };
    if ids.len() > MAX_LISTED && ids.iter().all(|id| id.is_pmu()) {
        return format!("the {} PMU registers", ids.len());
    }
    let mut text = ids
        .iter()
        .take(MAX_LISTED)
        .map(|id| id.display_in(naming).to_string())
        .collect::<Vec<_>>()
        .join(", ");
    if ids.len() > MAX_LISTED {
        text.push_str(" and ");
        text.push_str(&(ids.len() - MAX_LISTED).to_string());
        text.push_str(" more");
    }
    text
}

/// Formats the oldest and the newest of `hosts` as a range: `Linux 6.12.43 to 6.12.107`.
///
/// The caller passes all recorded hosts between these two, so the range covers no other.
fn format_hosts(hosts: &[&str], accelerator: Accelerator) -> String {
    let program = match accelerator {
        Accelerator::Kvm => "Linux",
        _ => "QEMU",
    };
    match hosts {
        [] => program.to_string(),
        [host] => format!("{program} {host}"),
        [first, .., last] => format!("{program} {first} to {last}"),
    }
}

fn describe_pair(pair: &Pair) -> String {
    let mut text = format!(
        "from {} ({}) to {} ({}): source only {}",
        format_hosts(pair.source_hosts, pair.accelerator),
        pair.lengths.0,
        format_hosts(pair.destination_hosts, pair.accelerator),
        pair.lengths.1,
        format_registers(&pair.source_only, pair.accelerator)
    );
    if !pair.destination_only.is_empty() {
        text += "; destination only ";
        text += &format_registers(&pair.destination_only, pair.accelerator);
    }
    text
}

fn describe_evidence(pair: &Pair) -> String {
    let accelerator = match pair.accelerator {
        Accelerator::Kvm => "KVM",
        Accelerator::Tcg => "TCG",
        Accelerator::Hvf => "HVF",
    };
    format!("recorded under {accelerator} on {}", pair.cpu)
}

/// Returns the usual causes of different list lengths, for lengths without matching recorded lists.
///
/// The table of tolerances names the same kernels and commits as these causes.
pub(super) fn general_causes() -> Vec<Cause> {
    [
        (
            "from a Linux between 6.5 and 6.12 to 6.13 or later: TCR2_EL1, PIR_EL1 and PIRE0_EL1, \
             which kernels before 6.13 list by mistake",
            "Linux v6.13 (0fcb4eea5345, a68cddbe47ef)",
        ),
        (
            "from Linux 6.15 or later to an earlier one: KVM_REG_ARM_VENDOR_HYP_BMAP_2",
            "Linux v6.15 (c0000e58c74e)",
        ),
        (
            "from Linux 6.4 or later to an earlier one: the physical timer's CNTP_CTL_EL0, \
             CNTP_CVAL_EL0 and CNTPCT_EL0",
            "Linux v6.4 (680232a94c12)",
        ),
        (
            "from Linux 6.3 or later to an earlier one: the slots of CCSIDR_EL1 for caches that \
             the CPU lacks",
            "Linux v6.3 (7af0c2534f4c)",
        ),
        (
            "from Linux 5.18 or later to an earlier one: OSLSR_EL1; from 5.19 also the three \
             bitmaps of hypercall services",
            "Linux v5.18 (d42e26716d03), v5.19 (05714cab7d63)",
        ),
        (
            "PMU registers (about 70) that the VM at the destination lacks: pmu=off, or a kernel \
             that did not detect the PMU",
            "Linux v5.12 (11663111cd49)",
        ),
        (
            "another CPU or other CPU features (sve, pauth, mte, pmu) on the two sides",
            "the VMs' command lines",
        ),
    ]
    .into_iter()
    .map(|(description, source)| cause(description, source))
    .collect()
}
