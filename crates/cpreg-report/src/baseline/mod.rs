//! Report of `baseline`.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | conversion of a baseline to the model |
//! | [`model`] | the model, schema `cpreg.baseline-report/1` |
//! | [`text`] | text of the report |
//! | `qemu.rs` | options of QEMU, elements of a libvirt domain |
//! | `firecracker.rs` | custom CPU template of Firecracker |
//! | `host_items.rs` | parameters of Linux, firmware |

mod firecracker;
mod host_items;
pub mod model;
mod qemu;
pub mod text;

use cpreg::plan::{Blocker, Verdict};
use cpreg::register::RegisterId;
use cpreg_fleet::baseline::Baseline;
use cpreg_fleet::baseline::advice::Advice;
use cpreg_fleet::baseline::features::{LossReason, LostFeature};
use cpreg_fleet::baseline::moves::{Move, MoveOutcome};
use cpreg_fleet::baseline::setting::{FixedValue, Setting};

use crate::scalar::{Hex, Id};
use crate::text::pluralize;
use crate::value::ValueFormat;
use model::{BaselineReport, SCHEMA};

/// Schema of the file that `cpreg run --baseline` takes.
const FILE_SCHEMA: &str = "cpreg.baseline/1";

/// Baselines of a set of hosts, for a report.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "the command fills it")]
pub struct BaselineFindings<'a> {
    /// Names of the hosts.
    pub hosts: &'a [String],
    /// Names of the hosts with emulated CPUs.
    pub emulated: &'a [String],
    /// Baseline of a guest with all features that it may keep.
    pub baseline: &'a Baseline,
    /// Baseline of a guest with the features that Firecracker gives it.
    pub firecracker: &'a Baseline,
    /// Effects of leaving out hosts.
    pub advice: &'a [Advice],
}

impl From<&BaselineFindings<'_>> for BaselineReport {
    fn from(findings: &BaselineFindings<'_>) -> Self {
        let baseline = findings.baseline;
        let names = Names(findings.hosts);
        let features = baseline.features.names();
        Self {
            schema: SCHEMA.to_owned(),
            verdict: baseline.verdict().into(),
            summary: summary(baseline),
            hosts: findings.hosts.to_vec(),
            emulated_hosts: findings.emulated.to_vec(),
            features: features.map(str::to_owned).collect(),
            lost_features: baseline
                .lost_features
                .iter()
                .map(|lost| names.lost_feature(lost))
                .collect(),
            vector_limit: baseline
                .vector_limit
                .as_ref()
                .map(|limit| model::VectorLimit {
                    max_bits: limit.max_bits,
                    best_bits: limit.best_bits,
                    forced_by: names.all(&limit.forced_by),
                }),
            settings: baseline
                .settings
                .iter()
                .map(|setting| names.setting(setting))
                .collect(),
            fixed: baseline
                .fixed
                .iter()
                .map(|fixed| names.fixed(fixed))
                .collect(),
            drops: baseline.drops.iter().map(RegisterId::to_string).collect(),
            counts: counts(baseline),
            blocked: blocked(baseline, names),
            visible_changes: visible_changes(baseline),
            loaders: loaders(baseline),
            advice: findings
                .advice
                .iter()
                .map(|advice| names.advice(advice))
                .collect(),
            dialects: model::Dialects {
                qemu: qemu::options(baseline),
                libvirt: qemu::libvirt(baseline),
                firecracker: firecracker::template(
                    findings.firecracker,
                    summary(findings.firecracker),
                ),
                run: run_settings(baseline, findings.hosts),
                host_items: host_items::host_items(baseline, findings.hosts),
            },
        }
    }
}

/// Returns the number of ordered pairs of hosts whose plan is ready.
fn ready_pairs(baseline: &Baseline) -> usize {
    let pairs = baseline.pairs();
    pairs
        .filter(|(_, _, one)| one.outcome == MoveOutcome::Ready)
        .count()
}

fn counts(baseline: &Baseline) -> model::MoveCounts {
    let births = || baseline.births();
    model::MoveCounts {
        pairs: baseline.pairs().count(),
        ready_pairs: ready_pairs(baseline),
        births: births().count(),
        ready_births: births()
            .filter(|(_, birth)| birth.outcome == MoveOutcome::Ready)
            .count(),
    }
}

