//! Text of `diff`: name, value of A, value of B, id.

use cpreg::plan::VcpuSet;
use cpreg::register::{RegisterId, Value};

use super::Diff;
use crate::contents::Contents;
use crate::printer::{Printer, style, styled};
use crate::rows::{ExtensionRow, RegisterRow};
use crate::text::{describe_extension, pluralize};
use crate::value::{field_changes, id_digits};

/// Prints the whole report.
pub fn print(printer: &mut Printer, diff: &Diff<'_>) {
    print_header(printer, diff);
    print_shape(printer, diff);
    print_one_sided(printer, diff, "A", &diff.only_in_a);
    print_one_sided(printer, diff, "B", &diff.only_in_b);
    print_values(printer, diff);
    print_core_registers(printer, diff);
    print_extensions(printer, diff);
    print_omissions(printer, diff);
}

fn print_header(printer: &mut Printer, diff: &Diff<'_>) {
    if diff.is_equal() {
        printer.line(format_args!(
            "{}: {} of {}",
            styled(style::GOOD, "equal"),
            pluralize(diff.compared_registers, "register"),
            pluralize(diff.compared_vcpus(), "vCPU"),
        ));
    } else {
        let counts = [
            (diff.shape.len(), "machine and devices"),
            (diff.differing_registers(), "registers"),
            (diff.differing_extensions(), "extensions"),
        ];
        let counts: Vec<_> = counts
            .into_iter()
            .filter(|(count, _)| *count != 0)
            .map(|(count, kind)| format!("{kind} ({count})"))
            .collect();
        printer.line(format_args!(
            "{}: {}",
            styled(style::ERROR, "differ"),
            counts.join(", ")
        ));
    }
    print_side(printer, "A", diff.a);
    print_side(printer, "B", diff.b);
}

fn print_side(printer: &mut Printer, label: &str, contents: &Contents) {
    let accelerator = contents.destination.accelerator;
    let accelerator = accelerator.map(|accelerator| format!(", {accelerator}"));
    let state = contents.stream();
    let state = state.and_then(|stream| stream.run_state.as_deref());
    printer.line(format_args!(
        "  {label}  {} ({}, {}, {}{}{})",
        contents.name,
        contents.kind(),
        contents.machine().unwrap_or("unknown machine"),
        pluralize(contents.vcpus().len(), "vCPU"),
        accelerator.unwrap_or_default(),
        state.map(|state| format!(", {state}")).unwrap_or_default(),
    ));
}

fn print_shape(printer: &mut Printer, diff: &Diff<'_>) {
    if diff.shape.is_empty() {
        return;
    }
    printer.line("");
    printer.line(format_args!(
        "machine and devices, A -> B ({})",
        diff.shape.len()
    ));
    let none = || "none".to_owned();
    for difference in &diff.shape {
        printer.line(format_args!(
            "  {}: {} -> {}",
            difference.part,
            difference.source.clone().unwrap_or_else(none),
            difference.destination.clone().unwrap_or_else(none)
        ));
    }
}

fn print_one_sided(printer: &mut Printer, diff: &Diff<'_>, label: &str, rows: &[RegisterRow]) {
    if rows.is_empty() {
        return;
    }
    printer.line("");
    printer.line(format_args!("registers only in {label} ({})", rows.len()));
    let column = column(diff, rows.iter().map(|row| row.key));
    for row in rows {
        for (vcpus, value) in &row.values {
            let value = match value {
                Some(value) => diff.value_format.describe(row.key, value),
                None => "value not recorded".to_owned(),
            };
            print_register(printer, diff, (row.key, column), &value, vcpus);
        }
    }
}

fn print_values(printer: &mut Printer, diff: &Diff<'_>) {
    if diff.values.is_empty() {
        return;
    }
    printer.line("");
    printer.line(format_args!(
        "values that differ, A -> B ({})",
        diff.values.len()
    ));
    let column = column(diff, diff.values.iter().map(|row| row.key));
    for row in &diff.values {
        let id = row.key;
        for (vcpus, (a, b)) in &row.values {
            if id.is_secret() && !diff.value_format.show_secrets {
                print_register(printer, diff, (id, column), "differs (secret)", vcpus);
                continue;
            }
            let describe = |value: &Value| diff.value_format.describe(id, value);
            let change = format!("{} -> {}", describe(a), describe(b));
            print_register(printer, diff, (id, column), &change, vcpus);
            if let (Some(a), Some(b)) = (a.as_u64(), b.as_u64()) {
                let fields = field_changes(id, a, b);
                if !fields.is_empty() {
                    printer.line(format_args!("      {}", fields.join(", ")));
                }
            }
        }
    }
}

