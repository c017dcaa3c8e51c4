//! [`CellDetails`]: content of a cell in words, before equal texts are merged.

use cpreg::destination::Accelerator;
use cpreg::destination::kernel;
use cpreg::plan::{
    Action, Check, Decision, ExtensionAction, ExtensionDecision, HardwareAction, HardwareDecision,
    Plan, Reason, Verdict, VisibleChange,
};
use cpreg::register::{RegisterId, Value};
use cpreg::shape::ShapeDifference;
use cpreg::tolerance::{Tolerance, Tolerances};
use cpreg_explain::qemu::predict;
use cpreg_fleet::{Cell, Host, PlannedCell, Subject};

use super::model::PartKind;
use crate::check::{blockers, consent_words, hardware};
use crate::command::quote;
use crate::names::{Severity, UnchangedLoad};
use crate::remedy::{self, Vmm};
use crate::value::ValueFormat;

/// Maximum number of messages of a loader.
const MAX_MESSAGES: usize = 6;

/// Content of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellDetails {
    pub(super) symbol: char,
    pub(super) without_cpreg: UnchangedLoad,
    pub(super) severity: Option<Severity>,
    pub(super) reason: Option<String>,
    pub(super) consents: Option<String>,
    pub(super) parts: Vec<PartDetails>,
    pub(super) messages: Vec<String>,
}

/// Registers with one decision and one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartDetails {
    pub(super) kind: PartKind,
    pub(super) decision: String,
    pub(super) items: Vec<ItemDetails>,
    pub(super) reason: String,
    pub(super) remedies: Vec<String>,
    pub(super) history: Vec<String>,
}

/// Register or other part, with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ItemDetails {
    pub(super) name: String,
    /// Register, if it has a timeline.
    pub(super) register: Option<RegisterId>,
    pub(super) source: Option<String>,
    pub(super) destination: Option<String>,
}

impl ItemDetails {
    fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            register: None,
            source: None,
            destination: None,
        }
    }
}

impl CellDetails {
    /// Returns the content of a cell.
    pub fn new(
        subject: &Subject,
        host: &Host,
        planned: &PlannedCell,
        tolerances: &Tolerances,
    ) -> Self {
        let cell = &planned.cell;
        let accelerator = subject.accelerator.or(host.accelerator());
        let writer = PartWriter {
            format: ValueFormat::new(accelerator, false),
            vmm: Vmm::from_program(subject.program),
            tolerances,
        };
        let plan = planned.check.as_ref().map(|check| &check.plan);
        let mut parts: Vec<_> = planned.machine.iter().map(machine_part).collect();
        if parts.is_empty()
            && let Some(plan) = plan
        {
            parts = writer.parts(plan, cell.verdict);
        }
        let consents = plan
            .filter(|_| cell.resolving_consent.is_some())
            .map(|plan| {
                let words = consent_words(&plan.proposed_adjustments, writer.format);
                let words = words.iter().map(|word| format!(" {}", quote(word)));
                words.collect()
            });
        Self {
            symbol: cell.symbol().character(),
            without_cpreg: cell.without_cpreg.into(),
            severity: cell.severity.map(Into::into),
            reason: cell.reason.clone(),
            consents,
            parts,
            messages: messages(planned.check.as_ref(), accelerator),
        }
    }
}

impl CellDetails {
    /// Returns the content of a cell that was not planned.
    pub fn without_plan(cell: &Cell) -> Self {
        Self {
            symbol: cell.symbol().character(),
            without_cpreg: cell.without_cpreg.into(),
            severity: cell.severity.map(Into::into),
            reason: cell.reason.clone(),
            consents: None,
            parts: Vec::new(),
            messages: Vec::new(),
        }
    }
}

/// Returns the messages of the destination's loader without cpreg, if it is known.
fn messages(check: Option<&Check>, accelerator: Option<Accelerator>) -> Vec<String> {
    let mut predictions = check.iter().flat_map(|check| &check.loaders);
    let own = predictions.find(|it| it.is_destination_loader);
    let lines = own
        .zip(accelerator)
        .map(|(it, accelerator)| predict::predicted_lines(it.loader, accelerator, &it.load));
    let mut lines = lines.unwrap_or_default();
    lines.truncate(MAX_MESSAGES);
    lines
}

