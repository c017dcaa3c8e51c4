//! The text of `check`: names first, ids behind, one line per decision that matters, why, what to do.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the verdict, the outline, which command finds out |
//! | [`layout`] | lines of names, and of vCPUs, which the parts share |
//! | [`decisions`] | what is done about each register and extension |
//! | [`visible`] | what the guest could notice, and changes that only the user can take |
//! | [`loaders`] | what each loader would do on its own |

mod decisions;
mod layout;
mod loaders;
mod visible;

use cpreg::plan::Verdict;

use super::{Answer, SCOPE};
use crate::printer::{Printer, style, styled};
pub(crate) use layout::on_vcpus;

/// Prints the whole report. `all`: also what is simply copied.
pub fn print(printer: &mut Printer, answer: &Answer<'_>, all: bool) {
    head(printer, answer);
    print_plan(printer, answer, all);
    if let Some(attempt) = &answer.attempt {
        attempt.print(printer);
    }
    loaders::print(printer, answer);
    printer.line(format_args!("{}: {SCOPE}", styled(style::ASIDE, "scope")));
}

/// Prints what is decided and why, without the verdict and what loaders would do.
pub fn print_plan(printer: &mut Printer, answer: &Answer<'_>, all: bool) {
    shape(printer, answer);
    decisions::print(printer, answer, all);
    to_find_out(printer, answer);
    visible::print(printer, answer);
    visible::adjustments(printer, answer);
}

/// The word for a verdict, in its colour.
pub fn verdict_word(verdict: Verdict) -> String {
    let colour = match verdict {
        Verdict::Loads | Verdict::Converts => style::GOOD,
        Verdict::Refused => style::BAD,
        Verdict::Unknown => style::DOUBT,
    };
    styled(colour, verdict.name())
}

fn head(printer: &mut Printer, answer: &Answer<'_>) {
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
        destination.name, answer.evidence
    ));
    printer.line("");
}

/// Prints how the outlines of the two VMs differ.
pub fn shape(printer: &mut Printer, answer: &Answer<'_>) {
    let none = || "none".to_owned();
    for difference in &answer.shape {
        let word = if difference.refuses {
            styled(style::BAD, "refused")
        } else {
            styled(style::ASIDE, "differs")
        };
        printer.line(format_args!(
            "  {word}  {}: {} -> {}",
            difference.what,
            difference.source.clone().unwrap_or_else(none),
            difference.destination.clone().unwrap_or_else(none)
        ));
    }
    if answer.shape.iter().any(|difference| difference.refuses) {
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
fn to_find_out(printer: &mut Printer, answer: &Answer<'_>) {
    let ways = answer.ways_to_find_out();
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
