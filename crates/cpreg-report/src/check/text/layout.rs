//! Parts of lines that the sections of the report share.

use cpreg::plan::VcpuSet;
use textwrap::core::display_width;

use crate::check::CheckFindings;
use crate::printer::{Printer, style, styled};
use crate::text::wrap::{Item, list};

/// Indentation of a reason or remedy: the columns of an action and its spaces.
pub(super) const REASON_INDENT: &str = "           ";

/// Returns ` (vCPU 0-3)`, or nothing for all vCPUs.
pub(crate) fn vcpu_suffix(findings: &CheckFindings<'_>, vcpus: &VcpuSet) -> String {
    let all = Some(vcpus.iter().count()) == findings.source.vcpus;
    if all {
        String::new()
    } else {
        format!(" (vCPU {vcpus})")
    }
}

/// Returns lines of names, each followed by its text, with commas between them. The lines have
/// space for `indent` columns in front of them.
pub(super) fn wrap_names(
    printer: &Printer,
    indent: usize,
    texts: &[(String, String)],
) -> Vec<String> {
    let items = texts.iter().map(|(name, text)| Item {
        text: format!("{}{text}", styled(style::NAME, name)),
        width: display_width(name) + display_width(text),
    });
    // The last column is for the comma at the end of a line.
    let width = printer.width().saturating_sub(indent + 1);
    list(&items.collect::<Vec<_>>(), width)
}

/// Prints the reason of the lines above it.
pub(super) fn print_reason(printer: &mut Printer, reason: &str) {
    if !reason.is_empty() {
        printer.paragraph(REASON_INDENT, reason);
    }
}

/// Prints the remedy for the lines above it.
pub(super) fn print_fix(printer: &mut Printer, advice: &str) {
    let begin = format!("{REASON_INDENT}{}: ", styled(style::HINT, "fix"));
    printer.paragraph(&begin, advice);
}
