//! What a loader model says, and what QEMU did: whether they agree.

use std::collections::BTreeMap;

use cpreg::destination::accept::tcg;
use cpreg::destination::load::{self, IncomingVcpu, SimulatedLoad};
use cpreg::destination::{Accelerator, Destination, DestinationVcpu, Loader};
use cpreg::register::{RegisterId, Value};
use cpreg_explain::{Symptom, qemu};
use cpreg_qemu::rehearse::{LoadOutcome, RehearsalResult};

use super::draft::CpuDraft;

/// Of a text longer than this, in bytes, the beginning may be missing: 64 KiB are kept, and some of that was said before.
const MAX_COMPLETE_STDERR_LEN: usize = 56 << 10;

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CaseVerdict {
    /// As the model says; whether it loaded.
    Agreement(bool),
    /// The model does not tell; whether it loaded.
    Undecided(bool),
    /// cpreg reads no such stream, and QEMU did not load it.
    Unreadable,
    /// It failed on another section than a vCPU's, where the model says that the vCPUs load.
    OtherSection,
    /// They disagree: in what.
    Mismatch(String),
}

/// What the model says about the sections.
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

/// What QEMU said, line by line, without its name.
pub(crate) fn stderr_lines(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.contains("is deprecated"))
        .map(|line| {
            let name = line.split_once("qemu-system-aarch64: ");
            name.map_or(line, |(_, rest)| rest).to_owned()
        })
        .collect()
}

/// Whether it was not a vCPU's section that failed.
fn has_failed_in_other_section(said: &[String]) -> bool {
    let mut said = said.iter().flat_map(|line| qemu::parse(line));
    let failed = said.find_map(|said| match said.symptom {
        Symptom::SectionFailed { device, .. } => Some(device),
        _ => None,
    });
    failed.is_some_and(|device| device != "cpu")
}

/// Compares the model with what was done.
pub(crate) fn compare(
    loader: Loader,
    drafts: &[CpuDraft],
    host: &Destination,
    load: &SimulatedLoad,
    done: &RehearsalResult,
) -> CaseVerdict {
    let loaded = done.outcome == LoadOutcome::Loaded;
    let said = stderr_lines(&done.stderr);
    if !loaded && has_failed_in_other_section(&said) {
        return match load.loads {
            Some(false) => CaseVerdict::Mismatch("the vCPUs loaded".to_owned()),
            _ => CaseVerdict::OtherSection,
        };
    }
    if drafts.iter().any(|draft| draft.count_error != 0) {
        return if loaded {
            CaseVerdict::Mismatch("it loaded, and cpreg cannot read it".to_owned())
        } else {
            CaseVerdict::Unreadable
        };
    }
    let foretold = qemu::predict::predicted_lines(loader, Accelerator::Tcg, load);
    if load.is_complete && load.loads.is_some() {
        // Of a long text only the end is kept, and begins within a line.
        let kept = if done.stderr.len() > MAX_COMPLETE_STDERR_LEN {
            said.len() - 1
        } else {
            said.len().max(foretold.len())
        };
        if !foretold
            .iter()
            .rev()
            .take(kept)
            .eq(said.iter().rev().take(kept))
        {
            return CaseVerdict::Mismatch("other words".to_owned());
        }
    } else {
        let mut rest = said.iter();
        if !foretold
            .iter()
            .all(|line| rest.any(|spoken| spoken == line))
        {
            return CaseVerdict::Mismatch("not all the foretold words, in their order".to_owned());
        }
    }
    match load.loads {
        Some(loads) if loads != loaded => CaseVerdict::Mismatch("another outcome".to_owned()),
        Some(true) => match compare_registers(drafts, host, load, done) {
            Ok(()) => CaseVerdict::Agreement(true),
            Err(difference) => CaseVerdict::Mismatch(difference),
        },
        Some(false) => CaseVerdict::Agreement(false),
        None => CaseVerdict::Undecided(loaded),
    }
}

