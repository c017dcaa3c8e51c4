//! Use of the operator's tolerances in a check, in words.

use std::collections::{BTreeMap, BTreeSet};

use cpreg::plan::{EntryUse, VcpuSet};
use cpreg::register::RegisterId;
use cpreg::tolerance::{RegisterDifference, Tolerance};

use super::model::OperatorEntry;
use super::{CheckFindings, SourceKind};
use crate::printer::{Printer, style, styled};
use crate::tolerance::text::{entry_name, masked_bits};

/// Use of one entry for some of its registers, with the same reason.
struct UseGroup {
    entry: usize,
    entry_use: EntryUse,
    registers: BTreeSet<RegisterId>,
    vcpus: BTreeSet<usize>,
}

impl CheckFindings<'_> {
    fn operator_entry_uses(&self) -> Vec<UseGroup> {
        if self.source.kind == SourceKind::Setup {
            // Without the VM's registers, no entry is known to apply or not to apply.
            return Vec::new();
        }
        let plan = &self.check.plan;
        let uses = plan.operator_entries(&self.vm, self.destination, self.tolerances, &self.sets);
        let mut groups: BTreeMap<(usize, EntryUse), UseGroup> = BTreeMap::new();
        for it in uses {
            let key = (it.entry, it.entry_use.clone());
            let group = groups.entry(key).or_insert_with(|| UseGroup {
                entry: it.entry,
                entry_use: it.entry_use,
                registers: BTreeSet::new(),
                vcpus: BTreeSet::new(),
            });
            group.registers.extend(it.register);
            group.vcpus.extend(it.vcpus.iter());
        }
        groups.into_values().collect()
    }

    /// Returns the use of the operator's entries as a model.
    pub(super) fn operator_entries(&self) -> Vec<OperatorEntry> {
        let groups = self.operator_entry_uses().into_iter();
        let entries = self.tolerances.entries();
        let model = |group: UseGroup| {
            let origin = entries.get(group.entry)?.origin.as_ref();
            let registers = group.registers.iter();
            Some(OperatorEntry {
                tolerance: group.entry,
                file: origin.map(|origin| origin.file.clone()),
                entry: origin.map(|origin| origin.number),
                registers: registers.map(|id| self.value_format.name(*id)).collect(),
                vcpus: (&group.vcpus.iter().copied().collect::<VcpuSet>()).into(),
                applied: group.entry_use == EntryUse::Applied,
                reason: self.describe_use(&group.entry_use),
            })
        };
        groups.filter_map(model).collect()
    }

    /// Returns the reason why an entry did not apply; `None` if it applied.
    fn describe_use(&self, entry_use: &EntryUse) -> Option<String> {
        let name = |id: RegisterId| self.value_format.name(id);
        Some(match entry_use {
            EntryUse::Applied => return None,
            EntryUse::Absent => "neither side has the register".to_owned(),
            EntryUse::OtherAccelerator => {
                let accelerator = self.destination.accelerator;
                let accelerator = accelerator.map_or("unknown".to_owned(), |it| it.to_string());
                format!("it is for another accelerator; the destination's is {accelerator}")
            }
            EntryUse::ValueAccepted => {
                "both sides have the register, and the destination accepts the value".to_owned()
            }
            EntryUse::OtherDifference(difference) => match difference {
                RegisterDifference::SourceOnly => "only the VM has the register",
                RegisterDifference::DestinationOnly => "only the destination has the register",
                RegisterDifference::ValueNotAccepted | RegisterDifference::OtherId => {
                    "both sides have the register"
                }
            }
            .to_owned(),
            EntryUse::EarlierEntry(index) => {
                let entry = self.tolerances.entries().get(*index);
                let entry = entry.map_or_else(String::new, entry_name);
                format!("{entry} comes first")
            }
            EntryUse::Unmet {
                register,
                mask,
                expected,
                value,
            } => {
                let (bits, expected) = masked_bits(*register, *mask, *expected);
                let bits = bits.map(|bits| format!(".{bits}")).unwrap_or_default();
                let is_secret = register.is_secret() && !self.value_format.show_secrets;
                let value = match value {
                    _ if is_secret => "another value".to_owned(),
                    Some(value) => masked_bits(*register, *mask, value & mask).1,
                    None => "no known value".to_owned(),
                };
                format!("{}{bits} holds {value}, not {expected}", name(*register))
            }
            EntryUse::ConditionFalse => "its condition does not hold".to_owned(),
            EntryUse::NoNearestValue => "the destination accepts no value near the VM's".to_owned(),
            EntryUse::UserDecision => "an option of yours decides about the register".to_owned(),
            EntryUse::AcceptanceUnknown => {
                "it is not known whether the destination accepts the value".to_owned()
            }
            EntryUse::SourceUnknown => "the VM's value is not known".to_owned(),
            EntryUse::OtherReason(reason) => reason.display(self.tolerances).to_string(),
            _ => "another reason decides".to_owned(),
        })
    }
}

