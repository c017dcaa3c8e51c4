//! Report of `tolerances`: the table as text and JSON. [`crate::export`] writes other formats.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | text of the table |
//! | [`text`] | parts of an entry in words |
//! | [`model`] | model of the table, schema `cpreg.tolerances/2` |
//! | `json` | conversion of entries to the model |

pub(crate) mod json;
pub mod model;
pub mod text;

use cpreg::register::RegisterId;
use cpreg::tolerance::{Tolerance, Tolerances};

use crate::printer::{Printer, style, styled};
use crate::remedy::{self, AdviceContext};
use text::{condition, difference, handling, kind_label, register_names};

/// Returns the entries of these registers with their numbers in the table, or all entries if no
/// register is given.
pub fn entries<'a>(
    tolerances: &'a Tolerances,
    selection: &[RegisterId],
) -> Vec<(usize, &'a Tolerance)> {
    let is_selected = |entry: &Tolerance| {
        selection.is_empty() || selection.iter().any(|id| entry.registers.contains(*id))
    };
    let entries = tolerances.entries().iter().enumerate();
    entries.filter(|(_, entry)| is_selected(entry)).collect()
}

/// Prints entries.
pub fn print(printer: &mut Printer, entries: &[(usize, &Tolerance)]) {
    for (_, entry) in entries {
        let names = register_names(&entry.registers).join(", ");
        let name = styled(style::NAME, names);
        let heading = format!("{name}  ({})", kind_label(entry));
        print_entry(printer, entry, &heading);
        printer.line("");
    }
    if entries.is_empty() {
        printer
            .line("no entry: source only refuses the VM; destination only keeps the reset value");
    }
}

/// Prints an entry under its heading.
pub fn print_entry(printer: &mut Printer, entry: &Tolerance, heading: &str) {
    printer.line(heading);
    printer.line(format_args!(
        "  {}: {}{}",
        difference(entry.difference),
        handling(entry.handling),
        condition(&entry.condition)
    ));
    printer.line(format_args!("  why: {}", entry.reason));
    if let Some(visible) = &entry.visible_effect {
        printer.line(format_args!(
            "  the guest could notice ({}): {}",
            visible.severity, visible.description
        ));
    }
    if let Some(remedy) = &entry.remedy {
        printer.line(format_args!(
            "  fix: {}",
            remedy::advice(remedy, AdviceContext::default())
        ));
    }
    for change in &entry.history {
        let commit = if change.commit.is_empty() {
            String::new()
        } else {
            format!(" ({})", change.commit)
        };
        printer.line(styled(
            style::DIM,
            format_args!("  {}{commit}: {}", change.release, change.description),
        ));
    }
}
