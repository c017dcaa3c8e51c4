//! The text of `check`: names first, ids behind, one line per decision that matters, why, what to do.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the verdict, the outline, which command finds out |
//! | [`layout`] | lines of names, and of vCPUs, which the parts share |
//! | [`decisions`] | what is done about each register and extension |
//! | [`visible_changes`] | what the guest could notice, and changes that only the user can take |
//! | [`loaders`] | what each loader would do on its own |

mod decisions;
mod layout;
mod loaders;
mod visible_changes;

use cpreg::plan::Verdict;

use super::{CheckFindings, SCOPE};
use crate::printer::{Printer, style, styled};
pub(crate) use layout::vcpu_suffix;

/// Prints the whole report. `all`: also what is simply copied.
pub fn print(printer: &mut Printer, answer: &CheckFindings<'_>, all: bool) {
    head(printer, answer);
    print_plan(printer, answer, all);
    if let Some(attempt) = &answer.dry_run {
        attempt.print(printer);
    }
    loaders::print(printer, answer);
    printer.line(format_args!("{}: {SCOPE}", styled(style::DIM, "scope")));
}

/// Prints what is decided and why, without the verdict and what loaders would do.
pub fn print_plan(printer: &mut Printer, answer: &CheckFindings<'_>, all: bool) {
    print_shape(printer, answer);
    decisions::print(printer, answer, all);
    to_find_out(printer, answer);
    visible_changes::print(printer, answer);
    visible_changes::print_adjustments(printer, answer);
}

/// The word for a verdict, in its colour.
pub fn verdict_word(verdict: Verdict) -> String {
    let colour = match verdict {
        Verdict::Loads | Verdict::Converts => style::GOOD,
        Verdict::Refused => style::ERROR,
        Verdict::Unknown => style::WARNING,
    };
    styled(colour, verdict.name())
}

fn head(printer: &mut Printer, answer: &CheckFindings<'_>) {
    let verdict = answer.verdict();
    printer.line(format_args!(
        "{}: {}",
        verdict_word(verdict),
        answer.meaning()
    ));
    printer.line(format_args!("  from {}", answer.source.summary()));
    let destination = answer.destination;
    printer.line(format_args!(
        "  to   {} ({})",
        destination.name, answer.provenance
    ));
    printer.line("");
}

/// Prints how the outlines of the two VMs differ.
pub fn print_shape(printer: &mut Printer, answer: &CheckFindings<'_>) {
    let none = || "none".to_owned();
    for difference in &answer.shape {
        let word = if difference.blocks {
            styled(style::ERROR, "refused")
        } else {
            styled(style::DIM, "differs")
        };
        printer.line(format_args!(
            "  {word}  {}: {} -> {}",
            difference.subject,
            difference.source.clone().unwrap_or_else(none),
            difference.destination.clone().unwrap_or_else(none)
        ));
    }
    if answer.shape.iter().any(|difference| difference.blocks) {
        printer.line(format_args!(
            "           {}: start the destination with the machine type, vCPUs, RAM and devices \
             of the source",
            styled(style::HINT, "do")
        ));
    }
    if !answer.shape.is_empty() {
        printer.line("");
    }
}

/// Which command finds out what is not known.
fn to_find_out(printer: &mut Printer, answer: &CheckFindings<'_>) {
    let ways = answer.next_steps();
    if ways.is_empty() {
        return;
    }
    printer.line("to find out");
    let mut word = "do";
    for way in ways {
        printer.line(format_args!("  {}: {way}", styled(style::HINT, word)));
        word = "or";
    }
    printer.line("");
}
