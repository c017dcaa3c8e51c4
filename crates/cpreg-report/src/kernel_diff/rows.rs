//! [`Rows`]: the differences of all CPUs, merged by register, field or capability.

use std::collections::{BTreeMap, BTreeSet};

use cpreg::destination::Features;
use cpreg::register::{Field, RegisterId, differing_fields};

use super::model::KernelDifferenceKind as Kind;
use crate::host::{describe_mask, errno_name, trial_outcome};
use crate::host_diff::{HostDiff, HostDiffOmissions};

/// Guests by CPU.
pub(super) type Guests = BTreeMap<String, BTreeSet<Features>>;

/// Subject of a row: kind, register, lowest and highest bit of the field, name.
pub(super) type Subject = (Kind, Option<RegisterId>, Option<(u8, u8)>, String);

/// Contents of A and B, and the value that was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Contents {
    pub(super) a: Option<String>,
    pub(super) b: Option<String>,
    pub(super) written: Option<u64>,
}

impl Contents {
    pub(super) fn new(a: &impl ToString, b: &impl ToString) -> Self {
        Self {
            a: Some(a.to_string()),
            b: Some(b.to_string()),
            written: None,
        }
    }
}

/// Differences of one subject.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) field: Option<Field>,
    pub(super) variants: BTreeMap<Contents, Guests>,
}

/// Differences of all CPUs.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) by_subject: BTreeMap<Subject, Row>,
    pub(super) omissions: HostDiffOmissions,
}

impl Rows {
    fn add(
        &mut self,
        (kind, id, field): (Kind, Option<RegisterId>, Option<Field>),
        name: &str,
        contents: Contents,
        (cpu, guests): (&str, &[Features]),
    ) {
        let bits = field.map(|field| (field.lsb(), field.msb()));
        let subject = (kind, id, bits, name.to_owned());
        let row = self.by_subject.entry(subject).or_default();
        row.field = field;
        let by_cpu = row.variants.entry(contents).or_default();
        by_cpu.entry(cpu.to_owned()).or_default().extend(guests);
    }

    /// Adds the differences on one CPU.
    pub(super) fn add_host(&mut self, diff: &HostDiff<'_>, cpu: &str) {
        for (name, a, b) in &diff.capabilities {
            let place = (cpu, &*diff.guests);
            self.add(
                (Kind::Capability, None, None),
                name,
                Contents::new(a, b),
                place,
            );
        }
        let one_sided = [
            (Kind::OnlyInA, &diff.only_in_a),
            (Kind::OnlyInB, &diff.only_in_b),
        ];
        for (kind, rows) in one_sided {
            for row in rows {
                let name = diff.value_format.name(row.id);
                let place = (cpu, &*row.guests);
                self.add(
                    (kind, Some(row.id), None),
                    &name,
                    Contents::default(),
                    place,
                );
            }
        }
        self.add_values(diff, cpu);
        for row in &diff.write_back {
            let (a, b) = row.difference;
            let contents = Contents::new(&describe_errno(a), &describe_errno(b));
            self.add_register(diff, Kind::WriteBack, row.id, contents, (cpu, &row.guests));
        }
        for row in &diff.writable {
            let (a, b) = row.difference;
            let names = |mask| describe_mask(row.id, mask).join(", ");
            let contents = Contents::new(&names(a & !b), &names(b & !a));
            self.add_register(
                diff,
                Kind::WritableBits,
                row.id,
                contents,
                (cpu, &row.guests),
            );
        }
        for row in &diff.accepted_values {
            let (a, b) = &row.difference;
            let contents = Contents::new(&a.describe(row.id), &b.describe(row.id));
            self.add_register(
                diff,
                Kind::AcceptedValues,
                row.id,
                contents,
                (cpu, &row.guests),
            );
        }
        for row in &diff.trials {
            let (a, b) = &row.difference;
            let contents = Contents {
                written: Some(a.value),
                ..Contents::new(&trial_outcome(a), &trial_outcome(b))
            };
            self.add_register(diff, Kind::Trial, row.id, contents, (cpu, &row.guests));
        }
        let (all, own) = (&mut self.omissions, &diff.omissions);
        all.registers_without_value
            .extend(&own.registers_without_value);
        all.guests_without_writable_masks
            .extend(&own.guests_without_writable_masks);
        all.one_sided_trials.extend(&own.one_sided_trials);
    }

    fn add_register(
        &mut self,
        diff: &HostDiff<'_>,
        kind: Kind,
        id: RegisterId,
        contents: Contents,
        place: (&str, &[Features]),
    ) {
        let name = diff.value_format.name(id);
        self.add((kind, Some(id), None), &name, contents, place);
    }

    /// Adds values at reset, by field if the register has fields.
    fn add_values(&mut self, diff: &HostDiff<'_>, cpu: &str) {
        for row in &diff.values {
            let (id, place) = (row.id, (cpu, &*row.guests));
            let (a, b) = &row.difference;
            let is_hidden = id.is_secret() && !diff.value_format.show_secrets;
            match (a.as_u64(), b.as_u64()) {
                (Some(a), Some(b)) if !is_hidden && !id.fields().is_empty() => {
                    let name = diff.value_format.name(id);
                    for it in differing_fields(id, a, b) {
                        let [a, b] = [it.from, it.to].map(|value| format!("{value:#x}"));
                        let subject = (Kind::ResetValue, Some(id), Some(it.field));
                        self.add(subject, &name, Contents::new(&a, &b), place);
                    }
                }
                _ if is_hidden => {
                    self.add_register(diff, Kind::ResetValue, id, Contents::default(), place);
                }
                _ => {
                    let describe = |value| diff.value_format.describe(id, value);
                    let contents = Contents::new(&describe(a), &describe(b));
                    self.add_register(diff, Kind::ResetValue, id, contents, place);
                }
            }
        }
    }
}

fn describe_errno(errno: u16) -> String {
    match errno {
        0 => "accepted".to_owned(),
        errno => format!("refused ({})", errno_name(errno)),
    }
}
