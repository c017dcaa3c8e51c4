//! Random edits of the vCPUs' sections, and a log of the edits that names the registers.
//!
//! Some cases begin with the recorded list. The others begin with the destination's list and the
//! recorded values that the destination accepts: an edit of a list that cannot load anyway would
//! prove little.

use std::collections::BTreeMap;

use cpreg::destination::accept::tcg;
use cpreg::destination::extension::{self, ExtensionOutcome};
use cpreg::destination::{Destination, Loader};
use cpreg::register::{RegisterId, Value};
use cpreg::vm::{Content, Extension};

use super::draft::{CpuDraft, DraftSubsection};
use super::random::Random;

/// Percentage of cases that begin with the destination's list.
const FITTED_PERCENT: usize = 60;

/// Percentage of cases with several vCPUs in which every vCPU is edited, each in another way.
const EVERY_VCPU_PERCENT: usize = 30;

/// Percentage of cases without any edit after that.
const UNEDITED_PERCENT: usize = 6;

/// Classes of ids (bits 63:16) from which synthetic ids are made. A class that occurs twice is
/// chosen twice as often.
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

/// Subsections to add: name, version, and length in bytes. No QEMU knows the last two.
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
    /// Every id that occurs in a source, with all its values.
    pub(crate) pool: &'a BTreeMap<u64, Vec<u64>>,
    /// Log of the edits.
    pub(crate) log: Vec<String>,
}

/// A kind of edit. Returns `false` if it cannot edit the draft.
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
        if self.random.chance(UNEDITED_PERCENT) {
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
            let index = self.random.index_below(draft.list.len());
            if index < draft.list.len() {
                let (id, value) = draft.list.remove(index);
                self.record("dropped", id, &[value]);
            }
        }
        true
    }

    fn add(&mut self, draft: &mut CpuDraft, id: u64, value: u64) -> bool {
        if draft.list.iter().any(|(listed, _)| *listed == id) {
            return false;
        }
        let index = draft.list.partition_point(|(listed, _)| *listed < id);
        draft.list.insert(index, (id, value));
        self.record("added", id, &[value]);
        true
    }

    fn add_known(&mut self, draft: &mut CpuDraft) -> bool {
        let ids: Vec<_> = self.pool.keys().copied().collect();
        let mut is_changed = false;
        for _ in 0..self.random.small_count(4) {
            let id = self.random.choose(&ids).copied().unwrap_or_default();
            let values = self.pool.get(&id).map_or(&[][..], Vec::as_slice);
            let value = self.random.choose(values).copied().unwrap_or_default();
            is_changed |= self.add(draft, id, value);
        }
        is_changed
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
        let index = self.random.index_below(draft.list.len());
        let id = draft.list.get(index).map_or(0, |(id, _)| *id);
        let values = self.pool.get(&id).map_or(&[][..], Vec::as_slice);
        let value = self.random.choose(values).copied();
        value.is_some_and(|value| self.set(draft, index, value))
    }

    fn flip_bits(&mut self, draft: &mut CpuDraft) -> bool {
        let index = self.random.index_below(draft.list.len());
        let mut value = draft.list.get(index).map_or(0, |(_, value)| *value);
        for _ in 0..self.random.small_count(3) {
            value ^= 1 << self.random.index_below(64);
        }
        self.set(draft, index, value)
    }

    fn randomise(&mut self, draft: &mut CpuDraft) -> bool {
        let index = self.random.index_below(draft.list.len());
        let value = self.random.next();
        self.set(draft, index, value)
    }

    fn change_constant(&mut self, draft: &mut CpuDraft) -> bool {
        let constants: Vec<_> = (0..draft.list.len())
            .filter(|index| tcg::is_constant(RegisterId::from_raw(draft.list[*index].0)))
            .collect();
        let Some(index) = self.random.choose(&constants).copied() else {
            return false;
        };
        let value = draft.list[index].1 ^ 1 << self.random.index_below(32);
        self.set(draft, index, value)
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
        let index = if self.random.chance(50) {
            draft.list.len().saturating_sub(1)
        } else {
            self.random.index_below(draft.list.len())
        };
        let Some((id, value)) = draft.list.get(index).copied() else {
            return false;
        };
        let second_value = value ^ u64::from(self.random.chance(50));
        draft.list.insert(index + 1, (id, second_value));
        self.record("listed twice", id, &[value, second_value]);
        true
    }

    fn change_count(&mut self, draft: &mut CpuDraft) -> bool {
        let error = i32::try_from(self.random.small_count(8)).unwrap_or(1);
        let error = if self.random.chance(30) {
            -error
        } else {
            error
        };
        draft.count_error = error;
        self.log.push(format!("registers miscounted by {error}"));
        true
    }

    fn change_subsection(&mut self, draft: &mut CpuDraft) -> bool {
        match self.random.index_below(8) {
            0 | 1 if !draft.subsections.is_empty() => {
                let index = self.random.index_below(draft.subsections.len());
                let part = draft.subsections.remove(index);
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
                let index = self.random.index_below(draft.subsections.len());
                let part = &mut draft.subsections[index];
                let offset = self.random.index_below(part.payload.len());
                let Some(byte) = part.payload.get_mut(offset) else {
                    return false;
                };
                *byte ^= 1 << self.random.index_below(8);
                self.log
                    .push(format!("changed {}, byte {offset}: {byte:#x}", part.name));
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

/// Replaces the draft's list by the destination's list. The values are the draft's where the
/// destination accepts them, and the destination's elsewhere. Removes subsections that do not load.
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
