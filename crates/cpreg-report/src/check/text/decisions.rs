//! Lines about registers and extensions: what blocks the load, what the user changed, and what the
//! built-in table tolerates.

use cpreg::destination::Confidence;
use cpreg::plan::{Action, Decision, ExtensionAction, ExtensionDecision, Reason, VcpuSet};
use cpreg::register::Value;
use cpreg::vm::{Content, Extension};

use super::hardware;
use super::layout::{REASON_INDENT, print_fix, print_reason, vcpu_suffix, wrap_names};
use crate::check::CheckFindings;
use crate::check::blockers::extension_remedy;
use crate::printer::{Printer, heading, style, styled};
use crate::remedy;
use crate::value::{field_changes, id_digits};

/// Group of decisions in the report.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DecisionClass {
    /// Blocks the load, or lacks a decision.
    Blocker,
    /// Changes the VM: another value, or a consent or entry of the user.
    Change,
    /// Tolerated by the built-in table, or kept at reset because the VM lacks the register.
    Tolerated,
    /// Copied unchanged.
    Copied,
}

/// Most registers with one reason that get a line each in the short form; more are a list.
const MAX_LINES: usize = 8;

type Row<'a> = (VcpuSet, &'a Decision);
type ExtensionRow<'a> = (VcpuSet, &'a ExtensionDecision);

/// Returns `true` if the user, or an entry of the operator, is the reason of a decision.
fn is_by_user(findings: &CheckFindings<'_>, reason: &Reason) -> bool {
    match reason {
        Reason::UserIgnores
        | Reason::UserDrops
        | Reason::UserSets
        | Reason::UserCondition
        | Reason::UserAccepts => true,
        Reason::Tolerated(entry) => {
            let entry = findings.tolerances.entries().get(*entry);
            entry.is_some_and(|entry| entry.is_operator_entry)
        }
        _ => false,
    }
}

fn classify(findings: &CheckFindings<'_>, decision: &Decision) -> DecisionClass {
    match decision.action {
        Action::Refuse | Action::Undecided => DecisionClass::Blocker,
        Action::Set(_) => DecisionClass::Change,
        _ if is_by_user(findings, &decision.reason) => DecisionClass::Change,
        Action::Copy => DecisionClass::Copied,
        _ => DecisionClass::Tolerated,
    }
}

fn classify_extension(findings: &CheckFindings<'_>, decision: &ExtensionDecision) -> DecisionClass {
    match decision.action {
        ExtensionAction::Refuse | ExtensionAction::Undecided => DecisionClass::Blocker,
        ExtensionAction::Set(_) | ExtensionAction::IgnoreAndWake => DecisionClass::Change,
        _ if is_by_user(findings, &decision.reason) => DecisionClass::Change,
        ExtensionAction::Copy => DecisionClass::Copied,
        _ => DecisionClass::Tolerated,
    }
}

/// Returns the decisions of a class, blocking ones first.
fn rows<'a>(findings: &'a CheckFindings<'_>, class: DecisionClass) -> Vec<Row<'a>> {
    let plan = &findings.check.plan;
    let mut rows = plan.decisions_where(|decision| classify(findings, decision) == class);
    rows.sort_by_key(|(_, decision)| (sort_rank(&decision.action), decision.register));
    rows
}

fn extension_rows<'a>(
    findings: &'a CheckFindings<'_>,
    class: DecisionClass,
) -> Vec<ExtensionRow<'a>> {
    let mut rows = findings.check.plan.extensions();
    rows.retain(|(_, decision)| classify_extension(findings, decision) == class);
    rows
}

/// Prints everything that blocks the load or lacks a decision, with reasons and remedies.
pub(super) fn print_blockers(
    printer: &mut Printer,
    findings: &CheckFindings<'_>,
    is_verbose: bool,
) {
    let registers = rows(findings, DecisionClass::Blocker);
    let extensions = extension_rows(findings, DecisionClass::Blocker);
    if registers.is_empty() && extensions.is_empty() && !hardware::has_blockers(findings) {
        return;
    }
    printer.line(heading("blockers:"));
    hardware::print_blockers(printer, findings);
    print_decisions(printer, findings, &registers, is_verbose);
    for (vcpus, decision) in &extensions {
        print_extension(printer, findings, vcpus, decision);
    }
    printer.line("");
}

