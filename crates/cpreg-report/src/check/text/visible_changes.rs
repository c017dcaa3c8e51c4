//! What the guest could notice though the load succeeds, and the changes of value that only the user can take.

use cpreg::plan::{Adjustment, PlanOutcome, VisibleChange};
use cpreg::register::Value;
use cpreg::severity::Severity;

use super::layout::{vcpu_suffix, wrap_names};
use crate::check::CheckFindings;
use crate::printer::{Printer, style, styled};
use crate::remedy;
use crate::value::field_changes;

pub(super) fn print(printer: &mut Printer, answer: &CheckFindings<'_>) {
    let changes = &answer.check.plan.visible_changes;
    if changes.is_empty() {
        return;
    }
    printer.line("what the guest could notice");
    // What is said of several registers alike stands once.
    let mut groups: Vec<Vec<&VisibleChange>> = Vec::new();
    for change in changes {
        let alike = |other: &&mut Vec<&VisibleChange>| {
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
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(change),
            None => groups.push(vec![change]),
        }
    }
    for group in &groups {
        print_visible(printer, answer, group);
    }
    printer.line("");
}

fn severity_word(severity: Severity) -> String {
    let colour = match severity {
        Severity::Low => style::DIM,
        Severity::Medium => style::WARNING,
        Severity::High => style::ERROR,
    };
    styled(colour, format_args!("{:<6}", severity.name()))
}

/// One line, or, where many registers share what is said, several with that below.
fn print_visible(printer: &mut Printer, answer: &CheckFindings<'_>, group: &[&VisibleChange]) {
    let Some(change) = group.first() else {
        return;
    };
    let texts: Vec<_> = group
        .iter()
        .map(|change| visible_change(answer, change))
        .collect();
    let mut lines = wrap_names(&texts);
    let said = format!("{}{}", vcpu_suffix(answer, &change.vcpus), {
        let what = remedy::describe_change(change);
        if what.is_empty() {
            String::new()
        } else {
            format!(": {what}")
        }
    });
    match &mut lines[..] {
        [line] => line.push_str(&said),
        _ => lines.push(said.trim_start_matches(": ").trim_start().to_owned()),
    }
    let mut begin = format!("  {}  ", severity_word(change.severity));
    for line in lines {
        printer.line(format_args!("{begin}{line}"));
        begin = " ".repeat(10);
    }
}

/// The name, and what becomes of its value.
fn visible_change(answer: &CheckFindings<'_>, change: &VisibleChange) -> (String, String) {
    let mut name = change
        .register
        .map(|id| answer.value_format.name(id))
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
        if secret && !answer.value_format.show_secrets {
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

pub(super) fn print_adjustments(printer: &mut Printer, answer: &CheckFindings<'_>) {
    let plan = &answer.check.plan;
    if plan.proposed_adjustments.is_empty() {
        return;
    }
    printer.line(
        "changes of value that would take away what stands in the way; only you can take them",
    );
    for adjustment in &plan.proposed_adjustments {
        printer.line(format_args!("  {}", adjustment_line(answer, adjustment)));
    }
    let then = match plan.outcome_with_proposed {
        PlanOutcome::Ready if answer.is_blocked_by_shape() => {
            "with all of them only what is refused above the registers stands in the way"
        }
        PlanOutcome::Ready if answer.is_loaded_by_plan() => "with all of them the VM loads",
        PlanOutcome::Ready => "with all of them the VM converts",
        PlanOutcome::Refused => "even with all of them something stands in the way",
        PlanOutcome::Unknown => "even with all of them something is not known",
    };
    let most = plan
        .proposed_adjustments
        .iter()
        .map(|adjustment| adjustment.severity)
        .max();
    printer.line(format_args!(
        "  {}: {then}; --accept REG takes one, --accept {} all",
        styled(style::HINT, "do"),
        most.map_or("low", Severity::name)
    ));
    printer.line("");
}

fn adjustment_line(answer: &CheckFindings<'_>, adjustment: &Adjustment) -> String {
    let id = adjustment.register;
    let fields = field_changes(id, adjustment.from, adjustment.to);
    let describe = |value: u64| answer.value_format.describe(id, &Value::U64(value));
    let fields = if fields.is_empty() || id.value_name(adjustment.to).is_some() {
        String::new()
    } else {
        format!("  {}", fields.join(", "))
    };
    format!(
        "{}  {}  {} -> {}{}{fields}",
        severity_word(adjustment.severity),
        styled(style::NAME, answer.value_format.name(id)),
        describe(adjustment.from),
        describe(adjustment.to),
        vcpu_suffix(answer, &adjustment.vcpus),
    )
}
