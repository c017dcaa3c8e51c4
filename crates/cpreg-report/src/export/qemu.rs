//! The table as C for `target/arm` of QEMU 11.1 and later: calls that declare tolerances.
//!
//! QEMU's tolerances can express the following (commits bb36be6fd7, 5e65e7aa4a and 9d2e717da4, and
//! the calls of 11.1 for `-cpu host`):
//!
//! | kind | source only | destination only |
//! |---|---|---|
//! | none | fails the load | kept, with a warning |
//! | `ToleranceOnlySrcTestValue`, mask, value | dropped or fails (1) | kept, with a warning |
//! | `ToleranceNotOnBothEnds` | dropped, whatever its value | kept, no warning |
//!
//! (1) dropped if `register & mask == value`; otherwise the load fails
//!
//! An entry that always ignores a register becomes a value test with mask 0, which every value
//! passes. The entry becomes `ToleranceNotOnBothEnds` only if the table ignores both differences.
//! QEMU cannot express conditions on other registers or on the destination, nor values to set. Such
//! entries become comments.

use std::fmt::Write as _;

use cpreg::destination::Accelerator;
use cpreg::register::{DecodedId, Naming, RegisterId};
use cpreg::tolerance::{Condition, Handling, RegisterDifference, Tolerance, Tolerances};

use super::Exporter;
use super::table::{EffectiveEntry, effective_entries, grounds, rule};
use crate::printer::Printer;
use crate::remedy::Vmm;
use crate::text::wrap::prose;
use crate::tolerance::text::register_names;
use crate::value::id_digits;

/// Maximum width of a line in QEMU's style, in characters.
const LINE_WIDTH: usize = 80;

/// Paragraphs of the comment at the head of the file.
const HEADER: &[&str] = &[
    "Migration tolerances for target/arm of QEMU 11.1 and later, written by `cpreg tolerances \
     --export qemu`. The reasons are cpreg's; the conditions are those that QEMU's tolerances can \
     express. An entry that they cannot express becomes a comment that begins with \"Omitted\", \
     without a call.",
    "",
    "QEMU makes its own calls when it creates a CPU of -cpu host. Call the function of the \
     accelerator at that point.",
    "",
    "QEMU 11.1.3 forgets that a register failed the load if a tolerated register follows in the \
     list. Each further tolerance makes that more likely, so check that your QEMU does not have \
     this bug.",
];

/// Returns the remarks of the generated file about an accelerator.
const fn accelerator_note(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "Under KVM.",
        Accelerator::Tcg => {
            "Under TCG. QEMU 11.1 has never been observed to use tolerances under TCG: its own calls \
             are for -cpu host. Tolerances do not help with destination-only registers either: TCG loads \
             an undefined value into them."
        }
        Accelerator::Hvf => "Under HVF.",
    }
}

/// Exports C for `target/arm` of QEMU 11.1 and later.
#[derive(Clone, Copy, Debug)]
pub struct Qemu;

impl Exporter for Qemu {
    fn export(
        &self,
        tolerances: &Tolerances,
        selection: &[RegisterId],
        printer: &mut Printer,
    ) -> serde_json::Result<()> {
        let mut text = format_comment("", HEADER.iter().copied());
        let mut functions = 0;
        for accelerator in [Accelerator::Kvm, Accelerator::Tcg, Accelerator::Hvf] {
            let rows = effective_entries(tolerances, selection, accelerator);
            if rows.is_empty() {
                continue;
            }
            functions += 1;
            text.push('\n');
            text.push_str(&format_comment("", [accelerator_note(accelerator)]));
            let _ = writeln!(
                text,
                "static void cpreg_{accelerator}_mig_tolerances(ARMCPU *cpu)\n{{"
            );
            let entries: Vec<String> = rows
                .iter()
                .map(|row| format_entry(tolerances, row, accelerator))
                .collect();
            text.push_str(&entries.join("\n"));
            text.push_str("}\n");
        }
        if functions == 0 {
            text.push_str("\n/* No entry is about these registers. */\n");
        }
        for line in text.lines() {
            printer.line(line);
        }
        Ok(())
    }
}

fn format_entry(
    tolerances: &Tolerances,
    row: &EffectiveEntry<'_>,
    accelerator: Accelerator,
) -> String {
    let entry = row.entry;
    let naming = match accelerator {
        Accelerator::Tcg => Naming::Architectural,
        Accelerator::Kvm | Accelerator::Hvf => Naming::Kvm,
    };
    let list_names = |ids: &[RegisterId]| {
        let names = ids.iter().map(|id| id.display_in(naming).to_string());
        names.collect::<Vec<_>>().join(", ")
    };
    let test = value_test(entry);
    let mut paragraphs = Vec::new();
    let omission_reason = match test {
        Ok(_) if row.registers.is_empty() && row.shadowed_registers.is_empty() => {
            Some("QEMU's tolerances name single registers, and this is a class of registers")
        }
        Ok(_) => None,
        Err(reason) => Some(reason),
    };
    let subject = if row.registers.is_empty() {
        register_names(&entry.registers).join(", ")
    } else {
        list_names(&row.registers)
    };
    match omission_reason {
        Some(reason) => {
            paragraphs.push(format!("Omitted: {subject}"));
            paragraphs.push(format!("Because {reason}. cpreg's rule:"));
        }
        None if row.registers.is_empty() => paragraphs.push(format!("Omitted: {subject}")),
        None => paragraphs.push(subject),
    }
    paragraphs.push(rule(entry));
    paragraphs.extend(grounds(entry, Vmm::Qemu));
    if !row.shadowed_registers.is_empty() {
        paragraphs.push(format!(
            "An earlier entry decides {}.",
            list_names(&row.shadowed_registers)
        ));
    }
    let mut text = format_comment("    ", paragraphs.iter().map(String::as_str));
    if let Ok((mask, expected)) = test {
        for id in &row.registers {
            if row.registers.len() > 1 {
                let _ = writeln!(text, "    /* {} */", id.display_in(naming));
            }
            text.push_str(&format_call(
                &id_expression(*id, accelerator),
                mask,
                expected,
                tolerance_kind(tolerances, entry, *id, accelerator),
            ));
        }
    }
    text
}

