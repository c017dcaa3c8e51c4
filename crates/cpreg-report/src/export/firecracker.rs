//! Exports the tolerances as a shell script for Firecracker's `snapshot-editor`.
//!
//! `snapshot-editor edit-vmstate remove-regs ID... --vmstate-path FILE --output-path FILE`
//! (Firecracker 1.5 and later, arm64) removes registers from a snapshot. The command ignores the
//! value of a register, and does not know the destination.
//!
//! An entry becomes an active line if the entry always ignores its registers. If that has
//! consequences for the guest, the script prints them. Entries with a condition become comments
//! that state what must hold in the snapshot. Entries that a removal cannot express are
//! listed at the end. Entries of other accelerators are omitted, because Firecracker has only KVM.

use std::fmt::Write as _;

use cpreg::destination::Accelerator;
use cpreg::register::RegisterId;
use cpreg::severity::Severity;
use cpreg::tolerance::{Condition, Handling, RegisterDifference, Tolerance, Tolerances};

use super::Exporter;
use super::table::{EffectiveEntry, effective_entries, grounds, rule};
use crate::check::{CheckFindings, snapshot_editor};
use crate::command::quote;
use crate::printer::Printer;
use crate::remedy::{Vmm, describe_change};
use crate::text::wrap::prose;
use crate::tolerance::text::register_names;
use crate::value::id_digits;

/// Maximum width of a comment line, in characters.
const LINE_WIDTH: usize = 80;

/// Part of a script that reads the arguments.
const ARGUMENTS: &str =
    "\nset -eu\nvmstate=${1:?the VMSTATE to read}\noutput=${2:?the OUTPUT to write}\nset --\n";
/// Part of a script that removes the registers.
const EDITOR_CALL: &str = "\nsnapshot-editor edit-vmstate remove-regs \"$@\" \\\n    \
                           --vmstate-path \"$vmstate\" --output-path \"$output\"\n";

/// Paragraphs of the comment at the head of the script.
const HEADER: &[&str] = &[
    "Removes registers from a Firecracker snapshot of an arm64 VM, so that a host without them \
     restores it. Written by `cpreg tolerances --export firecracker`.",
    "Usage: sh SCRIPT VMSTATE OUTPUT",
    "Before you run it: snapshot-editor removes a register whatever its value, and also if the \
     destination has the register, which then starts with its reset value. So record the \
     destination with `cpreg probe qemu -o PROFILE`, and delete the line of each register that \
     `cpreg show PROFILE --register REG` finds. Lines that begin with `#set` have a condition, the \
     line `Must hold` above them: look up the value for every vCPU (`snapshot-editor info-vmstate \
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
    text.push_str(ARGUMENTS);
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
                "\n# ---- ignored under a condition: check that it holds, then remove the `#`\n"
            }
            LineKind::Omitted => "\n# ---- omitted: cpreg does not remove the register\n",
        });
        for row in rows {
            text.push('\n');
            write_entry(&mut text, row, kind);
        }
    }
    text.push_str(
        "\nif [ $# -eq 0 ]; then\n    echo \"no register to remove\" >&2\n    exit 1\nfi",
    );
    text.push_str(EDITOR_CALL);
    text
}

/// Returns a script that makes the changes of one VM for one destination; `None` if a removal of
/// registers does not make them.
pub fn pair_script(findings: &CheckFindings<'_>) -> Option<String> {
    let removed = snapshot_editor::removed_registers(findings)?;
    let command = &findings.command;
    let mut text = String::from("#!/bin/sh\n#\n");
    write_comment(
        &mut text,
        &format!(
            "Removes the registers from {} that {} refuses, and no others. Written by `cpreg \
             tolerances --export firecracker --for {} {}`.",
            command.source,
            findings.destination.name,
            quote(&command.source),
            quote(&command.destination)
        ),
    );
    text.push_str("#\n# Usage: sh SCRIPT VMSTATE OUTPUT\n");
    text.push_str(ARGUMENTS);
    let decisions = findings.check.plan.decisions();
    for id in removed {
        text.push('\n');
        write_comment(&mut text, &id.to_string());
        let decision = decisions
            .iter()
            .find(|(_, decision)| decision.register == id);
        if let Some((_, decision)) = decision {
            let reason = decision.reason.display(findings.tolerances);
            write_comment(&mut text, &format!("Why: {reason}."));
        }
        let changes = findings.check.plan.visible_changes.iter();
        for change in changes.filter(|change| change.register == Some(id)) {
            let description = describe_change(change, Vmm::Firecracker);
            if !description.is_empty() {
                let severity = change.severity;
                write_comment(
                    &mut text,
                    &format!("The guest could notice ({severity}): {description}."),
                );
            }
            if change.severity >= Severity::High {
                let _ = writeln!(
                    text,
                    "echo 'removed, which the guest could notice: {id}' >&2"
                );
            }
        }
        let _ = writeln!(text, "set -- \"$@\" {}", id_digits(id));
    }
    text.push_str(EDITOR_CALL);
    Some(text)
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
        Condition::Always => LineKind::Active,
        _ => LineKind::Conditional,
    }
}

/// Returns the state of the snapshot in which a condition holds, with the ids that
/// `snapshot-editor` prints.
fn required_state(condition: &Condition) -> String {
    let bits = |mask: u64, expected: u64| match mask {
        u64::MAX => format!("is {expected:#x}"),
        mask => format!("AND {mask:#x} is {expected:#x}"),
    };
    match condition {
        Condition::Always => "nothing".to_owned(),
        Condition::Value { mask, expected } => {
            format!("the register's value {}", bits(*mask, *expected))
        }
        Condition::OtherRegister {
            register,
            mask,
            expected,
        } => format!(
            "the value of {register} ({}) {}, or the snapshot lacks that register",
            id_digits(*register),
            bits(*mask, *expected)
        ),
        Condition::WithoutFeature {
            register,
            field,
            lsb,
            ..
        } => format!(
            "{register}.{field}, bits {}:{lsb} of {}, is 0",
            lsb + 3,
            id_digits(*register)
        ),
        Condition::NoSuchCache => format!(
            "CLIDR_EL1 ({}) has no cache for the slot CCSIDR_EL1[N]: with L = N / 2, its three bits \
             from bit 3 * L are 0 or 1 for an even N, and 0, 2 or 4 for an odd N",
            id_digits(RegisterId::CLIDR_EL1)
        ),
        Condition::PmuUnused => "the destination's VM has no performance monitors, and all those \
                                 of the snapshot have their reset values"
            .to_owned(),
        Condition::DiffersIn { mask } => {
            format!("the value differs from the destination's at most in the bits {mask:#x}")
        }
        Condition::And(one, other) => {
            format!("{}; and {}", required_state(one), required_state(other))
        }
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
    for paragraph in grounds(row.entry, Vmm::Firecracker) {
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
    if kind == LineKind::Conditional {
        let condition = required_state(&row.entry.condition);
        write_comment(text, &format!("Must hold for every vCPU: {condition}."));
    }
    // A script must not change what the guest notices silently.
    if kind == LineKind::Active && is_severe(row.entry) {
        let _ = writeln!(
            text,
            "echo 'removed, which the guest could notice: {subject}' >&2"
        );
    }
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
