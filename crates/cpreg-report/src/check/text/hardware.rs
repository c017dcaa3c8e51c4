//! Lines about properties of the hosts that no register list holds.

use cpreg::plan::{HardwareAction, HardwareDecision};

use crate::check::CheckFindings;
use crate::check::hardware::{advice, describe_value, names};
use crate::printer::{Printer, style, styled};

/// Prints the properties that block the load. `all` includes those that both hosts have.
pub(super) fn print(printer: &mut Printer, findings: &CheckFindings<'_>, all: bool) {
    let decisions = &findings.check.plan.hardware;
    let shown = |action| {
        decisions
            .iter()
            .filter(move |decision| decision.action == action)
    };
    for action in [HardwareAction::Refuse, HardwareAction::Undecided] {
        print_group(printer, action, &shown(action).collect::<Vec<_>>());
    }
    let unused = shown(HardwareAction::Keep)
        .filter(|decision| all || decision.reason == cpreg::plan::HardwareReason::VectorsUnused);
    print_group(printer, HardwareAction::Keep, &unused.collect::<Vec<_>>());
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
        printer.line(format_args!(
            "  {}  {}  {values}",
            action_word(action),
            styled(style::NAME, decision.fact.name())
        ));
        let text = (decision.to_string(), advice(decision));
        let next = group.get(index + 1);
        if next.is_some_and(|next| (next.to_string(), advice(next)) == text) {
            continue;
        }
        printer.line(format_args!("           {}", text.0));
        if let Some(advice) = text.1 {
            printer.line(format_args!(
                "           {}: {advice}",
                styled(style::HINT, "fix")
            ));
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
        ("source", source, "--from HOST")
    };
    if !properties.is_empty() {
        printer.line(styled(
            style::DIM,
            format_args!("  not known of the {side}: {properties} ({command})"),
        ));
    }
}
