//! The table as a shell script that runs Firecracker's `snapshot-editor`.
//!
//! `snapshot-editor edit-vmstate remove-regs ID... --vmstate-path FILE --output-path FILE` (Firecracker 1.5 and later, arm64) takes registers out of a
//! snapshot, whatever they hold and whether or not the destination has them. So only what the table always ignores
//! is a line that runs. What it ignores under a condition is such a line as a comment, with the condition; the rest cannot be
//! had by taking a register away and is listed at the end. Entries of other accelerators are left out: Firecracker has KVM only.

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

/// Columns of a line of comment.
const LINE_WIDTH: usize = 80;

/// What the script says of itself, a paragraph each.
const HEADER: &[&str] = &[
    "Takes registers out of a Firecracker snapshot of an arm64 VM, so that a host without them \
     restores it. Made by `cpreg tolerances --export firecracker`.",
    "Usage: sh SCRIPT VMSTATE OUTPUT",
    "Before you run it: snapshot-editor removes a register whatever it holds, and also where the \
     destination has it, which then starts with its reset value. So delete the lines of \
     registers that the destination has: `cpreg show PROFILE --register REG` tells, if PROFILE \
     was recorded there by `cpreg probe qemu`. Lines that begin with `#set` have a condition: \
     look the value up (`snapshot-editor info-vmstate vcpu-states --vmstate-path VMSTATE`, for \
     every vCPU), and take the `#` away where it holds. `cpreg tolerances REG` has all about a \
     register.",
];

/// How an entry comes out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineKind {
    /// A line that runs.
    Active,
    /// A line that runs if somebody takes the `#` away.
    Conditional,
    /// Removing would not do what the entry does.
    Omitted,
}

/// Exports a shell script that runs Firecracker's `snapshot-editor`.
#[derive(Clone, Copy, Debug)]
pub struct Firecracker;

impl Exporter for Firecracker {
    fn export(
        &self,
        tolerances: &Tolerances,
        wanted: &[RegisterId],
        printer: &mut Printer,
    ) -> serde_json::Result<()> {
        for line in script(tolerances, wanted).lines() {
            printer.line(line);
        }
        Ok(())
    }
}

fn script(tolerances: &Tolerances, wanted: &[RegisterId]) -> String {
    let mut text = String::from("#!/bin/sh\n");
    for paragraph in HEADER {
        text.push_str("#\n");
        write_comment(&mut text, paragraph);
    }
    text.push_str(
        "\nset -eu\nvmstate=${1:?the VMSTATE to read}\noutput=${2:?the OUTPUT to write}\nset --\n",
    );
    let rows = effective_entries(tolerances, wanted, Accelerator::Kvm);
    for kind in [LineKind::Active, LineKind::Conditional, LineKind::Omitted] {
        let rows: Vec<&EffectiveEntry<'_>> =
            rows.iter().filter(|row| line_kind(row) == kind).collect();
        if rows.is_empty() {
            continue;
        }
        text.push_str(match kind {
            LineKind::Active => "\n# ---- always ignored where the destination has not got them\n",
            LineKind::Conditional => {
                "\n# ---- ignored under a condition, or with consequences for the guest: look \
                 first\n"
            }
            LineKind::Omitted => {
                "\n# ---- left out: taking the register away is not what cpreg does\n"
            }
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
    if (entry.difference, entry.handling) != (RegisterDifference::OnlyInInput, Handling::Ignore) {
        return LineKind::Omitted;
    }
    match entry.condition {
        // An entry before it decides about all of them.
        _ if row.registers.is_empty() && !row.shadowed_registers.is_empty() => LineKind::Omitted,
        // A class of registers that has no list.
        _ if row.registers.is_empty() => LineKind::Conditional,
        // Harmless for who knows it; not for who runs a script.
        Condition::Always if is_severe(entry) => LineKind::Conditional,
        Condition::Always => LineKind::Active,
        _ => LineKind::Conditional,
    }
}

/// Whether a guest could come to harm although the difference is ignored. An operator's own entry is the operator's decision.
fn is_severe(entry: &Tolerance) -> bool {
    let severity = entry
        .visible_effect
        .as_ref()
        .map(|visible| visible.severity);
    !entry.is_operator_entry && severity == Some(Severity::High)
}

fn write_entry(text: &mut String, row: &EffectiveEntry<'_>, kind: LineKind) {
    let listed = |ids: &[RegisterId]| {
        let names = ids.iter().map(ToString::to_string);
        names.collect::<Vec<_>>().join(", ")
    };
    let subject = if row.registers.is_empty() {
        register_names(&row.entry.registers).join(", ")
    } else {
        listed(&row.registers)
    };
    write_comment(text, &subject);
    write_comment(text, &rule(row.entry));
    for paragraph in grounds(row.entry) {
        write_comment(text, &paragraph);
    }
    if !row.shadowed_registers.is_empty() {
        let before = listed(&row.shadowed_registers);
        write_comment(
            text,
            &format!("An entry before this one decides about {before}."),
        );
    }
    let mark = match kind {
        LineKind::Active => "",
        LineKind::Conditional => "#",
        LineKind::Omitted => return,
    };
    for id in &row.registers {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark}set -- \"$@\" {}", id_digits(*id));
    }
}

/// Adds lines of comment. No line end of the text is kept, so nothing in it becomes a command.
fn write_comment(text: &mut String, paragraph: &str) {
    for line in prose(paragraph, LINE_WIDTH - 2) {
        let _ = writeln!(text, "# {line}");
    }
}