/// Returns the verdict in words. Each statement is the result of planned moves.
fn summary(baseline: &Baseline) -> String {
    let counts = counts(baseline);
    let planned = format!(
        "the plans of {} of {} and {} of {} are ready",
        counts.ready_pairs,
        pluralize(counts.pairs, "ordered pair"),
        counts.ready_births,
        pluralize(counts.births, "birth")
    );
    let blocked = || {
        let moves = baseline.pairs().map(|(_, _, one)| one);
        moves.filter(|one| one.outcome != MoveOutcome::Ready)
    };
    let all_are = |outcome| blocked().all(|one| one.outcome == outcome);
    let is_born = counts.ready_births == counts.births;
    match baseline.verdict() {
        Verdict::Loads | Verdict::Converts => format!(
            "a VM born with these settings moves among these hosts, in both directions: {planned}"
        ),
        Verdict::Unknown => format!("not enough information to decide: {planned}"),
        Verdict::Refused if blocked().next().is_none() && is_born => {
            format!("a host lacks a feature to keep; without it {planned}")
        }
        Verdict::Refused if is_born && all_are(MoveOutcome::CpuDiffers) => {
            format!("the registers fit, the CPU differs: fatal for a running guest; {planned}")
        }
        Verdict::Refused if is_born && all_are(MoveOutcome::NeedsConsent) => {
            format!("{planned}; the others need consents (`--accept`)")
        }
        Verdict::Refused => format!("{planned}; no setting helps the others"),
    }
}

/// Names of hosts by index.
#[derive(Clone, Copy)]
struct Names<'a>(&'a [String]);

impl Names<'_> {
    fn one(self, index: usize) -> String {
        self.0.get(index).cloned().unwrap_or_default()
    }

    fn all(self, indexes: &[usize]) -> Vec<String> {
        indexes.iter().map(|index| self.one(*index)).collect()
    }

    fn lost_feature(self, lost: &LostFeature) -> model::LostFeature {
        let reason = match lost.reason {
            LossReason::Lacking => "these hosts lack it".to_owned(),
            LossReason::Moves if lost.fixed.is_empty() => {
                "more pairs of hosts move VMs without it".to_owned()
            }
            LossReason::Moves => format!(
                "with it the hosts differ in {}, which no setting makes equal",
                lost.fixed.join(", ")
            ),
            LossReason::NotWanted => "not by default: `--keep` asks for it".to_owned(),
        };
        model::LostFeature {
            feature: lost.feature.to_string(),
            forced_by: self.all(&lost.forced_by),
            reason,
            wanted: lost.is_wanted,
        }
    }

    fn setting(self, setting: &Setting) -> model::Setting {
        model::Setting {
            register: setting.register.to_string(),
            id: Id(setting.register),
            field: setting.field.map(|field| field.to_string()),
            value: Hex(setting.value),
            best: Hex(setting.best),
            forced_by: self.all(&setting.forced_by),
        }
    }

    fn fixed(self, fixed: &FixedValue) -> model::FixedValue {
        let values = fixed.values.iter().map(|(value, hosts)| {
            let fixed_on: Vec<_> = hosts
                .iter()
                .copied()
                .filter(|host| fixed.fixed_on.contains(host))
                .collect();
            model::HostValue {
                value: Hex(*value),
                hosts: self.all(hosts),
                fixed_on: self.all(&fixed_on),
            }
        });
        let reason = if fixed.identifies_cpu() {
            "another CPU: a running guest has its own CPU's errata workarounds"
        } else if fixed.is_uncertain {
            "not known which other values the hosts accept"
        } else {
            "no value is accepted, and kept, by all hosts"
        };
        model::FixedValue {
            register: fixed.register.to_string(),
            id: Id(fixed.register),
            field: fixed.field.map(|field| field.to_string()),
            values: values.collect(),
            reason: reason.to_owned(),
        }
    }

    fn advice(self, advice: &Advice) -> model::Advice {
        model::Advice {
            hosts: self.all(&advice.hosts),
            features: advice.features.names().map(str::to_owned).collect(),
            values: advice.values.clone(),
            ready: advice.ready.0,
            moves: advice.ready.1,
        }
    }
}

