//! The text about error lines.

use cpreg::register::Value;
use cpreg::tolerance::Tolerances;
use cpreg_explain::explain::AffectedRegister;
use cpreg_explain::{Explanation, FailureKind, LoadFailure};

use super::{LinesExplanation, describe_difference, emitters};
use crate::printer::{Printer, style, styled};
use crate::remedy;
use crate::tolerance::text::{condition, handling};
use crate::value::{ValueFormat, field_changes, id_digits};

/// Prints the whole answer.
pub fn print(printer: &mut Printer, explained: &LinesExplanation) {
    let tolerances = Tolerances::default();
    for (explanation, failure) in &explained.failures {
        print_failure(printer, explanation, failure, &tolerances);
        printer.line("");
    }
    if explained.omitted_failures > 0 {
        printer.line(format_args!(
            "{} more failures are not listed: too many different ones",
            explained.omitted_failures
        ));
    }
    if !explained.unknown_lines.is_empty() {
        printer.line(styled(style::WARNING, "not understood"));
        for line in &explained.unknown_lines {
            let times = match line.times {
                1 => String::new(),
                times => format!(" ({times} times)"),
            };
            printer.line(format_args!("  {}{times}", line.line));
        }
        if explained.omitted_unknown_lines > 0 {
            printer.line(format_args!(
                "  and {} more",
                explained.omitted_unknown_lines
            ));
        }
    }
    if explained.is_log {
        if explained.failures.is_empty() && explained.unknown_lines.is_empty() {
            printer.line("no line is an error of QEMU, libvirt, Firecracker or Cloud Hypervisor");
        }
        printer.line(match explained.skipped_lines {
            1 => "1 line of the log is about other things".to_owned(),
            lines => format!("{lines} lines of the log are about other things"),
        });
        if explained.truncated_lines > 0 {
            printer.line(format_args!(
                "of {} lines only the first 64 KiB were looked at",
                explained.truncated_lines
            ));
        }
    }
}

fn print_failure(
    printer: &mut Printer,
    explanation: &Explanation,
    failure: &LoadFailure,
    tolerances: &Tolerances,
) {
    let title_style = if explanation.kind == FailureKind::WARNINGS {
        style::GOOD
    } else {
        style::ERROR
    };
    printer.line(format_args!(
        "{}: {}",
        styled(title_style, explanation.kind.name()),
        explanation.kind.title()
    ));
    let said_by: Vec<String> = emitters(failure)
        .iter()
        .map(|(speaker, versions)| format!("{} ({versions})", speaker.name()))
        .collect();
    let times = match failure.times {
        1 => String::new(),
        times => format!(", {times} times"),
    };
    printer.line(format_args!("  said by {}{times}", said_by.join(", ")));
    for line in &failure.lines {
        printer.line(styled(style::DIM, format_args!("    {line}")));
    }
    if failure.further_lines > 0 {
        printer.line(styled(
            style::DIM,
            format_args!("    and {} more lines", failure.further_lines),
        ));
    }
    printer.line(format_args!("  means: {}", explanation.meaning));
    if !explanation.registers.is_empty() {
        printer.line("  registers");
        print_registers(printer, &explanation.registers, tolerances);
    }
    if !explanation.causes.is_empty() {
        printer.line("  usually behind it");
        for cause in &explanation.causes {
            let source = styled(style::DIM, format_args!("[{}]", cause.source));
            printer.line(format_args!("    {} {source}", cause.description));
        }
    }
    if explanation.next_steps.is_empty() {
        printer.line("  what settles it: nothing that cpreg looks at");
    } else {
        printer.line("  what settles it");
    }
    for step in &explanation.next_steps {
        printer.line(format_args!(
            "    {}",
            styled(style::NAME, remedy::command(step))
        ));
        printer.line(format_args!("      {}", remedy::purpose(step)));
    }
}

/// Registers about which the same is known stand together.
fn print_registers(printer: &mut Printer, registers: &[AffectedRegister], tolerances: &Tolerances) {
    let mut rest: Vec<&AffectedRegister> = registers.iter().collect();
    while let Some(first) = rest.first().copied() {
        let (group, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|other| {
            (other.difference, other.hidden, other.tolerance)
                == (first.difference, first.hidden, first.tolerance)
        });
        rest = others;
        for register in &group {
            print_register(printer, register);
        }
        let entry = first
            .tolerance
            .and_then(|entry| tolerances.entries().get(entry));
        if let Some(entry) = entry {
            printer.line(format_args!(
                "      the table: {}{}",
                handling(entry.handling),
                condition(&entry.condition)
            ));
            printer.line(format_args!("      why: {}", entry.reason));
            if let Some(remedy) = &entry.remedy {
                let host = first.destination_value.map_or_else(
                    || remedy::UNKNOWN_VALUE_PLACEHOLDER.to_owned(),
                    |is| {
                        let name = first.register.id.and_then(|id| id.value_name(is));
                        name.map_or_else(|| format!("{is:#x}"), str::to_owned)
                    },
                );
                let advice = remedy::advice(remedy, &host);
                printer.line(format_args!("      otherwise: {advice}"));
            }
        } else if first.difference == Some(cpreg::tolerance::RegisterDifference::OnlyInInput) {
            printer.line("      the table: no entry, so that it refuses the VM");
        }
    }
}

fn print_register(printer: &mut Printer, register: &AffectedRegister) {
    let printing = ValueFormat {
        naming: register.register.naming(),
        show_secrets: false,
    };
    let Some(id) = register.register.id else {
        printer.line(format_args!(
            "    `{}`, {}; cpreg does not know this name",
            register.register.text,
            describe_difference(register)
        ));
        return;
    };
    let describe = |value: u64| printing.describe(id, &Value::from(value));
    let mut line = format!(
        "    {} {}, {}",
        styled(style::NAME, printing.name(id)),
        styled(style::DIM, format_args!("({})", id_digits(id))),
        describe_difference(register)
    );
    if let Some(value) = register.value {
        line = format!("{line}: {}", describe(value));
    }
    if let Some(is) = register.destination_value {
        line = format!("{line}, there {}", describe(is));
    }
    printer.line(line);
    if let (Some(value), Some(is)) = (register.value, register.destination_value)
        && !id.is_secret()
    {
        let changes = field_changes(id, value, is);
        if !changes.is_empty() {
            printer.line(format_args!("      differs in {}", changes.join(", ")));
        }
    }
}
