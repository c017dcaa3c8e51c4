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

pub(super) fn explain_register_count(
    count: Option<(i64, i64)>,
    registers: Vec<AffectedRegister>,
) -> Explanation {
    const MAX_SIMILAR_PAIRS: usize = 3;
    let mut causes = Vec::new();
    let mut has_exact_pair = false;
    let meaning = match count {
        Some((incoming, local)) if incoming < 0 || local < 0 => format!(
            "the length of the register list is {incoming}, which no vCPU has: the stream is \
             damaged, or read from the wrong offset"
        ),
        Some((incoming, local)) => {
            let mut pairs = list_lengths::pairs(incoming, local);
            // Causes under KVM (host kernels) come first, then causes under TCG (QEMU versions).
            pairs.sort_by_key(|pair| pair.accelerator != Accelerator::Kvm);
            has_exact_pair = !pairs.is_empty();
            for pair in &pairs {
                causes.push(cause(describe_pair(pair), describe_source(pair)));
            }
            if !has_exact_pair {
                let pairs = list_lengths::pairs_with_difference(incoming, local);
                let kvm = pairs
                    .iter()
                    .filter(|pair| pair.accelerator == Accelerator::Kvm);
                for pair in kvm.take(MAX_SIMILAR_PAIRS) {
                    causes.push(cause(
                        format!(
                            "possibly (only the difference in length matches): {}",
                            describe_pair(pair)
                        ),
                        format!("{}; other CPUs have other lengths", describe_source(pair)),
                    ));
                }
            }
            format!(
                "the VM has {incoming} registers per vCPU and the destination {local}. QEMU up to \
                 10.2 compares these two numbers before any register, and refuses the VM even if \
                 all registers that the destination lacks (at least {}) are harmless",
                incoming.saturating_sub(local)
            )
        }
        None => "the VM has more registers per vCPU than the destination; the two numbers are in \
                 another line. QEMU up to 10.2 compares the numbers before any register, and \
                 refuses the VM even if all registers that the destination lacks are harmless"
            .to_string(),
    };
    let has_valid_lengths = count.is_none_or(|(incoming, local)| incoming >= 0 && local >= 0);
    if causes.is_empty() && has_valid_lengths {
        causes.extend(general_causes());
    }
    if has_valid_lengths && !has_exact_pair {
        causes.push(cause(
            "under TCG: every QEMU version has a different list for every CPU model",
            "recorded with QEMU 5.2, 7.2, 10.0 and 11.1",
        ));
    }
    Explanation {
        kind: FailureKind::REGISTER_COUNT,
        meaning,
        causes,
        registers,
        next_steps: vec![
            Remedy::CHECK,
            Remedy::Probe,
            Remedy::Rehearse,
            Remedy::Convert,
        ],
    }
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
/// No recorded host outside `hosts` lies in the range.
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

fn describe_source(pair: &Pair) -> String {
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
            "from Linux 6.5 to 6.12 to 6.13 and later: TCR2_EL1, PIR_EL1 and PIRE0_EL1, listed by \
             mistake before 6.13",
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
            "from Linux 6.3 or later to an earlier one: the slots of CCSIDR_EL1",
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
