//! Random edits of the vCPUs' sections, with a log in register names.
//!
//! About half of the cases begin with the recorded list, the others with the recorded values fitted
//! to the destination's list. An edit of a list that cannot load anyway would prove little.

use std::collections::BTreeMap;

use cpreg::destination::accept::tcg;
use cpreg::destination::extension::{self, ExtensionOutcome};
use cpreg::destination::{Destination, Loader};
use cpreg::register::{RegisterId, Value};
use cpreg::vm::{Content, Extension};

use super::draft::{CpuDraft, DraftSubsection};
use super::random::Random;

/// Percentage of cases whose list is fitted to the destination before the edits.
const FITTED_PERCENT: usize = 60;

/// Percentage of cases with several vCPUs in which every vCPU is edited, each in another way.
const EVERY_VCPU_PERCENT: usize = 30;

/// Percentage of cases without further edits.
const UNTOUCHED_PERCENT: usize = 6;

/// Classes of ids (bits 63:16) for synthetic ids.
const CLASSES: [u64; 9] = [
    0x6030_0000_0013,
    0x6030_0000_0013,
    0x4020_0000_200f,
    0x4020_0000_000f,
    0x4030_0000_200f,
    0x4020_0000_200e,
    0x6030_0000_0014,
    0x6030_0000_0016,
    0x6020_0000_0011,
];

/// Subsections with version and length in bytes, for vCPUs that lack them. No QEMU has the last
/// two.
const SUBSECTIONS: [(&str, u32, usize); 13] = [
    ("cpu/sve", 1, 4128),
    ("cpu/serror", 1, 10),
    ("cpu/irq-line-state", 1, 4),
    ("cpu/wfxt-timer", 1, 8),
    ("cpu/syndrome64", 1, 8),
    ("cpu/pstate64", 1, 8),
    ("cpu/fpmr", 1, 8),
    ("cpu/event", 1, 1),
    ("cpu/zt0", 1, 64),
    ("cpu/sme", 1, 65536),
    ("cpu/vfp/fpcr_fpsr", 1, 16),
    ("cpu/vfp/nobody", 1, 8),
    ("cpu/nobody", 1, 8),
];

/// Editor of the sections of a case.
pub(crate) struct Editor<'a> {
    /// Random numbers of the case.
    pub(crate) random: &'a mut Random,
    /// Every id in any source, with all its values.
    pub(crate) pool: &'a BTreeMap<u64, Vec<u64>>,
    /// Log of the edits.
    pub(crate) log: Vec<String>,
}

