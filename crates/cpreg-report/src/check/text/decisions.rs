//! Lines about registers and extensions: blocking decisions first, routine ones only as a count.

use cpreg::destination::Confidence;
use cpreg::plan::{Action, Decision, ExtensionAction, ExtensionDecision, VcpuSet};
use cpreg::register::Value;
use cpreg::vm::{Content, Extension};

use super::hardware;
use super::layout::{vcpu_suffix, wrap_names};
use crate::check::CheckFindings;
use crate::printer::{Printer, style, styled};
use crate::remedy;
use crate::text::pluralize;
use crate::value::{field_changes, id_digits};

/// Returns `true` if the text only counts a decision, because it needs no attention.
fn is_routine(decision: &Decision) -> bool {
    matches!(decision.action, Action::Copy)
        || matches!(decision.action, Action::KeepAtReset | Action::WriteReset(_))
            && decision.source.is_none()
}

pub(super) fn print(printer: &mut Printer, findings: &CheckFindings<'_>, all: bool) {
    let decisions = findings.check.plan.decisions();
    let mut rows: Vec<&(VcpuSet, &Decision)> = decisions
        .iter()
        .filter(|(_, decision)| all || !is_routine(decision))
        .collect();
    rows.sort_by_key(|(_, decision)| (sort_rank(&decision.action), decision.register));
    let (ignored, others): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|(_, decision)| decision.action == Action::Ignore);
    print_decisions(printer, findings, &others);
    print_ignored(printer, findings, &ignored);
    let extensions = findings.check.plan.extensions();
    for (vcpus, decision) in &extensions {
        let silent = matches!(
            decision.action,
            ExtensionAction::Copy | ExtensionAction::KeepAtReset
        );
        if all || !silent {
            print_extension(printer, findings, vcpus, decision);
        }
    }
    if !all {
        let copied = decisions
            .iter()
            .filter(|(_, decision)| decision.action == Action::Copy)
            .count();
        let kept = decisions
            .iter()
            .filter(|(_, decision)| is_routine(decision) && decision.action != Action::Copy)
            .count();
        let confidence = decisions
            .iter()
            .filter(|(_, decision)| decision.action == Action::Copy)
            .map(|(_, decision)| decision.confidence)
            .min()
            .unwrap_or(Confidence::Proven);
        let copied = pluralize(copied, "register");
        let kept = match kept {
            0 => String::new(),
            kept => format!(
                "; {} kept at reset",
                pluralize(kept, "destination-only register")
            ),
        };
        printer.line(styled(
            style::DIM,
            format_args!("  {copied} copied ({confidence}){kept}; --all lists them"),
        ));
    }
    hardware::print_assumed(printer, findings);
    printer.line("");
}

/// Returns the rank of a decision in the text; blocking decisions are first.
const fn sort_rank(action: &Action) -> u8 {
    match action {
        Action::Refuse => 0,
        Action::Undecided => 1,
        Action::Set(_) => 2,
        Action::Ignore => 3,
        Action::KeepAtReset | Action::WriteReset(_) => 4,
        _ => 5,
    }
}

fn action_word(action: &Action) -> String {
    match action {
        Action::Refuse => styled(style::ERROR, "refused"),
        Action::Undecided => styled(style::WARNING, "unknown"),
        Action::Set(_) => styled(style::WARNING, "set    "),
        Action::Ignore => styled(style::GOOD, "ignored"),
        Action::KeepAtReset | Action::WriteReset(_) => "reset  ".to_owned(),
        _ => "copied ".to_owned(),
    }
}

/// Prints decisions in groups of the same action and reason. A group is a line per register, then
/// the reason and the fix.
fn print_decisions(
    printer: &mut Printer,
    findings: &CheckFindings<'_>,
    rows: &[&(VcpuSet, &Decision)],
) {
    struct DecisionGroup<'a> {
        rank: u8,
        reason: String,
        advice: Option<String>,
        rows: Vec<&'a (VcpuSet, &'a Decision)>,
    }
    let mut groups: Vec<DecisionGroup<'_>> = Vec::new();
    for row in rows {
        let decision = row.1;
        let certainty = match decision.confidence {
            Confidence::Inferred => " (inferred)",
            Confidence::Proven | Confidence::Unknown => "",
        };
        let is_blocking = matches!(decision.action, Action::Refuse | Action::Undecided);
        let group = DecisionGroup {
            rank: sort_rank(&decision.action),
            reason: format!(
                "{}{certainty}",
                decision.reason.display(findings.tolerances)
            ),
            advice: is_blocking
                .then(|| remedy::decision_advice(decision, findings.tolerances))
                .flatten(),
            rows: vec![row],
        };
        let has_same_text = |other: &&mut DecisionGroup<'_>| {
            (other.rank, &other.reason, &other.advice) == (group.rank, &group.reason, &group.advice)
        };
        match groups.iter_mut().find(has_same_text) {
            Some(other) => other.rows.push(row),
            None => groups.push(group),
        }
    }
    for group in groups {
        for (vcpus, decision) in group.rows {
            print_decision(printer, findings, vcpus, decision);
        }
        printer.line(format_args!("           {}", group.reason));
        if let Some(advice) = group.advice {
            printer.line(format_args!(
                "           {}: {advice}",
                styled(style::HINT, "fix")
            ));
        }
    }
}