/// Returns the mask and value that QEMU would test, or the reason why QEMU cannot express the
/// entry.
fn value_test(entry: &Tolerance) -> Result<(u64, u64), &'static str> {
    match (entry.difference, entry.handling) {
        (RegisterDifference::SourceOnly, Handling::Ignore) => match entry.condition {
            Condition::Always => Ok((0, 0)),
            Condition::Value { mask, expected } => Ok((mask, expected)),
            _ => Err("QEMU's tolerances test only the register's own value"),
        },
        (RegisterDifference::SourceOnly, Handling::Refuse) => {
            Err("QEMU refuses the register without a tolerance, and cannot do so conditionally")
        }
        (RegisterDifference::SourceOnly, _) => Err("QEMU's tolerances can only drop a register"),
        (RegisterDifference::DestinationOnly, Handling::Ignore | Handling::KeepAtReset) => {
            Err("no call is needed: QEMU continues without a register that the stream lacks")
        }
        (RegisterDifference::DestinationOnly, _) => Err(
            "QEMU continues without a register that the stream lacks, and no tolerance changes that",
        ),
        (RegisterDifference::ValueNotAccepted, _) => {
            Err("QEMU's tolerances cover only registers that one side lacks")
        }
        (RegisterDifference::OtherId, _) => Err("QEMU's tolerances cannot rename a register"),
    }
}

/// Returns the kind of tolerance: `ToleranceNotOnBothEnds` only if both differences are
/// unconditional.
fn tolerance_kind(
    tolerances: &Tolerances,
    entry: &Tolerance,
    id: RegisterId,
    accelerator: Accelerator,
) -> &'static str {
    let destination_only = tolerances
        .find(id, RegisterDifference::DestinationOnly, Some(accelerator))
        .and_then(|number| tolerances.entries().get(number));
    let is_both = entry.condition == Condition::Always
        && destination_only.is_some_and(|entry| {
            entry.condition == Condition::Always && entry.handling == Handling::KeepAtReset
        });
    if is_both {
        "ToleranceNotOnBothEnds"
    } else {
        "ToleranceOnlySrcTestValue"
    }
}

/// Returns the id in C: with the macros of Linux's `asm/kvm.h` under KVM, or as a number.
///
/// Builds of QEMU without KVM lack the macros.
fn id_expression(id: RegisterId, accelerator: Accelerator) -> String {
    match id.decode() {
        _ if accelerator != Accelerator::Kvm => id_digits(id),
        DecodedId::SystemRegister(register) => format!(
            "ARM64_SYS_REG({}, {}, {}, {}, {})",
            register.op0, register.op1, register.crn, register.crm, register.op2
        ),
        DecodedId::Firmware { number } => format!("KVM_REG_ARM_FW_REG({number})"),
        DecodedId::FirmwareBitmap { number } => format!("KVM_REG_ARM_FW_FEAT_BMAP_REG({number})"),
        _ => id_digits(id),
    }
}

fn format_call(id: &str, mask: u64, expected: u64, kind: &str) -> String {
    const FUNCTION: &str = "    arm_register_cpreg_mig_tolerance(";
    let indent = " ".repeat(FUNCTION.len());
    let number = |value| match value {
        0 => "0".to_owned(),
        u64::MAX => "UINT64_MAX".to_owned(),
        value => format!("{value:#x}"),
    };
    let test = format!("{indent}{}, {},", number(mask), number(expected));
    let between = if test.len() + kind.len() + 3 > LINE_WIDTH {
        format!("\n{indent}")
    } else {
        " ".to_owned()
    };
    format!("{FUNCTION}cpu, {id},\n{test}{between}{kind});\n")
}

/// Returns the paragraphs as a comment in QEMU's style. No text in the paragraphs begins or ends a
/// comment.
fn format_comment<'a>(indent: &str, paragraphs: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = format!("{indent}/*\n");
    for paragraph in paragraphs {
        if paragraph.is_empty() {
            let _ = writeln!(text, "{indent} *");
        }
        let paragraph = paragraph.replace("*/", "* /").replace("/*", "/ *");
        for line in prose(&paragraph, LINE_WIDTH - indent.len() - 3) {
            let _ = writeln!(text, "{indent} * {line}");
        }
    }
    let _ = writeln!(text, "{indent} */");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_cannot_end_a_comment() {
        let text = format_comment("", ["text */ evil(); /*/ and\nmore **/"]);
        assert_eq!(text.matches("*/").count(), 1, "{text}");
        assert_eq!(text.matches("/*").count(), 1, "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with(" *")));
    }

    #[test]
    fn long_calls_are_wrapped() {
        let call = format_call("0x1", !1, 0, "ToleranceOnlySrcTestValue");
        assert!(call.lines().all(|line| line.len() <= LINE_WIDTH), "{call}");
        assert_eq!(call.lines().count(), 3);
    }
}