/// Returns the width of the column of register names, in characters.
fn column(diff: &Diff<'_>, ids: impl Iterator<Item = RegisterId>) -> usize {
    let widths = ids.map(|id| diff.value_format.name(id).len());
    widths.max().unwrap_or(0)
}

fn print_register(
    printer: &mut Printer,
    diff: &Diff<'_>,
    (id, column): (RegisterId, usize),
    text: &str,
    vcpus: &VcpuSet,
) {
    let name = diff.value_format.name(id);
    printer.line(format_args!(
        "  {}  {text}  {}{}",
        styled(style::NAME, format_args!("{name:<column$}")),
        styled(style::DIM, format_args!("[{}]", id_digits(id))),
        vcpu_suffix(diff, vcpus)
    ));
}

fn vcpu_suffix(diff: &Diff<'_>, vcpus: &VcpuSet) -> String {
    if diff.is_all_vcpus(vcpus) {
        String::new()
    } else {
        format!("  vCPU {vcpus}")
    }
}

fn print_core_registers(printer: &mut Printer, diff: &Diff<'_>) {
    if diff.core_registers.is_empty() {
        return;
    }
    printer.line("");
    printer.line(format_args!(
        "core registers that differ, A -> B ({})",
        diff.core_registers.len()
    ));
    let show = |value: Option<u64>| value.map_or("none".to_owned(), |value| format!("{value:#x}"));
    for row in &diff.core_registers {
        for (vcpus, (a, b)) in &row.values {
            printer.line(format_args!(
                "  {}  {} -> {}{}",
                styled(style::NAME, &row.key.1),
                show(*a),
                show(*b),
                vcpu_suffix(diff, vcpus)
            ));
        }
    }
}

fn print_extensions(printer: &mut Printer, diff: &Diff<'_>) {
    if diff.differing_extensions() == 0 {
        return;
    }
    printer.line("");
    printer.line(format_args!("extensions ({})", diff.differing_extensions()));
    let only = |printer: &mut Printer, label: &str, rows: &[ExtensionRow]| {
        for row in rows {
            for (vcpus, content) in &row.values {
                printer.line(format_args!(
                    "  {}  only in {label}: {}{}",
                    styled(style::NAME, &row.key),
                    describe_extension(&row.key, content),
                    vcpu_suffix(diff, vcpus)
                ));
            }
        }
    };
    only(printer, "A", &diff.extensions_only_in_a);
    only(printer, "B", &diff.extensions_only_in_b);
    for row in &diff.extensions {
        for (vcpus, (a, b)) in &row.values {
            let (a, b) = (
                describe_extension(&row.key, a),
                describe_extension(&row.key, b),
            );
            let change = if a == b {
                format!("differs ({a})")
            } else {
                format!("{a} -> {b}")
            };
            printer.line(format_args!(
                "  {}  {change}{}",
                styled(style::NAME, &row.key),
                vcpu_suffix(diff, vcpus)
            ));
        }
    }
}

fn print_omissions(printer: &mut Printer, diff: &Diff<'_>) {
    let omissions = diff.omissions;
    let mut lines = Vec::new();
    if omissions.registers + omissions.extensions != 0 {
        let mut omitted = Vec::new();
        if omissions.registers != 0 {
            omitted.push(pluralize(omissions.registers, "register"));
        }
        if omissions.extensions != 0 {
            omitted.push(pluralize(omissions.extensions, "extension"));
        }
        lines.push(format!(
            "omitted: differences in {} that running guests change; --all lists them",
            omitted.join(" and ")
        ));
    }
    if omissions.registers_without_value != 0 {
        lines.push(format!(
            "not compared: {} without a recorded value",
            pluralize(omissions.registers_without_value, "register")
        ));
    }
    if omissions.vcpus != 0 {
        lines.push(format!(
            "not compared: {} that only one side has",
            pluralize(omissions.vcpus, "vCPU")
        ));
    }
    if !lines.is_empty() {
        printer.line("");
    }
    for line in lines {
        printer.line(styled(style::DIM, line));
    }
}
