//! The table of tolerances, for people and as JSON. For other programs: [`crate::export`].
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the table for people |
//! | [`text`] | the parts of an entry in words |
//! | [`model`] | its model, schema `cpreg.tolerances/2` |
//! | `json` | entries as their model |

pub(crate) mod json;
pub mod model;
pub mod text;

use cpreg::register::RegisterId;
use cpreg::tolerance::{Tolerance, Tolerances};

use crate::printer::{Printer, style, styled};
use crate::remedy;
use text::{condition, difference, handling, kind_label, register_names};

/// Returns the entries about these registers with their numbers in the table; all entries, if no
/// register is named.
pub fn entries<'a>(
    tolerances: &'a Tolerances,
    wanted: &[RegisterId],
) -> Vec<(usize, &'a Tolerance)> {
    let is_wanted = |entry: &Tolerance| {
        wanted.is_empty() || wanted.iter().any(|id| entry.registers.contains(*id))
    };
    let entries = tolerances.entries().iter().enumerate();
    entries.filter(|(_, entry)| is_wanted(entry)).collect()
}

/// Prints these entries.
pub fn print(printer: &mut Printer, entries: &[(usize, &Tolerance)]) {
    for (_, entry) in entries {
        let names = register_names(&entry.registers).join(", ");
        let name = styled(style::NAME, names);
        let heading = format!("{name}  ({})", kind_label(entry));
        print_entry(printer, entry, &heading, remedy::DESTINATION_PLACEHOLDER);
        printer.line("");
    }
    if entries.is_empty() {
        printer.line("no entry: a register only in the input refuses; one only at the destination stays at reset");
    }
}

/// An entry under its heading, with this word for the destination's value.
pub fn print_entry(printer: &mut Printer, entry: &Tolerance, heading: &str, host: &str) {
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
            "  otherwise: {}",
            remedy::advice(remedy, host)
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