/// Returns the part for a difference of the machines.
fn machine_part(difference: &ShapeDifference) -> PartDetails {
    let value = |value: &Option<String>| value.clone().or_else(|| Some("none".to_owned()));
    let reason = difference.reason.as_ref();
    PartDetails {
        kind: PartKind::Blocker,
        decision: Action::Refuse.name().to_owned(),
        items: vec![ItemDetails {
            source: value(&difference.source),
            destination: value(&difference.destination),
            ..ItemDetails::named(difference.part.to_string())
        }],
        reason: reason.map_or_else(|| "the machines differ".to_owned(), ToString::to_string),
        remedies: vec![blockers::shape_remedy(difference)],
        history: Vec::new(),
    }
}

/// Inputs that the parts of a cell share.
struct PartWriter<'a> {
    format: ValueFormat,
    vmm: Vmm,
    tolerances: &'a Tolerances,
}

impl PartWriter<'_> {
    /// Returns the parts of a plan, blockers first. Registers with the same reason are one part.
    fn parts(&self, plan: &Plan, verdict: Verdict) -> Vec<PartDetails> {
        let mut parts: Vec<PartDetails> = Vec::new();
        let registers = plan.decisions();
        let extensions = plan.extensions();
        let all = plan
            .hardware
            .iter()
            .filter_map(hardware_part)
            .chain(
                registers
                    .iter()
                    .filter_map(|(_, it)| self.register(plan, it)),
            )
            .chain(extensions.iter().filter_map(|(_, it)| self.extension(it)));
        for part in all {
            let same = parts.iter_mut().find(|other| {
                other.kind == part.kind
                    && other.decision == part.decision
                    && other.reason == part.reason
                    && other.remedies == part.remedies
                    && other.history == part.history
            });
            match same {
                Some(same) => {
                    for item in part.items {
                        if !same.items.contains(&item) {
                            same.items.push(item);
                        }
                    }
                }
                None => parts.push(part),
            }
        }
        if matches!(verdict, Verdict::Loads | Verdict::Converts) {
            parts.extend(plan.visible_changes.iter().map(|it| self.visible(it)));
        }
        parts.sort_by_key(|part| part.kind);
        parts
    }

    fn register(&self, plan: &Plan, decision: &Decision) -> Option<PartDetails> {
        let (kind, has_values) = match decision.action {
            Action::Copy => return None,
            Action::Refuse => (PartKind::Blocker, true),
            Action::Undecided => (PartKind::Undecided, true),
            Action::Set(_) => (PartKind::Change, true),
            _ => (PartKind::Change, false),
        };
        let id = decision.register;
        let name = self.format.name(id);
        let value = |value: Option<&Value>| {
            let value = value.filter(|_| has_values)?;
            self.format
                .value(id, value)
                .map(|_| self.format.describe(id, value))
        };
        let loaded = match &decision.action {
            Action::Set(value) => Some(value),
            _ => decision.destination.as_ref(),
        };
        let advice = remedy::decision_advice(decision, self.tolerances, self.vmm);
        let mut proposed = plan.proposed_adjustments.iter();
        let accept = proposed
            .any(|adjustment| adjustment.register == id)
            .then(|| format!("--accept {name}"));
        Some(PartDetails {
            kind,
            decision: decision.action.name().to_owned(),
            items: vec![ItemDetails {
                register: Some(id),
                source: value(decision.source.as_ref()),
                destination: value(loaded),
                name,
            }],
            reason: decision.reason.display(self.tolerances).to_string(),
            remedies: advice.into_iter().chain(accept).collect(),
            history: self.history(decision),
        })
    }

    fn extension(&self, decision: &ExtensionDecision) -> Option<PartDetails> {
        let kind = match decision.action {
            ExtensionAction::Copy => return None,
            ExtensionAction::Refuse => PartKind::Blocker,
            ExtensionAction::Undecided => PartKind::Undecided,
            _ => PartKind::Change,
        };
        let remedy = blockers::extension_remedy(decision);
        Some(PartDetails {
            kind,
            decision: decision.action.name().to_owned(),
            items: vec![ItemDetails::named(decision.name.clone())],
            reason: decision.reason.display(self.tolerances).to_string(),
            remedies: remedy
                .into_iter()
                .filter(|_| kind != PartKind::Change)
                .collect(),
            history: Vec::new(),
        })
    }

    fn visible(&self, change: &VisibleChange) -> PartDetails {
        let field = change.field.as_deref();
        let name = match (change.register, field) {
            (Some(id), Some(field)) => format!("{}.{field}", self.format.name(id)),
            (Some(id), None) => self.format.name(id),
            (None, field) => field.unwrap_or_default().to_owned(),
        };
        let is_secret = change.register.is_some_and(RegisterId::is_secret);
        let value = |value: Option<u64>| {
            let value = value.filter(|_| !is_secret);
            value.map(|value| format!("{value:#x}"))
        };
        PartDetails {
            kind: PartKind::Visible,
            decision: change.severity.name().to_owned(),
            items: vec![ItemDetails {
                name,
                register: change.register,
                source: value(change.from),
                destination: value(change.to),
            }],
            reason: remedy::describe_change(change, self.vmm).into_owned(),
            remedies: Vec::new(),
            history: Vec::new(),
        }
    }

    /// Returns the changes of kernels and VMMs that explain a decision: those of its tolerance,
    /// else those of all tolerances of the register. The kernel that hides the register follows.
    fn history(&self, decision: &Decision) -> Vec<String> {
        let id = decision.register;
        let entries = self.tolerances.entries();
        let own = match &decision.reason {
            Reason::ValueUnknown(entry) => *entry,
            reason => reason.tolerance(),
        };
        let own = own.and_then(|index| entries.get(index));
        let is_of_register = |entry: &&Tolerance| {
            own.is_none()
                && entry.registers.contains(id)
                && entry.accelerator.is_none_or(|it| it == Accelerator::Kvm)
        };
        let changes = own
            .into_iter()
            .chain(entries.iter().filter(is_of_register))
            .flat_map(|entry| &entry.history);
        let mut lines: Vec<String> = Vec::new();
        let gate = match &decision.reason {
            Reason::Hidden(gate) | Reason::PerhapsHidden(gate) => Some(*gate),
            _ => kernel::find_feature_gate(id),
        };
        let gate = gate.map(|gate| {
            let line = format!(
                "{}: hidden if {}.{} is {}",
                gate.first_version,
                gate.id_register,
                gate.field,
                gate.low_values()
            );
            (gate.first_version, line)
        });
        let changes = changes.map(|change| match change.commit {
            "" => format!("{}: {}", change.release, change.description),
            commit => format!("{} ({commit}): {}", change.release, change.description),
        });
        for line in changes {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        // A tolerance may describe the same commit.
        let is_known =
            |first_version: &str| lines.iter().any(|line| line.starts_with(first_version));
        if let Some((first_version, line)) = gate
            && !is_known(first_version)
        {
            lines.push(line);
        }
        lines
    }
}

/// Returns the part for a property of the hosts; `None` if it blocks nothing.
fn hardware_part(decision: &HardwareDecision) -> Option<PartDetails> {
    let kind = match decision.action {
        HardwareAction::Refuse => PartKind::Blocker,
        HardwareAction::Undecided => PartKind::Undecided,
        _ => return None,
    };
    let value = |value| Some(hardware::describe_value(decision.fact, value));
    Some(PartDetails {
        kind,
        decision: decision.action.name().to_owned(),
        items: vec![ItemDetails {
            source: value(decision.source),
            destination: value(decision.destination),
            ..ItemDetails::named(decision.fact.name())
        }],
        reason: decision.to_string(),
        remedies: hardware::advice(decision).into_iter().collect(),
        history: Vec::new(),
    })
}
