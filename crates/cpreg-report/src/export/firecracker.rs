//! Exports the tolerances as a shell script for Firecracker's `snapshot-editor`.
//!
//! `snapshot-editor edit-vmstate remove-regs ID... --vmstate-path FILE --output-path FILE`
//! (Firecracker 1.5 and later, arm64) removes registers from a snapshot. The command ignores the
//! value of a register, and does not know the destination.
//!
//! An entry becomes an active line only if the entry always ignores its registers. Entries with a
//! condition become comments that state the condition. Entries that a removal cannot express are
//! listed at the end. Entries of other accelerators are omitted, because Firecracker has only KVM.

use std::fmt::Write as _;

use cpreg::destination::Accelerator;
use cpreg::register::RegisterId;
use cpreg::severity::Severity;
use cpreg::tolerance::{Condition, Handling, RegisterDifference, Tolerance, Tolerances};

use super::Exporter;
use super::table::{EffectiveEntry, effective_entries, grounds, rule};
use crate::printer::Printer;
use crate::text::wrap::prose;
use crate::tolerance::text::register_names;
use crate::value::id_digits;

/// Maximum width of a comment line, in characters.
const LINE_WIDTH: usize = 80;

/// Paragraphs of the comment at the head of the script.
const HEADER: &[&str] = &[
    "Removes registers from a Firecracker snapshot of an arm64 VM, so that a host without them \
     restores it. Written by `cpreg tolerances --export firecracker`.",
    "Usage: sh SCRIPT VMSTATE OUTPUT",
    "Before you run it: snapshot-editor removes a register whatever its value, and also if the \
     destination has the register, which then starts with its reset value. So record the \
     destination with `cpreg probe qemu -o PROFILE`, and delete the line of each register that \
     `cpreg show PROFILE --register REG` finds. Lines that begin with `#set` have a condition: look up the value for every vCPU (`snapshot-editor info-vmstate \
     vcpu-states --vmstate-path VMSTATE`), and remove the `#` if the condition is true. \
     `cpreg tolerances REG` shows everything about a register.",
];

/// Form of an entry in the script.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineKind {
    /// A line that removes a register.
    Active,
    /// A removal that is commented out; the user deletes the `#` if the condition is true.
    Conditional,
    /// A comment only, because a removal does not express the entry.
    Omitted,
}

/// Exports a shell script that runs Firecracker's `snapshot-editor`.
#[derive(Clone, Copy, Debug)]
pub struct Firecracker;

impl Exporter for Firecracker {
    fn export(
        &self,
        tolerances: &Tolerances,
        selection: &[RegisterId],
        printer: &mut Printer,
    ) -> serde_json::Result<()> {
        for line in script(tolerances, selection).lines() {
            printer.line(line);
        }
        Ok(())
    }
}

fn script(tolerances: &Tolerances, selection: &[RegisterId]) -> String {
    let mut text = String::from("#!/bin/sh\n");
    for paragraph in HEADER {
        text.push_str("#\n");
        write_comment(&mut text, paragraph);
    }
    text.push_str(
        "\nset -eu\nvmstate=${1:?the VMSTATE to read}\noutput=${2:?the OUTPUT to write}\nset --\n",
    );
    let rows = effective_entries(tolerances, selection, Accelerator::Kvm);
    for kind in [LineKind::Active, LineKind::Conditional, LineKind::Omitted] {
        let rows: Vec<&EffectiveEntry<'_>> =
            rows.iter().filter(|row| line_kind(row) == kind).collect();
        if rows.is_empty() {
            continue;
        }
        text.push_str(match kind {
            LineKind::Active => "\n# ---- always ignored if the destination lacks them\n",
            LineKind::Conditional => {
                "\n# ---- ignored under a condition, or with consequences for the guest: check \
                 first\n"
            }
            LineKind::Omitted => "\n# ---- omitted: cpreg does not remove the register\n",
        });
        for row in rows {
            text.push('\n');
            write_entry(&mut text, row, kind);
        }
    }
    text.push_str(
        "\nif [ $# -eq 0 ]; then\n    echo \"no register to remove\" >&2\n    exit 1\nfi\n\
         snapshot-editor edit-vmstate remove-regs \"$@\" \\\n    --vmstate-path \"$vmstate\" \
         --output-path \"$output\"\n",
    );
    text
}

fn line_kind(row: &EffectiveEntry<'_>) -> LineKind {
    let entry = row.entry;
    if (entry.difference, entry.handling) != (RegisterDifference::SourceOnly, Handling::Ignore) {
        return LineKind::Omitted;
    }
    match entry.condition {
        // Earlier entries decide all registers of this entry.
        _ if row.registers.is_empty() && !row.shadowed_registers.is_empty() => LineKind::Omitted,
        // The entry selects a class of registers without ids. Print its condition only; the user
        // chooses the ids.
        _ if row.registers.is_empty() => LineKind::Conditional,
        // An informed user may accept this, but a script must not do it silently.
        Condition::Always if is_severe(entry) => LineKind::Conditional,
        Condition::Always => LineKind::Active,
        _ => LineKind::Conditional,
    }
}

/// Returns `true` if ignoring the difference can harm the guest. An operator's own entry counts as
/// harmless, because the operator accepted the risk.
fn is_severe(entry: &Tolerance) -> bool {
    let severity = entry
        .visible_effect
        .as_ref()
        .map(|visible| visible.severity);
    !entry.is_operator_entry && severity >= Some(Severity::High)
}

fn write_entry(text: &mut String, row: &EffectiveEntry<'_>, kind: LineKind) {
    let list_names = |ids: &[RegisterId]| {
        let names = ids.iter().map(ToString::to_string);
        names.collect::<Vec<_>>().join(", ")
    };
    let subject = if row.registers.is_empty() {
        register_names(&row.entry.registers).join(", ")
    } else {
        list_names(&row.registers)
    };
    write_comment(text, &subject);
    write_comment(text, &rule(row.entry));
    for paragraph in grounds(row.entry) {
        write_comment(text, &paragraph);
    }
    if !row.shadowed_registers.is_empty() {
        let shadowed = list_names(&row.shadowed_registers);
        write_comment(text, &format!("An earlier entry decides {shadowed}."));
    }
    let prefix = match kind {
        LineKind::Active => "",
        LineKind::Conditional => "#",
        LineKind::Omitted => return,
    };
    for id in &row.registers {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{prefix}set -- \"$@\" {}", id_digits(*id));
    }
}

/// Adds comment lines. Line ends of the paragraph become spaces, so that the shell runs no part of
/// the text.
fn write_comment(text: &mut String, paragraph: &str) {
    for line in prose(paragraph, LINE_WIDTH - 2) {
        let _ = writeln!(text, "# {line}");
    }
}
