//! Visible changes, and adjustments that need the user's consent.

use cpreg::plan::{Adjustment, PlanOutcome, Verdict, VisibleChange};
use cpreg::register::Value;
use cpreg::severity::Severity;

use super::layout::{vcpu_suffix, wrap_names};
use crate::check::CheckFindings;
use crate::printer::{Printer, heading, style, styled};
use crate::remedy;
use crate::value::field_changes;

/// Columns of a severity and the spaces around it.
const INDENT: usize = 10;

pub(super) fn print(printer: &mut Printer, findings: &CheckFindings<'_>) {
    let changes = &findings.check.plan.visible_changes;
    if changes.is_empty() {
        if matches!(findings.verdict(), Verdict::Loads | Verdict::Converts) {
            printer.line(format_args!(
                "{} nothing known",
                heading("the guest could notice:")
            ));
            printer.line("");
        }
        return;
    }
    printer.line(heading("the guest could notice:"));
    // Registers with the same description share one entry.
    let mut groups: Vec<Vec<&VisibleChange>> = Vec::new();
    for change in changes {
        let has_same_text = |other: &&mut Vec<&VisibleChange>| {
            let other = other[0];
            !change.description.is_empty()
                && change.field.is_none()
                && other.field.is_none()
                && (
                    &other.description,
                    &other.remedy,
                    other.severity,
                    &other.vcpus,
                ) == (
                    &change.description,
                    &change.remedy,
                    change.severity,
                    &change.vcpus,
                )
        };
        match groups.iter_mut().find(has_same_text) {
            Some(group) => group.push(change),
            None => groups.push(vec![change]),
        }
    }
    for group in &groups {
        print_visible(printer, findings, group);
    }
    printer.line("");
}

fn severity_word(severity: Severity) -> String {
    let colour = match severity {
        Severity::Low => style::DIM,
        Severity::Medium => style::WARNING,
        Severity::High | Severity::Fatal => style::ERROR,
    };
    styled(colour, format_args!("{:<6}", severity.name()))
}

/// Prints one line for a group. If many registers share a description, prints several lines of
/// registers and then the description.
fn print_visible(printer: &mut Printer, findings: &CheckFindings<'_>, group: &[&VisibleChange]) {
    let Some(change) = group.first() else {
        return;
    };
    let texts: Vec<_> = group
        .iter()
        .map(|change| visible_change(findings, change))
        .collect();
    let mut lines = wrap_names(printer, INDENT, &texts);
    let suffix = format!("{}{}", vcpu_suffix(findings, &change.vcpus), {
        let description = remedy::describe_change(change, findings.vmm());
        if description.is_empty() {
            String::new()
        } else {
            format!(": {description}")
        }
    });
    match &mut lines[..] {
        [line] => line.push_str(&suffix),
        _ => lines.push(suffix.trim_start_matches(": ").trim_start().to_owned()),
    }
    let mut begin = format!("  {}  ", severity_word(change.severity));
    for line in lines {
        printer.paragraph(&begin, line);
        begin = " ".repeat(INDENT);
    }
}

/// Returns the name of the register or extension, and the change of its value.
fn visible_change(findings: &CheckFindings<'_>, change: &VisibleChange) -> (String, String) {
    let mut name = change
        .register
        .map(|id| findings.value_format.name(id))
        .unwrap_or_default();
    if let Some(field) = &change.field {
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(field);
    }
    let secret = change
        .register
        .is_some_and(cpreg::register::RegisterId::is_secret);
    let show = |value: u64| {
        let meaning = change
            .register
            .filter(|_| change.field.is_none())
            .and_then(|id| id.value_name(value));
        if secret && !findings.value_format.show_secrets {
            "(secret)".to_owned()
        } else {
            meaning.map_or_else(|| format!("{value:#x}"), str::to_owned)
        }
    };
    match (change.from, change.to) {
        (None, None) => (name, String::new()),
        (Some(from), None) => (name, format!(" {}", show(from))),
        (None, Some(to)) => (name, format!(" -> {}", show(to))),
        (Some(from), Some(to)) => (name, format!("  {} -> {}", show(from), show(to))),
    }
}

pub(super) fn print_adjustments(printer: &mut Printer, findings: &CheckFindings<'_>) {
    let plan = &findings.check.plan;
    if plan.proposed_adjustments.is_empty() {
        return;
    }
    printer.line(heading(
        "adjustments that would unblock the load, with your consent:",
    ));
    for adjustment in &plan.proposed_adjustments {
        let begin = format!("  {}  ", severity_word(adjustment.severity));
        printer.paragraph(&begin, adjustment_line(findings, adjustment));
    }
    let result = match plan.outcome_with_proposed {
        PlanOutcome::Ready if findings.is_blocked_by_shape() => {
            "the differences of the machine still block the load"
        }
        PlanOutcome::Ready if findings.is_loaded_by_plan() => "the VM then loads",
        PlanOutcome::Ready => "the VM then converts",
        PlanOutcome::Refused => "other differences still block the load",
        PlanOutcome::Unknown => "the verdict is then unknown",
    };
    printer.paragraph(
        &format!("  {}: ", styled(style::HINT, "fix")),
        format_args!(
            "{} makes all of these changes ({result}), `--accept REG` makes one",
            findings.proposed_consents()
        ),
    );
    printer.line("");
}

fn adjustment_line(findings: &CheckFindings<'_>, adjustment: &Adjustment) -> String {
    let id = adjustment.register;
    let fields = field_changes(id, adjustment.from, adjustment.to);
    let describe = |value: u64| findings.value_format.describe(id, &Value::U64(value));
    let fields = if fields.is_empty() || id.value_name(adjustment.to).is_some() {
        String::new()
    } else {
        format!("  {}", fields.join(", "))
    };
    format!(
        "{}  {} -> {}{}{fields}",
        styled(style::NAME, findings.value_format.name(id)),
        describe(adjustment.from),
        describe(adjustment.to),
        vcpu_suffix(findings, &adjustment.vcpus),
    )
}
