//! Comparison of the prediction of a loader model with the result of QEMU.

use std::collections::BTreeMap;

use cpreg::destination::accept::tcg;
use cpreg::destination::load::{self, IncomingVcpu, SimulatedLoad};
use cpreg::destination::{Accelerator, Destination, DestinationVcpu, Loader};
use cpreg::register::{RegisterId, Value};
use cpreg_explain::{Symptom, qemu};
use cpreg_qemu::rehearse::{LoadOutcome, RehearsalResult};

use super::draft::CpuDraft;

/// Maximum length in bytes of output that is certainly complete. Only the last 64 KiB of QEMU's
/// output are kept, including output from before the load.
const MAX_COMPLETE_STDERR_LEN: usize = 56 << 10;

/// Verdict on a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CaseVerdict {
    /// Result as predicted; the value is `true` if the load succeeded.
    Agreement(bool),
    /// The model makes no prediction; the value is `true` if the load succeeded.
    Undecided(bool),
    /// cpreg cannot read the stream, and QEMU did not load it.
    Unreadable,
    /// The load failed at a device other than the vCPUs, and the model does not predict that the
    /// vCPUs fail.
    OtherSection,
    /// QEMU gave two results for the same stream, of which the second is as predicted; with the
    /// difference of the first.
    Inconsistent(String),
    /// Prediction and result differ, with the difference.
    Mismatch(String),
}

/// Returns the model's prediction for these sections of vCPUs.
pub(crate) fn predict(loader: Loader, drafts: &[CpuDraft], host: &Destination) -> SimulatedLoad {
    let lists: Vec<_> = drafts
        .iter()
        .map(|draft| (draft.registers(), draft.extensions()))
        .collect();
    let registers: Vec<Vec<(RegisterId, &Value)>> = lists
        .iter()
        .map(|(registers, _)| registers.iter().map(|(id, value)| (*id, value)).collect())
        .collect();
    let vcpus: Vec<_> = registers
        .iter()
        .zip(&lists)
        .map(|(registers, (_, extensions))| IncomingVcpu {
            registers,
            extensions,
        })
        .collect();
    load::simulate_lists(loader, &vcpus, host)
}

/// Returns the lines of QEMU's output, without the program's name.
pub(crate) fn stderr_lines(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.contains("is deprecated"))
        .map(|line| {
            let name = line.split_once("qemu-system-aarch64: ");
            name.map_or(line, |(_, rest)| rest).to_owned()
        })
        .collect()
}

/// Returns `true` if a section of another device than a vCPU failed.
fn has_failed_in_other_section(stderr: &[String]) -> bool {
    let mut statements = stderr.iter().flat_map(|line| qemu::parse(line));
    let device = statements.find_map(|statement| match statement.symptom {
        Symptom::SectionFailed { device, .. } => Some(device),
        _ => None,
    });
    device.is_some_and(|device| device != "cpu")
}

/// Compares the prediction with the result of the load.
pub(crate) fn compare(
    loader: Loader,
    drafts: &[CpuDraft],
    host: &Destination,
    load: &SimulatedLoad,
    result: &RehearsalResult,
) -> CaseVerdict {
    let loaded = result.outcome == LoadOutcome::Loaded;
    let actual = stderr_lines(&result.stderr);
    if !loaded && has_failed_in_other_section(&actual) {
        return match load.loads {
            Some(false) => CaseVerdict::Mismatch("the vCPUs loaded".to_owned()),
            _ => CaseVerdict::OtherSection,
        };
    }
    if drafts.iter().any(|draft| draft.count_error != 0) {
        return if loaded {
            CaseVerdict::Mismatch("QEMU loaded the stream, but cpreg cannot read it".to_owned())
        } else {
            CaseVerdict::Unreadable
        };
    }
    let predicted = qemu::predict::predicted_lines(loader, Accelerator::Tcg, load);
    if load.is_complete && load.loads.is_some() {
        // Only the end of a long output is kept, and that end may begin within a line.
        let count = if result.stderr.len() > MAX_COMPLETE_STDERR_LEN {
            actual.len() - 1
        } else {
            actual.len().max(predicted.len())
        };
        if !predicted
            .iter()
            .rev()
            .take(count)
            .eq(actual.iter().rev().take(count))
        {
            return CaseVerdict::Mismatch("other output".to_owned());
        }
    } else {
        let mut remaining = actual.iter();
        if !predicted
            .iter()
            .all(|line| remaining.any(|actual| actual == line))
        {
            return CaseVerdict::Mismatch(
                "the output lacks predicted lines, or has them in another order".to_owned(),
            );
        }
    }
    match load.loads {
        Some(loads) if loads != loaded => CaseVerdict::Mismatch("another outcome".to_owned()),
        Some(true) => match compare_registers(drafts, host, load, result) {
            Ok(()) => CaseVerdict::Agreement(true),
            Err(difference) => CaseVerdict::Mismatch(difference),
        },
        Some(false) => CaseVerdict::Agreement(false),
        None => CaseVerdict::Undecided(loaded),
    }
}