/// Prints the changes of the VM that the user made, or that the guest's state needs.
pub(super) fn print_changes(printer: &mut Printer, findings: &CheckFindings<'_>, is_verbose: bool) {
    let registers = rows(findings, DecisionClass::Change);
    let extensions = extension_rows(findings, DecisionClass::Change);
    if registers.is_empty() && extensions.is_empty() {
        return;
    }
    printer.line(heading("changes of the VM:"));
    let (ignored, others): (Vec<_>, Vec<_>) = registers
        .into_iter()
        .partition(|(_, decision)| decision.action == Action::Ignore);
    print_decisions(printer, findings, &others, is_verbose);
    print_ignored(printer, findings, &ignored);
    for (vcpus, decision) in &extensions {
        print_extension(printer, findings, vcpus, decision);
    }
    printer.line("");
}

/// Prints what the built-in table tolerates: in the short form only the numbers, and the properties
/// of the hosts that are not known.
pub(super) fn print_tolerated(
    printer: &mut Printer,
    findings: &CheckFindings<'_>,
    is_verbose: bool,
) {
    let registers = rows(findings, DecisionClass::Tolerated);
    let extensions = extension_rows(findings, DecisionClass::Tolerated);
    if is_verbose && !(registers.is_empty() && extensions.is_empty()) {
        printer.line(heading("differences that the tolerance table allows:"));
        let (ignored, kept): (Vec<_>, Vec<_>) = registers
            .iter()
            .cloned()
            .partition(|(_, decision)| decision.action == Action::Ignore);
        print_ignored(printer, findings, &ignored);
        print_decisions(printer, findings, &kept, is_verbose);
        for (vcpus, decision) in &extensions {
            print_extension(printer, findings, vcpus, decision);
        }
        printer.line("");
    }
    hardware::print_kept(printer, findings, is_verbose);
    let is_ignored = |action: &Action| *action == Action::Ignore;
    let ignored = registers.iter().filter(|row| is_ignored(&row.1.action));
    let ignored = ignored.count();
    let ignored_extensions = extensions
        .iter()
        .filter(|row| row.1.action == ExtensionAction::Ignore);
    let copied = rows(findings, DecisionClass::Copied);
    let confidence = copied.iter().map(|(_, decision)| decision.confidence);
    let confidence = confidence.min().unwrap_or(Confidence::Proven);
    let counts = [
        (ignored, "ignored by the tolerance table"),
        (registers.len() - ignored, "kept at reset"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count != 0);
    let mut parts: Vec<_> = counts
        .map(|(count, action)| format!("{count} {action}"))
        .collect();
    parts.push(format!("{} copied ({confidence})", copied.len()));
    let extensions = match ignored_extensions.count() {
        0 => String::new(),
        count => format!("; extensions: {count} ignored"),
    };
    let hint = if is_verbose { "" } else { "; -v lists them" };
    let registers = parts.join(", ");
    printer.paragraph("", format_args!("registers: {registers}{extensions}{hint}"));
    hardware::print_assumed(printer, findings);
    printer.line("");
}

/// Prints the registers and extensions that are copied unchanged.
pub(super) fn print_copied(printer: &mut Printer, findings: &CheckFindings<'_>) {
    let registers = rows(findings, DecisionClass::Copied);
    let mut texts = Vec::new();
    for (vcpus, decision) in &registers {
        texts.push(name_and_value(findings, vcpus, decision));
    }
    for (vcpus, decision) in extension_rows(findings, DecisionClass::Copied) {
        let content = decision.source.as_ref();
        let content = content.map(|content| describe_content(&decision.name, content));
        texts.push((
            decision.name.clone().into_owned(),
            format!(
                " {}{}",
                content.unwrap_or_default(),
                vcpu_suffix(findings, &vcpus)
            ),
        ));
    }
    if texts.is_empty() {
        return;
    }
    printer.line("");
    printer.line(heading("copied unchanged:"));
    for line in wrap_names(printer, 2, &texts) {
        printer.line(format_args!("  {line}"));
    }
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
    rows: &[Row<'_>],
    is_verbose: bool,
) {
    struct DecisionGroup<'a> {
        rank: u8,
        reason: String,
        advice: Option<String>,
        rows: Vec<&'a Row<'a>>,
    }
    let mut groups: Vec<DecisionGroup<'_>> = Vec::new();
    for row in rows {
        let decision = row.1;
        let certainty = match decision.confidence {
            Confidence::Inferred => " (inferred)",
            Confidence::Proven | Confidence::Unknown => "",
        };
        let is_blocking = matches!(decision.action, Action::Refuse | Action::Undecided);
        let advice = || remedy::decision_advice(decision, findings.tolerances, findings.vmm());
        let group = DecisionGroup {
            rank: sort_rank(&decision.action),
            reason: format!(
                "{}{certainty}",
                decision.reason.display(findings.tolerances)
            ),
            advice: is_blocking.then(advice).flatten(),
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
        let has_one_value = |row: &&Row<'_>| row.1.destination.is_none();
        if !is_verbose && group.rows.len() > MAX_LINES && group.rows.iter().all(has_one_value) {
            let word = action_word(&group.rows[0].1.action);
            let rows = group.rows.iter();
            let texts = rows.map(|(vcpus, decision)| name_and_value(findings, vcpus, decision));
            print_list(printer, &word, &texts.collect::<Vec<_>>());
        } else {
            for (vcpus, decision) in group.rows {
                print_decision(printer, findings, vcpus, decision, is_verbose);
            }
        }
        print_reason(printer, &group.reason);
        if let Some(advice) = group.advice {
            print_fix(printer, &advice);
        }
    }
}

/// Prints the line of a decision, and the fields that block the load.
fn print_decision(
    printer: &mut Printer,
    findings: &CheckFindings<'_>,
    vcpus: &VcpuSet,
    decision: &Decision,
    is_verbose: bool,
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
        (Action::Set(to), Some(from), _) if decision.source.as_ref() != Some(to) => {
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
    let id_suffix = if is_verbose {
        format!(
            "  {}",
            styled(style::DIM, format_args!("[{}]", id_digits(id)))
        )
    } else {
        String::new()
    };
    let name = styled(style::NAME, findings.value_format.name(id));
    printer.paragraph(
        &format!("  {}  ", action_word(&decision.action)),
        format_args!(
            "{name}  {values}{}{id_suffix}",
            vcpu_suffix(findings, vcpus)
        ),
    );
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
        printer.paragraph(&format!("{REASON_INDENT}  "), fields.join(", "));
    }
}

/// Returns the name of a register, and its value in the VM.
fn name_and_value(
    findings: &CheckFindings<'_>,
    vcpus: &VcpuSet,
    decision: &Decision,
) -> (String, String) {
    let id = decision.register;
    let value = decision.source.as_ref();
    let value = value.map(|value| findings.value_format.describe(id, value));
    (
        findings.value_format.name(id),
        format!(
            " {}{}",
            value.unwrap_or_default(),
            vcpu_suffix(findings, vcpus)
        ),
    )
}

/// Prints ignored registers, grouped by reason.
fn print_ignored(printer: &mut Printer, findings: &CheckFindings<'_>, rows: &[Row<'_>]) {
    let mut reasons: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for (vcpus, decision) in rows {
        let text = name_and_value(findings, vcpus, decision);
        let reason = decision.reason.display(findings.tolerances).to_string();
        match reasons.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, texts)) => texts.push(text),
            None => reasons.push((reason, vec![text])),
        }
    }
    for (reason, texts) in reasons {
        print_list(printer, &styled(style::GOOD, "ignored"), &texts);
        print_reason(printer, &reason);
    }
}

