//! Text of `check`: one line per decision that matters, its reason and its remedy.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the verdict, the machine shape, the next steps |
//! | `layout` | parts of lines that the sections share |
//! | `hardware` | properties of the hosts that no register list holds |
//! | `decisions` | decisions about registers and extensions |
//! | `visible_changes` | visible changes, and adjustments that need consent |
//! | `loaders` | predictions for each loader without cpreg |

mod decisions;
mod hardware;
mod layout;
mod loaders;
mod visible_changes;

use cpreg::plan::Verdict;
use cpreg::shape::ShapeDifference;

use super::{CheckFindings, SCOPE};
use crate::printer::{Printer, style, styled};
use crate::remedy;
pub(crate) use layout::vcpu_suffix;

/// Prints the whole report. `all` includes registers that are copied unchanged.
pub fn print(printer: &mut Printer, findings: &CheckFindings<'_>, all: bool) {
    print_head(printer, findings);
    print_plan(printer, findings, all);
    if let Some(dry_run) = &findings.dry_run {
        dry_run.print(printer);
    }
    if findings.decisive_alternatives().is_none() {
        loaders::print(printer, findings);
    }
    printer.line(format_args!("{}: {SCOPE}", styled(style::DIM, "scope")));
}

/// Prints the decisions and their reasons, without the verdict and the loaders.
///
/// A plan that holds for only one of two possible guests is left out.
pub fn print_plan(printer: &mut Printer, findings: &CheckFindings<'_>, all: bool) {
    if findings.decisive_alternatives().is_some() {
        print_next_steps(printer, findings);
        return;
    }
    print_shape(printer, findings);
    if findings.is_incomparable() {
        return;
    }
    hardware::print(printer, findings, all);
    decisions::print(printer, findings, all);
    print_next_steps(printer, findings);
    visible_changes::print(printer, findings);
    visible_changes::print_adjustments(printer, findings);
    super::operator_entries::print(printer, findings);
}

/// Returns the verdict in its colour.
pub fn verdict_word(verdict: Verdict) -> String {
    let colour = match verdict {
        Verdict::Loads | Verdict::Converts => style::GOOD,
        Verdict::Refused => style::ERROR,
        Verdict::Unknown => style::WARNING,
    };
    styled(colour, verdict.name())
}

fn print_head(printer: &mut Printer, findings: &CheckFindings<'_>) {
    let verdict = findings.verdict();
    printer.line(format_args!(
        "{}: {}",
        verdict_word(verdict),
        findings.meaning()
    ));
    printer.line(format_args!("  from {}", findings.source.summary()));
    let name = match findings.decisive_alternatives() {
        Some(alternatives) => alternatives.describe_destinations(),
        None => findings.destination.name.clone(),
    };
    printer.line(format_args!("  to   {name} ({})", findings.provenance));
    for note in findings.notes() {
        printer.line(format_args!("  note: {note}"));
    }
    printer.line("");
}

/// Prints the differences of the machine shapes.
pub fn print_shape(printer: &mut Printer, findings: &CheckFindings<'_>) {
    let none = || "none".to_owned();
    for difference in &findings.shape {
        let word = if difference.blocks {
            styled(style::ERROR, "refused")
        } else {
            styled(style::DIM, "differs")
        };
        printer.line(format_args!(
            "  {word}  {}: {} -> {}",
            difference.part,
            difference.source.clone().unwrap_or_else(none),
            difference.destination.clone().unwrap_or_else(none)
        ));
        if let Some(reason) = &difference.reason {
            printer.line(format_args!("           {reason}"));
        }
        if let Some(remedy) = &difference.remedy {
            printer.line(format_args!(
                "           {}: {}",
                styled(style::HINT, "fix"),
                remedy::command(remedy)
            ));
        }
    }
    let needs_machine =
        |difference: &ShapeDifference| difference.blocks && difference.remedy.is_none();
    if findings.shape.iter().any(needs_machine) {
        printer.line(format_args!(
            "           {}: start the destination with the machine type, vCPUs, RAM and devices \
             of the source",
            styled(style::HINT, "fix")
        ));
    }
    if !findings.shape.is_empty() {
        printer.line("");
    }
}

/// Prints the steps that give the missing information.
fn print_next_steps(printer: &mut Printer, findings: &CheckFindings<'_>) {
    let steps = findings.next_steps();
    if steps.is_empty() {
        return;
    }
    printer.line("next steps:");
    let mut label = "fix";
    for step in steps {
        printer.line(format_args!("  {}: {step}", styled(style::HINT, label)));
        label = "alternatively";
    }
    printer.line("");
}
