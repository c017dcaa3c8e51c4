//! Text of the explanation of error lines.

use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg_explain::explain::AffectedRegister;
use cpreg_explain::{Emitter, Explanation, FailureKind, LoadFailure};

use super::{LinesExplanation, describe_difference, emitters, step_command, step_result};
use crate::field::decode_fields;
use crate::printer::{Printer, style, styled};
use crate::remedy::{self, AdviceContext, Vmm};
use crate::text::pluralize;
use crate::tolerance::text::{condition, handling};
use crate::value::{ValueFormat, field_changes, id_digits};

/// Prints the whole report.
pub fn print(printer: &mut Printer, lines: &LinesExplanation) {
    let tolerances = Tolerances::default();
    for (explanation, failure) in &lines.failures {
        print_failure(printer, explanation, failure, &tolerances);
        printer.line("");
    }
    if lines.omitted_failures > 0 {
        printer.line(format_args!(
            "omitted: {}; there are too many different ones",
            pluralize(lines.omitted_failures, "more failure")
        ));
    }
    if !lines.unknown_lines.is_empty() {
        printer.line(styled(style::WARNING, "unknown lines"));
        for line in &lines.unknown_lines {
            let times = match line.times {
                1 => String::new(),
                times => format!(" ({times} times)"),
            };
            printer.line(format_args!("  {}{times}", line.line));
        }
        if lines.omitted_unknown_lines > 0 {
            printer.line(format_args!("  and {} more", lines.omitted_unknown_lines));
        }
    }
    if lines.is_log {
        if lines.failures.is_empty() && lines.unknown_lines.is_empty() {
            printer.line("no line is a known error of a VMM or of a program that runs one");
        }
        match lines.skipped_lines {
            0 => {}
            1 => printer.line("1 unrelated line of the log was skipped"),
            count => printer.line(format_args!(
                "{count} unrelated lines of the log were skipped"
            )),
        }
        if lines.truncated_lines > 0 {
            printer.line(format_args!(
                "{} lines were truncated to 64 KiB",
                lines.truncated_lines
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
    let printed_by: Vec<String> = emitters(failure)
        .iter()
        .map(|(emitter, versions)| format!("{} ({versions})", emitter.name()))
        .collect();
    let times = match failure.times {
        1 => String::new(),
        times => format!(", {times} times"),
    };
    printer.line(format_args!(
        "  printed by {}{times}",
        printed_by.join(", ")
    ));
    for line in &failure.lines {
        printer.line(styled(style::DIM, format_args!("    {line}")));
    }
    if failure.further_lines > 0 {
        printer.line(styled(
            style::DIM,
            format_args!("    and {}", pluralize(failure.further_lines, "more line")),
        ));
    }
    printer.line(format_args!("  meaning: {}", explanation.meaning));
    if let Some(state) = explanation.vm_state {
        printer.line(format_args!("  the VM now: {state}"));
    }
    if !explanation.registers.is_empty() {
        printer.line("  registers");
        let vmm = vmm(failure);
        print_registers(printer, &explanation.registers, tolerances, vmm);
    }
    if !explanation.causes.is_empty() {
        printer.line("  usual causes");
        for cause in &explanation.causes {
            let source = styled(style::DIM, format_args!("[{}]", cause.source));
            printer.line(format_args!("    {} {source}", cause.description));
        }
    }
    printer.line("  next steps");
    for step in &explanation.next_steps {
        printer.line(format_args!(
            "    {}",
            styled(style::NAME, step_command(step))
        ));
        printer.line(format_args!("      {}", step_result(step)));
    }
}

/// Returns the VMM that printed a failure.
fn vmm(failure: &LoadFailure) -> Vmm {
    match emitters(failure).first() {
        Some((Emitter::QEMU | Emitter::LIBVIRT, _)) => Vmm::Qemu,
        Some((Emitter::FIRECRACKER, _)) => Vmm::Firecracker,
        Some(_) => Vmm::Other,
        None => Vmm::Unknown,
    }
}

/// Prints registers, grouped by difference and tolerance. The remedies name options of `vmm`.
fn print_registers(
    printer: &mut Printer,
    registers: &[AffectedRegister],
    tolerances: &Tolerances,
    vmm: Vmm,
) {
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
            .and_then(|index| tolerances.entries().get(index));
        if let Some(entry) = entry {
            printer.line(format_args!(
                "      tolerance: {}{}",
                handling(entry.handling),
                condition(&entry.condition)
            ));
            printer.line(format_args!("      why: {}", entry.reason));
            if let Some(remedy) = &entry.remedy {
                let context = AdviceContext {
                    vmm,
                    register: first.register.id,
                    destination_value: first.destination_value,
                };
                let advice = remedy::advice(remedy, context);
                printer.line(format_args!("      fix: {advice}"));
            }
        } else if first.difference == Some(cpreg::tolerance::RegisterDifference::SourceOnly) {
            printer.line("      tolerance: none, so the VM is refused");
        }
    }
}

fn print_register(printer: &mut Printer, register: &AffectedRegister) {
    let value_format = ValueFormat {
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
    let describe = |value: u64| value_format.describe(id, &Value::from(value));
    let mut line = format!(
        "    {} {}",
        styled(style::NAME, value_format.name(id)),
        styled(style::DIM, format_args!("({})", id_digits(id))),
    );
    let difference = describe_difference(register);
    if !difference.is_empty() {
        line = format!("{line}, {difference}");
    }
    if let Some(value) = register.value {
        line = format!("{line}: {}", describe(value));
    }
    if let Some(value) = register.destination_value {
        line = format!("{line}, destination: {}", describe(value));
    }
    printer.line(line);
    if let (Some(value), Some(destination)) = (register.value, register.destination_value)
        && !id.is_secret()
    {
        let changes = field_changes(id, value, destination);
        if !changes.is_empty() {
            printer.line(format_args!("      differs in {}", changes.join(", ")));
        }
    } else if let Some(value) = register.value.filter(|_| !id.is_secret()) {
        print_fields(printer, id, value);
    }
}

/// Prints the fields of a value that are not 0.
fn print_fields(printer: &mut Printer, id: RegisterId, value: u64) {
    let fields: Vec<String> = decode_fields(id, value)
        .into_iter()
        .filter(|field| field.value != 0)
        .map(|field| {
            let name = match field.field.name() {
                "" => format!("[{}:{}]", field.field.msb(), field.field.lsb()),
                name => name.to_owned(),
            };
            match field.meaning {
                Some(meaning) => format!("{name} {:#x} ({meaning})", field.value),
                None => format!("{name} {:#x}", field.value),
            }
        })
        .collect();
    if !fields.is_empty() {
        printer.line(format_args!("      fields: {}", fields.join(", ")));
    }
}