fn blocked(baseline: &Baseline, names: Names<'_>) -> Vec<model::BlockedMove> {
    let rows = baseline.moves.iter().enumerate();
    let cells = rows.flat_map(|(from, row)| {
        let cells = row.iter().enumerate();
        cells.map(move |(to, one)| (from, to, one))
    });
    let blocked = cells.filter(|(_, _, one)| one.outcome != MoveOutcome::Ready);
    let blocked = blocked.map(|(from, to, one)| model::BlockedMove {
        from: names.one(from),
        to: names.one(to),
        outcome: outcome_name(one.outcome).to_owned(),
        blockers: one.blockers.iter().map(blocker).collect(),
        consents: consents(one),
    });
    blocked.collect()
}

const fn outcome_name(outcome: MoveOutcome) -> &'static str {
    match outcome {
        MoveOutcome::Ready => "ready",
        MoveOutcome::NeedsConsent => "needs-consent",
        MoveOutcome::Unknown => "unknown",
        MoveOutcome::CpuDiffers => "cpu-differs",
        MoveOutcome::Refused => "refused",
    }
}

fn blocker(blocker: &Blocker) -> model::Blocker {
    model::Blocker {
        name: ValueFormat::new(None, false).part(&blocker.part),
        reason: blocker.reason.clone(),
        unknown: blocker.is_unknown,
    }
}

/// Returns the changes of value that make a move ready; empty if none do.
fn consents(one: &Move) -> Vec<model::Consent> {
    let proposed = one.proposed.iter();
    let proposed = proposed.filter(|_| one.outcome == MoveOutcome::NeedsConsent);
    let consents = proposed.map(|adjustment| model::Consent {
        register: adjustment.register.to_string(),
        from: Hex(adjustment.from),
        to: Hex(adjustment.to),
        severity: adjustment.severity.into(),
    });
    consents.collect()
}

/// Returns the changes that guests could notice in moves that are ready, the worst first.
fn visible_changes(baseline: &Baseline) -> Vec<model::VisibleChange> {
    let mut changes: Vec<(cpreg::severity::Severity, model::VisibleChange)> = Vec::new();
    let moves = baseline.pairs().map(|(_, _, one)| one);
    for one in moves.filter(|one| one.outcome == MoveOutcome::Ready) {
        for change in &one.visible_changes {
            let name = match (&change.register, &change.field) {
                (Some(register), Some(field)) => format!("{register}.{field}"),
                (Some(register), None) => register.to_string(),
                (None, field) => field.as_deref().unwrap_or_default().to_owned(),
            };
            let known = changes.iter_mut().find(|(severity, known)| {
                *severity == change.severity
                    && known.name == name
                    && known.description == change.description
            });
            match known {
                Some((_, known)) => known.moves += 1,
                None => changes.push((
                    change.severity,
                    model::VisibleChange {
                        name,
                        severity: change.severity.into(),
                        description: change.description.to_string(),
                        moves: 1,
                    },
                )),
            }
        }
    }
    changes.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
    changes.into_iter().map(|(_, change)| change).collect()
}

/// Counts the pairs that each program loads, for the programs that the plans have predictions for.
fn loaders(baseline: &Baseline) -> Vec<model::LoaderCount> {
    let mut counts: Vec<model::LoaderCount> = Vec::new();
    for (_, _, one) in baseline.pairs() {
        let after = one.loaders_after_drops.iter();
        for ((loader, loads), (_, loads_after)) in one.loaders.iter().zip(after) {
            let name = loader.to_string();
            let index = counts.iter().position(|count| count.loader == name);
            let index = index.unwrap_or_else(|| {
                counts.push(model::LoaderCount {
                    loader: name,
                    pairs: 0,
                    pairs_after_drops: 0,
                });
                counts.len() - 1
            });
            counts[index].pairs += usize::from(*loads);
            counts[index].pairs_after_drops += usize::from(*loads_after);
        }
    }
    counts
}

fn run_settings(baseline: &Baseline, hosts: &[String]) -> model::RunSettings {
    let drops = baseline.drops.iter();
    let settings = baseline.settings.iter().map(|setting| model::FileSetting {
        register: setting.register.to_string(),
        field: setting.field.map(|field| field.to_string()),
        value: Hex(setting.value),
    });
    model::RunSettings {
        options: drops
            .flat_map(|id| ["--drop".to_owned(), id.to_string()])
            .collect(),
        baseline: model::BaselineFile {
            schema: FILE_SCHEMA.to_owned(),
            hosts: hosts.to_vec(),
            settings: settings.collect(),
        },
    }
}