/// Prints the use of the operator's entries, by file.
///
/// Entries without a register that differs share one line.
pub(super) fn print(printer: &mut Printer, findings: &CheckFindings<'_>) {
    let groups = findings.operator_entry_uses();
    if groups.is_empty() {
        return;
    }
    let entries = findings.tolerances.entries();
    let file = |index: usize| {
        let entry: Option<&Tolerance> = entries.get(index);
        let origin = entry.and_then(|entry| entry.origin.as_ref());
        origin.map_or("the program", |origin| &origin.file)
    };
    let mut start = 0;
    while start < groups.len() {
        let name = file(groups[start].entry);
        let count = groups[start..]
            .iter()
            .take_while(|group| file(group.entry) == name)
            .count();
        printer.line(format_args!("tolerances of {name}:"));
        print_file(printer, findings, &groups[start..start + count]);
        printer.line("");
        start += count;
    }
}

/// Prints the use of the entries of one file.
fn print_file(printer: &mut Printer, findings: &CheckFindings<'_>, groups: &[UseGroup]) {
    let entries = findings.tolerances.entries();
    let number = |index: usize| {
        let origin = entries.get(index).and_then(|entry| entry.origin.as_ref());
        origin.map_or(index + 1, |origin| origin.number)
    };
    let mut concerned = BTreeSet::new();
    for group in groups {
        if group.entry_use.is_unconcerned() {
            continue;
        }
        concerned.insert(group.entry);
        let names: Vec<_> = group.registers.iter().collect();
        let names = match names[..] {
            [] => "its registers".to_owned(),
            [first, second, third, ..] if names.len() > MAX_LISTED_REGISTERS => format!(
                "{}, {}, {} and {} more",
                findings.value_format.name(*first),
                findings.value_format.name(*second),
                findings.value_format.name(*third),
                names.len() - 3
            ),
            _ => {
                let names = names.iter().map(|id| findings.value_format.name(**id));
                names.collect::<Vec<_>>().join(", ")
            }
        };
        let vcpus: VcpuSet = group.vcpus.iter().copied().collect();
        let suffix = super::text::vcpu_suffix(findings, &vcpus);
        let number = number(group.entry);
        match findings.describe_use(&group.entry_use) {
            None => printer.line(format_args!(
                "  entry {number} {} to {names}{suffix}",
                styled(style::GOOD, "applied")
            )),
            Some(reason) => printer.line(format_args!(
                "  entry {number} {} to {names}{suffix}, because {reason}",
                styled(style::WARNING, "did not apply")
            )),
        }
    }
    let all: BTreeSet<_> = groups.iter().map(|group| group.entry).collect();
    let unconcerned = all.difference(&concerned).count();
    if unconcerned != 0 {
        printer.line(styled(
            style::DIM,
            format!(
                "  {} not concerned: neither side has the register, or the destination accepts \
                 the value, or the entry is for another accelerator",
                match unconcerned {
                    1 => "1 entry is".to_owned(),
                    count => format!("{count} entries are"),
                }
            ),
        ));
    }
}

/// Maximum number of registers in a line; a line about more lists three of them.
const MAX_LISTED_REGISTERS: usize = 6;