/// A kind of edit. Returns `false` if it does not apply to the draft.
type EditFn = fn(&mut Editor<'_>, &mut CpuDraft) -> bool;

/// Kinds of edit, with their weights.
const EDIT_KINDS: [(usize, EditFn); 11] = [
    (18, |editor, draft| editor.drop_registers(draft)),
    (12, |editor, draft| editor.add_known(draft)),
    (6, |editor, draft| editor.add_synthetic(draft)),
    (12, |editor, draft| editor.take_other_value(draft)),
    (14, |editor, draft| editor.flip_bits(draft)),
    (4, |editor, draft| editor.randomise(draft)),
    (10, |editor, draft| editor.change_constant(draft)),
    (7, |editor, draft| editor.reorder(draft)),
    (4, |editor, draft| editor.duplicate(draft)),
    (2, |editor, draft| editor.change_count(draft)),
    (11, |editor, draft| editor.change_subsection(draft)),
];

impl Editor<'_> {
    /// Edits the sections of a case.
    pub(crate) fn edit(&mut self, drafts: &mut [CpuDraft], loader: Loader, host: &Destination) {
        if self.random.chance(FITTED_PERCENT) {
            for (number, draft) in drafts.iter_mut().enumerate() {
                fit(draft, number, loader, host);
            }
            self.log.push("fitted to the destination's list".to_owned());
        }
        if self.random.chance(UNTOUCHED_PERCENT) {
            return;
        }
        let selected = self.random.index_below(drafts.len());
        let edits_all = drafts.len() > 1 && self.random.chance(EVERY_VCPU_PERCENT);
        for (number, draft) in drafts.iter_mut().enumerate() {
            if edits_all || number == selected {
                let before = self.log.len();
                for _ in 0..self.random.small_count(4) {
                    self.apply_one(draft);
                }
                for entry in &mut self.log[before..] {
                    *entry = format!("vCPU {number}: {entry}");
                }
            }
        }
    }

    fn apply_one(&mut self, draft: &mut CpuDraft) {
        loop {
            let mut index = self
                .random
                .index_below(EDIT_KINDS.iter().map(|kind| kind.0).sum());
            let kind = EDIT_KINDS.iter().find(|(weight, _)| {
                let is_found = index < *weight;
                index = index.saturating_sub(*weight);
                is_found
            });
            if kind.is_some_and(|(_, kind)| kind(self, draft)) {
                return;
            }
        }
    }

    fn record(&mut self, action: &str, id: u64, values: &[u64]) {
        let values: Vec<_> = values.iter().map(|value| format!("{value:#x}")).collect();
        let name = RegisterId::from_raw(id);
        let text = format!("{action} {name} ({id:016x}) {}", values.join(" -> "));
        self.log.push(text.trim_end().to_owned());
    }

    fn drop_registers(&mut self, draft: &mut CpuDraft) -> bool {
        if draft.list.is_empty() {
            return false;
        }
        if self.random.chance(4) {
            let end = self.random.index_below(draft.list.len());
            draft.list.truncate(end);
            self.log.push(format!("cut the list after {end} registers"));
            return true;
        }
        for _ in 0..self.random.small_count(6) {
            let at = self.random.index_below(draft.list.len());
            if at < draft.list.len() {
                let (id, value) = draft.list.remove(at);
                self.record("dropped", id, &[value]);
            }
        }
        true
    }

    fn add(&mut self, draft: &mut CpuDraft, id: u64, value: u64) -> bool {
        if draft.list.iter().any(|(listed, _)| *listed == id) {
            return false;
        }
        let at = draft.list.partition_point(|(listed, _)| *listed < id);
        draft.list.insert(at, (id, value));
        self.record("added", id, &[value]);
        true
    }

    fn add_known(&mut self, draft: &mut CpuDraft) -> bool {
        let ids: Vec<_> = self.pool.keys().copied().collect();
        let mut done = false;
        for _ in 0..self.random.small_count(4) {
            let id = self.random.choose(&ids).copied().unwrap_or_default();
            let values = self.pool.get(&id).map_or(&[][..], Vec::as_slice);
            let value = self.random.choose(values).copied().unwrap_or_default();
            done |= self.add(draft, id, value);
        }
        done
    }

    fn add_synthetic(&mut self, draft: &mut CpuDraft) -> bool {
        let class = self.random.choose(&CLASSES).copied().unwrap_or_default();
        let mut low = self.random.next() & 0xffff;
        if class >> 32 != 0x6030 || class & 0xff != 0x13 {
            // Keep the number small, in the range of real ids of this class.
            low &= 0x7ff;
        }
        let value = self.random.next() & 0xffff_ffff;
        self.add(draft, class << 16 | low, value)
    }

    /// Sets a register to another value.
    fn set(&mut self, draft: &mut CpuDraft, index: usize, value: u64) -> bool {
        let Some((id, old)) = draft.list.get_mut(index) else {
            return false;
        };
        // A 32-bit register has no bits beyond bit 31.
        let value = if *id >> 52 & 15 == 2 {
            value & 0xffff_ffff
        } else {
            value
        };
        let (id, old) = (*id, std::mem::replace(old, value));
        if old != value {
            self.record("changed", id, &[old, value]);
        }
        old != value
    }

    fn take_other_value(&mut self, draft: &mut CpuDraft) -> bool {
        let at = self.random.index_below(draft.list.len());
        let id = draft.list.get(at).map_or(0, |(id, _)| *id);
        let values = self.pool.get(&id).map_or(&[][..], Vec::as_slice);
        let value = self.random.choose(values).copied();
        value.is_some_and(|value| self.set(draft, at, value))
    }

    fn flip_bits(&mut self, draft: &mut CpuDraft) -> bool {
        let at = self.random.index_below(draft.list.len());
        let mut value = draft.list.get(at).map_or(0, |(_, value)| *value);
        for _ in 0..self.random.small_count(3) {
            value ^= 1 << self.random.index_below(64);
        }
        self.set(draft, at, value)
    }

    fn randomise(&mut self, draft: &mut CpuDraft) -> bool {
        let at = self.random.index_below(draft.list.len());
        let value = self.random.next();
        self.set(draft, at, value)
    }

    fn change_constant(&mut self, draft: &mut CpuDraft) -> bool {
        let constants: Vec<_> = (0..draft.list.len())
            .filter(|at| tcg::is_constant(RegisterId::from_raw(draft.list[*at].0)))
            .collect();
        let Some(at) = self.random.choose(&constants).copied() else {
            return false;
        };
        let value = draft.list[at].1 ^ 1 << self.random.index_below(32);
        self.set(draft, at, value)
    }

    fn reorder(&mut self, draft: &mut CpuDraft) -> bool {
        let (from, to) = (
            self.random.index_below(draft.list.len()),
            self.random.index_below(draft.list.len()),
        );
        if from == to {
            return false;
        }
        // In half of the cases, move the entry to the end, where some loaders stop their search.
        let to = if self.random.chance(50) {
            draft.list.len() - 1
        } else {
            to
        };
        let moved = draft.list.remove(from);
        draft.list.insert(to, moved);
        self.record(&format!("moved from {from} to {to}"), moved.0, &[]);
        true
    }

    fn duplicate(&mut self, draft: &mut CpuDraft) -> bool {
        let at = if self.random.chance(50) {
            draft.list.len().saturating_sub(1)
        } else {
            self.random.index_below(draft.list.len())
        };
        let Some(twice) = draft.list.get(at).copied() else {
            return false;
        };
        let value = twice.1 ^ u64::from(self.random.chance(50));
        draft.list.insert(at + 1, (twice.0, value));
        self.record("listed twice", twice.0, &[twice.1, value]);
        true
    }

    fn change_count(&mut self, draft: &mut CpuDraft) -> bool {
        let by = i32::try_from(self.random.small_count(8)).unwrap_or(1);
        let by = if self.random.chance(30) { -by } else { by };
        draft.count_error = by;
        self.log.push(format!("registers miscounted by {by}"));
        true
    }

    fn change_subsection(&mut self, draft: &mut CpuDraft) -> bool {
        match self.random.index_below(8) {
            0 | 1 if !draft.subsections.is_empty() => {
                let at = self.random.index_below(draft.subsections.len());
                let part = draft.subsections.remove(at);
                self.log.push(format!("dropped {}", part.name));
            }
            2 => {
                let features = match self.random.index_below(3) {
                    0 => 0,
                    _ => self.random.next() >> self.random.index_below(40),
                };
                draft.set_features(features);
                self.log.push(format!("env.features {features:#x}"));
            }
            3 if !draft.subsections.is_empty() => {
                let at = self.random.index_below(draft.subsections.len());
                let part = &mut draft.subsections[at];
                let at = self.random.index_below(part.payload.len());
                let Some(byte) = part.payload.get_mut(at) else {
                    return false;
                };
                *byte ^= 1 << self.random.index_below(8);
                self.log
                    .push(format!("changed {}, byte {at}: {byte:#x}", part.name));
            }
            _ => return self.add_subsection(draft),
        }
        true
    }

    fn add_subsection(&mut self, draft: &mut CpuDraft) -> bool {
        let Some((name, version, length)) = self.random.choose(&SUBSECTIONS).copied() else {
            return false;
        };
        let fill = if self.random.chance(50) { 0xff } else { 0 };
        let part = DraftSubsection {
            name: name.to_owned(),
            version,
            payload: vec![fill; length],
            subsections: Vec::new(),
        };
        let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
        let list = match draft
            .subsections
            .iter_mut()
            .find(|part| part.name == parent)
        {
            Some(parent) => &mut parent.subsections,
            None if parent == "cpu" => &mut draft.subsections,
            None => return false,
        };
        if list.iter().any(|part| part.name == name) {
            return false;
        }
        list.push(part);
        self.log.push(format!("added {name} filled with {fill:#x}"));
        true
    }
}