/// Compares the registers of each vCPU with the prediction.
fn compare_registers(
    drafts: &[CpuDraft],
    host: &Destination,
    load: &SimulatedLoad,
    result: &RehearsalResult,
) -> Result<(), String> {
    let after = match &result.final_state {
        Some(Ok(state)) => state.stream.vm().map_err(|error| error.to_string())?,
        Some(Err(error)) => return Err(format!("cannot read the final state: {error}")),
        None => return Err("the final state was not queried".to_owned()),
    };
    let mut differences = Vec::new();
    for (number, (draft, found)) in drafts.iter().zip(&after.vcpus).enumerate() {
        let Some(vcpu) = host.vcpu(number) else {
            continue;
        };
        let (values, lost) = merge_lists(draft, vcpu);
        let predicted_lost = load
            .lost_registers
            .iter()
            .filter(|(vcpu, _)| *vcpu == number);
        if !predicted_lost.map(|(_, id)| *id).eq(lost) {
            differences.push(format!(
                "vCPU {number}: other registers are lost than predicted"
            ));
        }
        for (register, value) in vcpu.registers().iter().zip(&values) {
            let id = register.id;
            if is_view(id, vcpu) {
                continue;
            }
            let expected = match value {
                Some(value) => *value,
                None if tcg::loads_missing_as_zero(host.acceptor(), vcpu) => 0,
                None => continue,
            };
            let actual = found.registers.get_u64(id);
            if actual.map(|actual| actual & stable_bits(id)) != Some(expected & stable_bits(id)) {
                differences.push(format!(
                    "vCPU {number}: {id} ({:016x}) is {actual:x?}, expected {expected:#x}",
                    id.raw()
                ));
            }
        }
    }
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences.join("\n    "))
    }
}

/// Returns the loaded value of each of the destination's registers, and the registers that are not
/// loaded. `draft` is a list that loads, so an entry out of order can only be at the end.
fn merge_lists(draft: &CpuDraft, host: &DestinationVcpu) -> (Vec<Option<u64>>, Vec<RegisterId>) {
    let mut list = draft.list.iter().peekable();
    let mut values = Vec::new();
    for register in host.registers() {
        let next = list.next_if(|(id, _)| *id == register.id.raw());
        values.push(next.map(|(_, value)| *value));
    }
    let mut lost: Vec<_> = list.map(|(id, _)| RegisterId::from_raw(*id)).collect();
    lost.sort_unstable();
    (values, lost)
}

/// Returns `true` if this register is a view of another listed register. QEMU writes that register
/// later, so it determines the value of both.
fn is_view(id: RegisterId, host: &DestinationVcpu) -> bool {
    let views = include_str!("../../../data/tcg-aliases.tsv");
    let parse = |text: &str| u64::from_str_radix(text, 16).ok().map(RegisterId::from_raw);
    views.lines().any(|line| {
        let mut columns = line.split('\t');
        let (view, source) = (
            columns.next().and_then(parse),
            columns.nth(1).and_then(parse),
        );
        view == Some(id) && source.is_some_and(|source| host.get(source).is_some())
    })
}

/// Returns the bits of a register that keep the loaded value until QEMU reads it. ISTATUS of a
/// timer's control register is not stable.
fn stable_bits(id: RegisterId) -> u64 {
    const ISTATUS: u64 = 1 << 2;
    let name = id.to_string();
    if name.starts_with("CNT") && name.contains("_CTL") {
        u64::from(u32::MAX) & !ISTATUS
    } else {
        u64::MAX
    }
}

/// Number of verdicts of each kind.
#[derive(Default)]
pub(crate) struct VerdictCounts(BTreeMap<&'static str, usize>);

impl VerdictCounts {
    /// Counts a verdict.
    pub(crate) fn add(&mut self, verdict: &CaseVerdict) {
        *self.0.entry(verdict.name()).or_default() += 1;
    }

    /// Returns the number of verdicts of these kinds.
    pub(crate) fn total(&self, names: &[&str]) -> usize {
        names.iter().filter_map(|name| self.0.get(name)).sum()
    }
}

impl CaseVerdict {
    /// Returns the verdict on a case whose stream was loaded a second time, with this verdict.
    pub(crate) fn with_second_load(self, second: &Self) -> Self {
        match (self, second) {
            (Self::Mismatch(difference), second) if !matches!(second, Self::Mismatch(_)) => {
                Self::Inconsistent(difference)
            }
            (first, _) => first,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Agreement(true) => "agreement-loads",
            Self::Agreement(false) => "agreement-fails",
            Self::Undecided(_) => "undecided",
            Self::Unreadable => "unreadable",
            Self::OtherSection => "other-section",
            Self::Inconsistent(_) => "inconsistent",
            Self::Mismatch(_) => "mismatch",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_difference_that_occurs_twice_is_a_mismatch() {
        let mismatch = |text: &str| CaseVerdict::Mismatch(text.to_owned());
        let agreement = CaseVerdict::Agreement(true);
        assert_eq!(
            mismatch("a").with_second_load(&agreement),
            CaseVerdict::Inconsistent("a".to_owned())
        );
        assert_eq!(
            mismatch("a").with_second_load(&mismatch("b")),
            mismatch("a")
        );
        assert_eq!(
            agreement.clone().with_second_load(&mismatch("a")),
            agreement
        );
    }
}
