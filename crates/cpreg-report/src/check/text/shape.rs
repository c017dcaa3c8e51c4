//! Lines about differences of the machine shapes.

use cpreg::shape::ShapeDifference;

use super::layout::{print_fix, print_reason};
use crate::check::CheckFindings;
use crate::check::blockers::MACHINE_ADVICE;
use crate::printer::{Printer, heading, style, styled};
use crate::remedy;

/// Prints the differences of the machine shapes.
pub(crate) fn print(printer: &mut Printer, findings: &CheckFindings<'_>) {
    if findings.shape.is_empty() {
        return;
    }
    printer.line(heading("differences of the machine:"));
    let none = || "none".to_owned();
    for difference in &findings.shape {
        let word = if difference.blocks {
            styled(style::ERROR, "refused")
        } else {
            styled(style::DIM, "differs")
        };
        printer.paragraph(
            &format!("  {word}  "),
            format_args!(
                "{}: {} -> {}",
                difference.part,
                difference.source.clone().unwrap_or_else(none),
                difference.destination.clone().unwrap_or_else(none)
            ),
        );
        if let Some(reason) = &difference.reason {
            print_reason(printer, reason);
        }
        if let Some(remedy) = &difference.remedy {
            print_fix(printer, &remedy::command(remedy));
        }
    }
    let needs_machine =
        |difference: &ShapeDifference| difference.blocks && difference.remedy.is_none();
    if findings.shape.iter().any(needs_machine) {
        print_fix(printer, MACHINE_ADVICE);
    }
    printer.line("");
}