/// What each vCPU must hold after the load, against what it holds.
fn compare_registers(
    drafts: &[CpuDraft],
    host: &Destination,
    load: &SimulatedLoad,
    done: &RehearsalResult,
) -> Result<(), String> {
    let after = match &done.final_state {
        Some(Ok(after)) => after.stream.vm().map_err(|error| error.to_string())?,
        Some(Err(error)) => return Err(format!("it does not tell what it holds: {error}")),
        None => return Err("it was not asked what it holds".to_owned()),
    };
    let mut wrong = Vec::new();
    for (number, (draft, found)) in drafts.iter().zip(&after.vcpus).enumerate() {
        let Some(vcpu) = host.vcpu(number) else {
            continue;
        };
        let (arrived, lost) = merge_lists(draft, vcpu);
        let foretold = load.lost_registers.iter().filter(|(of, _)| *of == number);
        if !foretold.map(|(_, id)| *id).eq(lost) {
            wrong.push(format!("vCPU {number}: other registers are lost"));
        }
        for (register, arrived) in vcpu.registers().iter().zip(&arrived) {
            let id = register.id;
            if is_view(id, vcpu) {
                continue;
            }
            let expected = match arrived {
                Some(value) => *value,
                None if tcg::loads_missing_as_zero(host.acceptor(), vcpu) => 0,
                None => continue,
            };
            let held = found.registers.get_u64(id);
            if held.map(|held| held & stable_bits(id)) != Some(expected & stable_bits(id)) {
                wrong.push(format!(
                    "vCPU {number}: {id} ({:016x}) holds {held:x?} instead of {expected:#x}",
                    id.raw()
                ));
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n    "))
    }
}

/// What arrives for each of the destination's registers, and what does not arrive anywhere. It loads, so whatever is not in its turn
/// stands behind the end.
fn merge_lists(draft: &CpuDraft, host: &DestinationVcpu) -> (Vec<Option<u64>>, Vec<RegisterId>) {
    let mut list = draft.list.iter().peekable();
    let mut arrived = Vec::new();
    for register in host.registers() {
        let next = list.next_if(|(id, _)| *id == register.id.raw());
        arrived.push(next.map(|(_, value)| *value));
    }
    let mut lost: Vec<_> = list.map(|(id, _)| RegisterId::from_raw(*id)).collect();
    lost.sort_unstable();
    (arrived, lost)
}

/// Whether another register that the destination lists, written later, decides what this one holds.
fn is_view(id: RegisterId, host: &DestinationVcpu) -> bool {
    let views = include_str!("../../../data/tcg-aliases.tsv");
    let parse = |text: &str| u64::from_str_radix(text, 16).ok().map(RegisterId::from_raw);
    views.lines().any(|line| {
        let mut columns = line.split('\t');
        let (view, decides) = (
            columns.next().and_then(parse),
            columns.nth(1).and_then(parse),
        );
        view == Some(id) && decides.is_some_and(|decides| host.get(decides).is_some())
    })
}

/// The bits of a register that stay what they were loaded as until it is asked again: not ISTATUS of a timer's control register.
fn stable_bits(id: RegisterId) -> u64 {
    const ISTATUS: u64 = 1 << 2;
    let name = id.to_string();
    if name.starts_with("CNT") && name.contains("_CTL") {
        u64::from(u32::MAX) & !ISTATUS
    } else {
        u64::MAX
    }
}

/// How many verdicts of each kind.
#[derive(Default)]
pub(crate) struct VerdictCounts(BTreeMap<&'static str, usize>);

impl VerdictCounts {
    /// One more.
    pub(crate) fn add(&mut self, verdict: &CaseVerdict) {
        *self.0.entry(verdict.name()).or_default() += 1;
    }

    /// How many of these.
    pub(crate) fn total(&self, names: &[&str]) -> usize {
        names.iter().filter_map(|name| self.0.get(name)).sum()
    }
}

impl CaseVerdict {
    fn name(&self) -> &'static str {
        match self {
            Self::Agreement(true) => "agreement-loads",
            Self::Agreement(false) => "agreement-fails",
            Self::Undecided(_) => "undecided",
            Self::Unreadable => "unreadable",
            Self::OtherSection => "other-section",
            Self::Mismatch(_) => "mismatch",
        }
    }
}
