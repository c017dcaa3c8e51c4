//! Text about possible destinations: what differs between them.

use std::collections::BTreeMap;

use cpreg::plan::{DecidedPart, PlanDifference};

use super::layout::wrap_names;
use crate::check::{Alternatives, CheckFindings};
use crate::printer::Printer;

/// Prints the parts on which the plans differ, grouped by the decisions of the plans.
pub(super) fn print_differences(
    printer: &mut Printer,
    findings: &CheckFindings<'_>,
    alternatives: &Alternatives,
) {
    type Key<'a> = (bool, bool, &'a [Option<&'static str>]);
    let mut groups: BTreeMap<Key<'_>, Vec<&PlanDifference>> = BTreeMap::new();
    for difference in &alternatives.differences {
        let actions = difference.actions.as_slice();
        // Blockers come first.
        let lacks = |action| !actions.contains(&Some(action));
        let key = (lacks("refuse"), lacks("unknown"), actions);
        groups.entry(key).or_default().push(difference);
    }
    if groups.is_empty() {
        return;
    }
    printer.line("what differs:");
    for ((_, _, actions), differences) in groups {
        let actions = actions.iter().map(|action| action.unwrap_or("no decision"));
        let places = alternatives
            .at_places(&actions.collect::<Vec<_>>())
            .into_iter();
        let decisions = places.map(|(place, action)| format!("{action} at {place}"));
        let decisions: Vec<_> = decisions.collect();
        printer.paragraph("  ", format_args!("{}:", decisions.join(", ")));
        let names = differences
            .iter()
            .map(|difference| describe(findings, difference));
        for line in wrap_names(printer, 4, &names.collect::<Vec<_>>()) {
            printer.line(format_args!("    {line}"));
        }
    }
    printer.line("");
}

/// Returns the name of a part, and its fields: `ID_AA64DFR0_EL1`, ` (DebugVer)`. If all plans have
/// the same action, returns the different values of the destinations instead of the fields.
fn describe(findings: &CheckFindings<'_>, difference: &PlanDifference) -> (String, String) {
    let value_format = findings.value_format;
    let name = value_format.part(&difference.part);
    let fields: Vec<_> = difference.fields.iter().map(ToString::to_string).collect();
    let DecidedPart::Register(id) = &difference.part else {
        return (name, String::new());
    };
    if !fields.is_empty() {
        return (name, format!(" ({})", fields.join(", ")));
    }
    let first = difference.actions.first();
    if difference
        .actions
        .iter()
        .any(|action| Some(action) != first)
    {
        return (name, String::new());
    }
    let values = difference.values.iter().map(|value| match value {
        Some(value) => value_format
            .value(*id, value)
            .unwrap_or_else(|| "hidden".to_owned()),
        None => "not known".to_owned(),
    });
    let values: Vec<_> = values.collect();
    (name, format!(" ({})", values.join(", ")))
}

/// Prints the heading of the plan at the only recorded host next to the destination's kernel.
/// Returns `false` if there is no such host.
pub(super) fn print_only_neighbour(printer: &mut Printer, alternatives: &Alternatives) -> bool {
    let Some(check) = alternatives.only_neighbour() else {
        return false;
    };
    printer.paragraph(
        "",
        format_args!(
            "known of the nearest recorded host, {}: {}",
            check.destination.argument,
            check.verdict.name()
        ),
    );
    true
}
