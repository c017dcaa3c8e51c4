//! A register list that is longer than the loader's own: what recorded lists tell of its length.

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
    let means = match count {
        Some((incoming, own)) if incoming < 0 || own < 0 => format!(
            "the length of the register list is {incoming}, which no vCPU has: the stream is \
             damaged, or read from the wrong place"
        ),
        Some((incoming, own)) => {
            let mut pairs = list_lengths::pairs(incoming, own);
            // Host kernels before QEMU's own lists under TCG.
            pairs.sort_by_key(|pair| pair.accelerator != Accelerator::Kvm);
            for pair in &pairs {
                causes.push(cause(describe_pair(pair), source(pair)));
            }
            if pairs.is_empty() {
                let pairs = list_lengths::pairs_with_difference(incoming, own);
                let kvm = pairs
                    .iter()
                    .filter(|pair| pair.accelerator == Accelerator::Kvm);
                for pair in kvm.take(MAX_SIMILAR_PAIRS) {
                    causes.push(cause(
                        format!("perhaps, by the difference alone, {}", describe_pair(pair)),
                        format!("{}; other CPUs have other lengths", source(pair)),
                    ));
                }
            }
            format!(
                "the VM has {incoming} registers a vCPU and the destination {own}. QEMU up to \
                 10.2 looks at these two numbers first and at no register: it refuses however \
                 harmless the registers are that it has not got (at least {})",
                incoming.saturating_sub(own)
            )
        }
        None => "the VM has more registers a vCPU than the destination; the two numbers stand in \
                 a line beside it. QEMU up to 10.2 looks at the numbers first and at no register: \
                 it refuses however harmless the others are"
            .to_string(),
    };
    let is_length = count.is_none_or(|(incoming, own)| incoming >= 0 && own >= 0);
    if causes.is_empty() && is_length {
        causes.extend(general_causes());
    }
    if is_length
        && !causes.iter().any(|cause| {
            cause.source.starts_with("recorded under") && !cause.description.starts_with("perhaps")
        })
    {
        causes.push(cause(
            "under TCG: every QEMU version has its own list, for every CPU model",
            "recorded with QEMU 5.2, 7.2, 10.0 and 11.1",
        ));
    }
    Explanation {
        kind: FailureKind::REGISTER_COUNT,
        meaning: means,
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

fn names(ids: &[RegisterId], accelerator: Accelerator) -> String {
    const MAX_LISTED: usize = 8;
    let naming = match accelerator {
        Accelerator::Kvm => Naming::Kvm,
        _ => Naming::Architectural,
    };
    if ids.len() > MAX_LISTED && ids.iter().all(|id| id.is_pmu()) {
        return format!("the {} registers of the performance monitors", ids.len());
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

/// `6.12.43 to 6.12.107`; those in between were recorded as well or not at all.
fn hosts(hosts: &[&str], accelerator: Accelerator) -> String {
    let program = match accelerator {
        Accelerator::Kvm => "Linux",
        _ => "QEMU",
    };
    match hosts {
        [] => program.to_string(),
        [one] => format!("{program} {one}"),
        [first, .., last] => format!("{program} {first} to {last}"),
    }
}

fn describe_pair(pair: &Pair) -> String {
    let mut what = format!(
        "from {} ({}) to {} ({}): only in the input {}",
        hosts(pair.source_hosts, pair.accelerator),
        pair.lengths.0,
        hosts(pair.destination_hosts, pair.accelerator),
        pair.lengths.1,
        names(&pair.only_in_input, pair.accelerator)
    );
    if !pair.only_at_destination.is_empty() {
        what += "; only at the destination ";
        what += &names(&pair.only_at_destination, pair.accelerator);
    }
    what
}

fn source(pair: &Pair) -> String {
    let accelerator = match pair.accelerator {
        Accelerator::Kvm => "KVM",
        Accelerator::Tcg => "TCG",
        Accelerator::Hvf => "HVF",
    };
    format!("recorded under {accelerator} on {}", pair.cpu)
}

/// What makes lists differ, where the lengths tell nothing; kernels and commits as in the table of tolerances.
pub(super) fn general_causes() -> Vec<Cause> {
    [
        (
            "from Linux 6.5 to 6.12 to 6.13 and later: TCR2_EL1, PIR_EL1 and PIRE0_EL1, listed by \
          mistake before",
            "Linux v6.13 (0fcb4eea5345, a68cddbe47ef)",
        ),
        (
            "from Linux 6.15 and later back: KVM_REG_ARM_VENDOR_HYP_BMAP_2",
            "Linux v6.15 (c0000e58c74e)",
        ),
        (
            "from Linux 6.4 and later back: the physical timer's CNTP_CTL_EL0, CNTP_CVAL_EL0 and \
          CNTPCT_EL0",
            "Linux v6.4 (680232a94c12)",
        ),
        (
            "from Linux 6.3 and later back: the slots of CCSIDR_EL1",
            "Linux v6.3 (7af0c2534f4c)",
        ),
        (
            "from Linux 5.18 and later back: OSLSR_EL1; from 5.19 also the three bitmaps of \
          hypercall services",
            "Linux v5.18 (d42e26716d03), v5.19 (05714cab7d63)",
        ),
        (
            "performance monitors (some 70 registers) that the VM there has not got: pmu=off, or a \
          kernel that did not find them",
            "Linux v5.12 (11663111cd49)",
        ),
        (
            "another CPU or other CPU features (sve, pauth, mte, pmu) on the two sides",
            "the VMs' command lines",
        ),
    ]
    .into_iter()
    .map(|(what, source)| cause(what, source))
    .collect()
}