/// Prints registers with their values as a list after the word for the action.
fn print_list(printer: &mut Printer, word: &str, texts: &[(String, String)]) {
    let mut begin = format!("  {word}  ");
    for line in wrap_names(printer, REASON_INDENT.len(), texts) {
        printer.line(format_args!("{begin}{line}"));
        REASON_INDENT.clone_into(&mut begin);
    }
}

fn describe_content(name: &str, content: &Content) -> String {
    match content {
        Content::Number(u64::MAX) if name == Extension::WFXT_TIMER => "idle".to_owned(),
        Content::Number(number) => format!("{number:#x}"),
        Content::Bytes(bytes) => format!("{} bytes", bytes.len()),
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
    let content = |content: &Content| describe_content(&decision.name, content);
    let values = match (&decision.source, &decision.action) {
        (Some(from), ExtensionAction::Set(to)) => format!("{} -> {}", content(from), content(to)),
        (None, ExtensionAction::Set(to)) => format!("-> {}", content(to)),
        (Some(from), _) => content(from),
        (None, _) => String::new(),
    };
    let name = styled(style::NAME, &decision.name);
    printer.paragraph(
        &format!("  {word}  "),
        format_args!("{name}  {values}{}", vcpu_suffix(findings, vcpus)),
    );
    print_reason(
        printer,
        &decision.reason.display(findings.tolerances).to_string(),
    );
    if matches!(
        decision.action,
        ExtensionAction::Refuse | ExtensionAction::Undecided
    ) && let Some(advice) = extension_remedy(decision)
    {
        print_fix(printer, &advice);
    }
}
