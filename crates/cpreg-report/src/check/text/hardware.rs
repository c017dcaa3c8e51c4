//! Lines about properties of the hosts that no register list holds.

use cpreg::plan::{HardwareAction, HardwareDecision, HardwareReason};

use super::layout::{print_fix, print_reason};

use crate::check::CheckFindings;
use crate::check::hardware::{advice, describe_value, names};
use crate::printer::{Printer, heading, style, styled};

/// Returns `true` if a property blocks the load, or lacks a decision.
pub(super) fn has_blockers(findings: &CheckFindings<'_>) -> bool {
    let mut decisions = findings.check.plan.hardware.iter();
    decisions.any(|decision| {
        matches!(
            decision.action,
            HardwareAction::Refuse | HardwareAction::Undecided
        )
    })
}

/// Prints the properties that block the load, or lack a decision.
pub(super) fn print_blockers(printer: &mut Printer, findings: &CheckFindings<'_>) {
    for action in [HardwareAction::Refuse, HardwareAction::Undecided] {
        print_group(printer, action, &findings.hardware_with(action));
    }
}

/// Prints the properties that the guest keeps although the hosts differ. `is_verbose` includes
/// those that both hosts have.
pub(super) fn print_kept(printer: &mut Printer, findings: &CheckFindings<'_>, is_verbose: bool) {
    let mut kept = findings.hardware_with(HardwareAction::Keep);
    kept.retain(|decision| is_verbose || decision.reason == HardwareReason::VectorsUnused);
    if !kept.is_empty() {
        printer.line(heading("properties of the hosts:"));
        print_group(printer, HardwareAction::Keep, &kept);
        printer.line("");
    }
}

fn action_word(action: HardwareAction) -> String {
    match action {
        HardwareAction::Refuse => styled(style::ERROR, "refused"),
        HardwareAction::Undecided => styled(style::WARNING, "unknown"),
        _ => "kept   ".to_owned(),
    }
}

/// Prints properties, then the reason and the advice that they share.
fn print_group(printer: &mut Printer, action: HardwareAction, group: &[&HardwareDecision]) {
    for (index, decision) in group.iter().enumerate() {
        let value = |value| describe_value(decision.fact, value);
        let (source, destination) = (value(decision.source), value(decision.destination));
        let values = if decision.source == decision.destination {
            source
        } else {
            format!("{source}, destination: {destination}")
        };
        let name = styled(style::NAME, decision.fact.name());
        printer.paragraph(
            &format!("  {}  ", action_word(action)),
            format_args!("{name}  {values}"),
        );
        let text = (decision.to_string(), advice(decision));
        let next = group.get(index + 1);
        if next.is_some_and(|next| (next.to_string(), advice(next)) == text) {
            continue;
        }
        print_reason(printer, &text.0);
        if let Some(advice) = text.1 {
            print_fix(printer, &advice);
        }
    }
}

/// Prints one line about the properties that are assumed to be equal: one side's value is not
/// known, and the hosts have the same CPU.
///
/// If properties of both sides are unknown, the line is about the source, which `--from` names.
pub(super) fn print_assumed(printer: &mut Printer, findings: &CheckFindings<'_>) {
    let assumed = findings.hardware_with(HardwareAction::Assume);
    let lacking = |lacks: fn(&HardwareDecision) -> bool| {
        names(assumed.iter().copied().filter(|decision| lacks(decision)))
    };
    let (source, destination) = (
        lacking(HardwareDecision::lacks_source),
        lacking(HardwareDecision::lacks_destination),
    );
    let (side, properties, command) = if source.is_empty() {
        ("destination", destination, "`cpreg probe kvm`")
    } else {
        ("source", source, "`--from HOST`")
    };
    if !properties.is_empty() {
        printer.paragraph(
            "",
            format_args!("assumed equal, as not known of the {side}: {properties} ({command})"),
        );
    }
}