/// Prints the line of a decision, and the fields that block the load.
fn print_decision(
    printer: &mut Printer,
    findings: &CheckFindings<'_>,
    vcpus: &VcpuSet,
    decision: &Decision,
) {
    let id = decision.register;
    let show = |value: &Option<Value>| {
        value
            .as_ref()
            .map(|value| findings.value_format.describe(id, value))
    };
    let values = match (
        &decision.action,
        show(&decision.source),
        show(&decision.destination),
    ) {
        (Action::Set(to), Some(from), _) => {
            format!("{from} -> {}", findings.value_format.describe(id, to))
        }
        (Action::Refuse | Action::Undecided, Some(source), destination)
            if findings.requested_value(decision).is_some() =>
        {
            let requested = findings.requested_value(decision).map(Value::U64);
            let requested = show(&requested).unwrap_or_default();
            let destination = destination
                .map(|destination| format!(", destination: {destination}"))
                .unwrap_or_default();
            format!("{source}, to be set to {requested}{destination}")
        }
        (_, Some(source), Some(destination)) if source != destination => {
            format!("{source}, destination: {destination}")
        }
        (_, Some(source), _) => source,
        (_, None, Some(destination)) => format!("destination: {destination}"),
        (_, None, None) => String::new(),
    };
    printer.line(format_args!(
        "  {}  {}  {values}{}  {}",
        action_word(&decision.action),
        styled(style::NAME, findings.value_format.name(id)),
        vcpu_suffix(findings, vcpus),
        styled(style::DIM, format_args!("[{}]", id_digits(id))),
    ));
    let differing = match (&decision.action, &decision.source, &decision.destination) {
        (Action::Refuse | Action::Undecided, Some(source), Some(destination)) => source
            .as_u64()
            .zip(destination.as_u64())
            .map(|(source, destination)| field_changes(id, source, destination)),
        _ => None,
    };
    let proposed = findings
        .check
        .plan
        .proposed_adjustments
        .iter()
        .any(|adjustment| adjustment.register == id);
    let secret = id.is_secret() && !findings.value_format.show_secrets;
    // A proposed adjustment needs no list of fields: its own line shows them.
    if let Some(fields) = differing.filter(|fields| !fields.is_empty() && !proposed && !secret) {
        printer.line(format_args!("             {}", fields.join(", ")));
    }
}

/// Prints ignored registers, grouped by reason.
fn print_ignored(
    printer: &mut Printer,
    findings: &CheckFindings<'_>,
    rows: &[&(VcpuSet, &Decision)],
) {
    let mut reasons: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for (vcpus, decision) in rows {
        let id = decision.register;
        let value = decision
            .source
            .as_ref()
            .map(|value| findings.value_format.describe(id, value))
            .unwrap_or_default();
        let text = (
            findings.value_format.name(id),
            format!(" {value}{}", vcpu_suffix(findings, vcpus)),
        );
        let reason = decision.reason.display(findings.tolerances).to_string();
        match reasons.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, texts)) => texts.push(text),
            None => reasons.push((reason, vec![text])),
        }
    }
    for (reason, texts) in reasons {
        let mut begin = format!("  {}  ", styled(style::GOOD, "ignored"));
        for line in wrap_names(&texts) {
            printer.line(format_args!("{begin}{line}"));
            begin = " ".repeat(11);
        }
        printer.line(format_args!("           {reason}"));
    }
}

fn print_extension(
    printer: &mut Printer,
    findings: &CheckFindings<'_>,
    vcpus: &VcpuSet,
    decision: &ExtensionDecision,
) {
    let word = match decision.action {
        ExtensionAction::Refuse => styled(style::ERROR, "refused"),
        ExtensionAction::Undecided => styled(style::WARNING, "unknown"),
        ExtensionAction::Set(_) => styled(style::WARNING, "set    "),
        ExtensionAction::Ignore => styled(style::GOOD, "ignored"),
        ExtensionAction::IgnoreAndWake => styled(style::GOOD, "woken  "),
        ExtensionAction::KeepAtReset => "reset  ".to_owned(),
        _ => "copied ".to_owned(),
    };
    let content = |content: &Content| match content {
        Content::Number(u64::MAX) if decision.name == Extension::WFXT_TIMER => "idle".to_owned(),
        Content::Number(number) => format!("{number:#x}"),
        Content::Bytes(bytes) => format!("{} bytes", bytes.len()),
    };
    let values = match (&decision.source, &decision.action) {
        (Some(from), ExtensionAction::Set(to)) => format!("{} -> {}", content(from), content(to)),
        (None, ExtensionAction::Set(to)) => format!("-> {}", content(to)),
        (Some(from), _) => content(from),
        (None, _) => String::new(),
    };
    printer.line(format_args!(
        "  {word}  {}  {values}{}",
        styled(style::NAME, &decision.name),
        vcpu_suffix(findings, vcpus)
    ));
    printer.line(format_args!(
        "           {}",
        decision.reason.display(findings.tolerances)
    ));
    if matches!(
        decision.action,
        ExtensionAction::Refuse | ExtensionAction::Undecided
    ) && decision.source.is_some()
    {
        printer.line(format_args!(
            "           {}: if the guest can do without it, --drop {} drops it and loses its \
             content",
            styled(style::HINT, "fix"),
            decision.name
        ));
    }
}