/// Replaces the list by the destination's list. Keeps the draft's value where the destination
/// accepts it, and otherwise takes the destination's value.
fn fit(draft: &mut CpuDraft, number: usize, loader: Loader, host: &Destination) {
    let Some(vcpu) = host.vcpu(number) else {
        return;
    };
    let acceptor = host.acceptor();
    let fitted = vcpu.registers().iter().map(|register| {
        let id = register.id.raw();
        let source_value = draft.list.iter().find(|(listed, _)| *listed == id);
        let accepted = source_value.map(|(_, value)| *value).filter(|value| {
            let acceptance = acceptor.evaluate(vcpu, register, &Value::U64(*value));
            acceptance.as_bool() == Some(true)
        });
        let at_reset = register.value.as_ref().and_then(Value::as_u64);
        (id, accepted.or(at_reset).unwrap_or_default())
    });
    draft.list = fitted.collect();
    draft.subsections.retain_mut(|part| {
        let loads = |part: &DraftSubsection| {
            let extension = Extension {
                name: part.name.clone().into(),
                content: Content::Bytes(part.payload.clone()),
            };
            extension::predict_outcome(loader, vcpu, &extension) == ExtensionOutcome::Loads
        };
        part.subsections.retain(loads);
        loads(part)
    });
    if let Some(Content::Number(features)) = vcpu
        .extension(Extension::FEATURES)
        .map(|features| &features.content)
    {
        draft.set_features(*features);
    }
}
