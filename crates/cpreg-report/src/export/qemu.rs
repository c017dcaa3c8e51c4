//! The table as C for `target/arm` of QEMU 11.1 and later: calls like those that it makes for its own tolerances.
//!
//! What QEMU's tolerances can say (commits bb36be6fd7, 5e65e7aa4a and 9d2e717da4, and the calls that 11.1 makes for `-cpu host`):
//!
//! | kind | register only in the stream | register only at the destination |
//! |---|---|---|
//! | none | fails the load | left alone, with a warning |
//! | `ToleranceOnlySrcTestValue`, mask, value | dropped if `register & mask == value`, else fails | left alone, with a warning |
//! | `ToleranceNotOnBothEnds` | dropped whatever it holds | left alone, no warning |
//!
//! So an entry that always ignores is a test of no bits, and both ends only where the table says so of both. Conditions on other registers, on
//! the destination, and values to be set have no form there: they stand as comments.

use std::fmt::Write as _;

use cpreg::destination::Accelerator;
use cpreg::register::{DecodedId, Naming, RegisterId};
use cpreg::tolerance::{Condition, Handling, RegisterDifference, Tolerance, Tolerances};

use super::Exporter;
use super::table::{EffectiveEntry, effective_entries, grounds, rule};
use crate::printer::Printer;
use crate::text::wrap::prose;
use crate::tolerance::text::register_names;
use crate::value::id_digits;

/// Columns of a line, as QEMU's style wants it.
const LINE_WIDTH: usize = 80;

/// What the file says of itself.
const HEADER: &[&str] = &[
    "Migration tolerances for target/arm of QEMU 11.1 and later, made by `cpreg tolerances --export qemu`. \
     The reasons are cpreg's; the conditions are those that QEMU's tolerances can express. What they cannot express is a comment that \
     begins with \"Left out\", and no call.",
    "",
    "QEMU makes its own calls when it makes a CPU of -cpu host. Call the function of the accelerator there.",
    "",
    "QEMU 11.1.3 forgets that a register failed the load when a tolerated one follows in the list. Each further tolerance makes \
     that likelier, so see that yours does not.",
];

/// What is particular to an accelerator.
const fn accelerator_note(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "Under KVM.",
        Accelerator::Tcg => {
            "Under TCG. That QEMU 11.1 asks for tolerances there was never seen: its own are those of -cpu host. Nor do they \
             help with registers that only the destination has: TCG loads an undefined value into those."
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
        wanted: &[RegisterId],
        printer: &mut Printer,
    ) -> serde_json::Result<()> {
        let mut text = format_comment("", HEADER.iter().copied());
        let mut functions = 0;
        for accelerator in [Accelerator::Kvm, Accelerator::Tcg, Accelerator::Hvf] {
            let rows = effective_entries(tolerances, wanted, accelerator);
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
    let named = |ids: &[RegisterId]| {
        let names = ids.iter().map(|id| id.display_in(naming).to_string());
        names.collect::<Vec<_>>().join(", ")
    };
    let test = value_test(entry);
    let mut paragraphs = Vec::new();
    let left_out = match test {
        Ok(_) if row.registers.is_empty() && row.shadowed_registers.is_empty() => {
            Some("QEMU's tolerances are about single registers, and this is a class of them")
        }
        Ok(_) => None,
        Err(why) => Some(why),
    };
    let subject = if row.registers.is_empty() {
        register_names(&entry.registers).join(", ")
    } else {
        named(&row.registers)
    };
    match left_out {
        Some(why) => {
            paragraphs.push(format!("Left out: {subject}"));
            paragraphs.push(format!("Because {why}. What cpreg does:"));
        }
        None if row.registers.is_empty() => paragraphs.push(format!("Left out: {subject}")),
        None => paragraphs.push(subject),
    }
    paragraphs.push(rule(entry));
    paragraphs.extend(grounds(entry));
    if !row.shadowed_registers.is_empty() {
        paragraphs.push(format!(
            "An entry before this one decides about {}.",
            named(&row.shadowed_registers)
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

/// The bits that QEMU would test and what they must be, or why it cannot.
fn value_test(entry: &Tolerance) -> Result<(u64, u64), &'static str> {
    match (entry.difference, entry.handling) {
        (RegisterDifference::OnlyInInput, Handling::Ignore) => match entry.condition {
            Condition::Always => Ok((0, 0)),
            Condition::Value { mask, expected } => Ok((mask, expected)),
            _ => Err("QEMU's tolerances look at the register's own value and at nothing else"),
        },
        (RegisterDifference::OnlyInInput, Handling::Refuse) => {
            Err("QEMU refuses it without a tolerance, and cannot do so under a condition")
        }
        (RegisterDifference::OnlyInInput, _) => {
            Err("QEMU's tolerances drop a register and do no more")
        }
        (RegisterDifference::OnlyAtDestination, Handling::Ignore | Handling::KeepAtReset) => Err(
            "no call of its own is needed for it: QEMU goes on without a register that the stream lacks",
        ),
        (RegisterDifference::OnlyAtDestination, _) => Err(
            "QEMU goes on without a register that the stream lacks, and no tolerance changes that",
        ),
        (RegisterDifference::ValueNotTaken, _) => {
            Err("QEMU's tolerances are about registers that only one side has")
        }
    }
}

/// Both ends only where the table says of both that nothing is looked at.
fn tolerance_kind(
    tolerances: &Tolerances,
    entry: &Tolerance,
    id: RegisterId,
    accelerator: Accelerator,
) -> &'static str {
    let there = tolerances
        .find(id, RegisterDifference::OnlyAtDestination, Some(accelerator))
        .and_then(|number| tolerances.entries().get(number));
    let is_both = entry.condition == Condition::Always
        && there.is_some_and(|there| {
            there.condition == Condition::Always && there.handling == Handling::KeepAtReset
        });
    if is_both {
        "ToleranceNotOnBothEnds"
    } else {
        "ToleranceOnlySrcTestValue"
    }
}

/// The id in C: by the macros of Linux's `asm/kvm.h`, which QEMU has only where it is built with KVM, or as the number.
fn id_expression(id: RegisterId, accelerator: Accelerator) -> String {
    match id.decode() {
        _ if accelerator != Accelerator::Kvm => id_digits(id),
        DecodedId::SystemRegister(it) => format!(
            "ARM64_SYS_REG({}, {}, {}, {}, {})",
            it.op0, it.op1, it.crn, it.crm, it.op2
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

/// A comment of these paragraphs in QEMU's form. Nothing in them ends it, or begins another.
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
    fn nothing_gets_out_of_a_comment() {
        let text = format_comment("", ["ours */ evil(); /*/ and\nmore **/"]);
        assert_eq!(text.matches("*/").count(), 1, "{text}");
        assert_eq!(text.matches("/*").count(), 1, "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with(" *")));
    }

    #[test]
    fn long_calls_are_broken() {
        let call = format_call("0x1", !1, 0, "ToleranceOnlySrcTestValue");
        assert!(call.lines().all(|line| line.len() <= LINE_WIDTH), "{call}");
        assert_eq!(call.lines().count(), 3);
    }
}
