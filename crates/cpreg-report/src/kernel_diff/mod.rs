//! Report of `diff` for two kernels: the comparisons of all CPUs, merged and grouped by reason.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the comparison, which fills the model |
//! | `rows` | the differences of all CPUs, merged |
//! | `history` | the reason of a difference, from the recordings and the tables |
//! | [`text`] | text of the model |
//! | [`model`] | the model, schema `cpreg.kernel-diff/2` |
//!
//! [`crate::host_diff`] compares the two hosts of each CPU. The reset value of a register that only
//! one kernel lists depends on the CPU, so this report omits it.

mod history;
pub mod model;
mod rows;
pub mod text;

use std::collections::BTreeMap;

use cpreg::tolerance::Tolerances;
use cpreg_hosts::kernel_selection::SelectedKernel;
use cpreg_hosts::{HostIndex, IndexedHost};

use crate::error::{Error, ErrorKind};
use crate::host::json::feature_names;
use crate::host_diff::json::to_omissions;
use crate::host_diff::{ComparedHost, HostDiff};
use crate::value::ValueFormat;
use history::{History, ReasonKey};
use model::{
    ComparedKernel, CpuGuests, KernelDiffReport, KernelDifference, KernelDifferenceKind as Kind,
    Reason, SCHEMA, Variant,
};
use rows::{Contents, Guests, Row, Rows, Subject};

impl KernelDiffReport {
    /// Compares two kernels on all CPUs that were recorded with both.
    ///
    /// # Errors
    /// Returns an error if no guests were recorded with both kernels.
    pub fn new(
        a: &SelectedKernel<'_>,
        b: &SelectedKernel<'_>,
        index: &HostIndex,
        tolerances: &Tolerances,
        value_format: ValueFormat,
    ) -> Result<Self, Error> {
        let mut rows = Rows::default();
        let mut cpus = Guests::new();
        for host_a in &a.hosts {
            let cpu = host_a.cpu();
            let Some(host_b) = b.hosts.iter().find(|host| host.cpu() == cpu) else {
                continue;
            };
            let names = [host_a.name(), host_b.name()];
            let records = [host_a.record(), host_b.record()];
            let [side_a, side_b] = [0, 1].map(|side: usize| ComparedHost {
                argument: &names[side],
                record: &records[side],
                features: None,
            });
            let diff = HostDiff::new(side_a, side_b, value_format)?;
            rows.add_host(&diff, &cpu);
            cpus.insert(cpu, diff.guests.iter().copied().collect());
        }
        if cpus.is_empty() {
            return Err(Error::for_host(
                ErrorKind::NoCommonGuests,
                format!("{} and {} were recorded on no common CPU", a.name, b.name),
                "`cpreg hosts` lists the CPUs of each kernel".to_owned(),
            ));
        }
        let unshared = |kernel: &SelectedKernel<'_>| -> Vec<String> {
            let all = kernel.hosts.iter().map(IndexedHost::cpu);
            all.filter(|cpu| !cpus.contains_key(cpu)).collect()
        };
        let history = History::new(index, tolerances, a, b);
        Ok(Self {
            schema: SCHEMA.to_owned(),
            equal: rows.by_subject.is_empty(),
            a: compared_kernel(a),
            b: compared_kernel(b),
            cpus_only_in_a: unshared(a),
            cpus_only_in_b: unshared(b),
            cpus: to_cpu_guests(&cpus),
            omissions: to_omissions(value_format, &rows.omissions),
            reasons: group_by_reason(rows.by_subject, &history, value_format),
        })
    }

    /// Returns the number of lines of each kind of difference.
    pub fn counts(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for difference in self.reasons.iter().flat_map(|it| &it.differences) {
            *counts.entry(difference.kind).or_default() += 1;
        }
        counts
    }
}

fn compared_kernel(kernel: &SelectedKernel<'_>) -> ComparedKernel {
    ComparedKernel {
        argument: kernel.name.clone(),
        version: kernel.record.version.clone(),
        release: kernel.record.release.clone(),
        older_versions: kernel.older_versions.clone(),
    }
}

fn to_cpu_guests(guests: &Guests) -> Vec<CpuGuests> {
    let cpus = guests.iter().map(|(cpu, sets)| CpuGuests {
        cpu: cpu.clone(),
        guests: sets.iter().map(|set| feature_names(*set)).collect(),
    });
    cpus.collect()
}

fn group_by_reason(
    rows: BTreeMap<Subject, Row>,
    history: &History<'_>,
    value_format: ValueFormat,
) -> Vec<Reason> {
    let mut groups: BTreeMap<ReasonKey, Vec<KernelDifference>> = BTreeMap::new();
    for ((kind, id, _, name), row) in rows {
        let key = history.reason(kind, id, &name, &row);
        groups.entry(key).or_default().push(KernelDifference {
            kind,
            id: id.map(Into::into),
            name: id.map_or(name, |id| value_format.name(id)),
            field: row.field.map(|field| field.to_string()),
            variants: variants(row.variants),
        });
    }
    let groups = groups.into_iter();
    groups
        .map(|(key, differences)| history.describe(key, differences))
        .collect()
}

/// Converts variants. Trials of different values with the same results share a variant.
fn variants(contents: BTreeMap<Contents, Guests>) -> Vec<Variant> {
    let mut variants: Vec<Variant> = Vec::new();
    for (contents, guests) in contents {
        let cpus = to_cpu_guests(&guests);
        let written = contents.written.map(|value| format!("{value:#x}"));
        let mut others = variants.iter_mut();
        let alike = others.find(|it| it.a == contents.a && it.b == contents.b && it.cpus == cpus);
        match (alike, written) {
            (Some(alike), Some(written)) => alike.written.push(written),
            (_, written) => variants.push(Variant {
                a: contents.a,
                b: contents.b,
                written: written.into_iter().collect(),
                cpus,
            }),
        }
    }
    variants
}
