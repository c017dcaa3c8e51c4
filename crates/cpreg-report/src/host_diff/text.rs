//! Text of `diff` for two recorded hosts: name, value of A, value of B, id.

use cpreg::destination::Features;
use cpreg::register::RegisterId;
use cpreg_hosts::record::AtReset;

use super::json::to_omissions;
use super::model::Omissions;
use super::{ComparedHost, HostDiff, HostDifference, group_trials};
use crate::host::{describe_mask, errno_name};
use crate::printer::{Printer, style, styled};
use crate::text::pluralize;
use crate::value::{field_changes, id_digits};

/// Prints the whole report.
pub fn print(printer: &mut Printer, diff: &HostDiff<'_>) {
    print_header(printer, diff);
    print_capabilities(printer, diff);
    print_one_sided(printer, diff, "A", &diff.only_in_a);
    print_one_sided(printer, diff, "B", &diff.only_in_b);
    print_section(
        printer,
        diff,
        "values at reset",
        &diff.values,
        |id, (a, b)| {
            if id.is_secret() && !diff.value_format.show_secrets {
                return ("differs (secret)".to_owned(), Vec::new());
            }
            let describe = |value| diff.value_format.describe(id, value);
            let fields = match (a.as_u64(), b.as_u64()) {
                (Some(a), Some(b)) => field_changes(id, a, b),
                _ => Vec::new(),
            };
            (format!("{} -> {}", describe(a), describe(b)), fields)
        },
    );
    print_section(
        printer,
        diff,
        "write-back of the reset value",
        &diff.write_back,
        |_, (a, b)| {
            let describe = |errno: &u16| match errno {
                0 => "accepted".to_owned(),
                errno => format!("refused ({})", errno_name(*errno)),
            };
            (format!("{} -> {}", describe(a), describe(b)), Vec::new())
        },
    );
    print_section(
        printer,
        diff,
        "writable bits",
        &diff.writable,
        |id, (a, b)| {
            let (only_in_a, only_in_b) = (describe_mask(id, a & !b), describe_mask(id, b & !a));
            let list = |label: &str, fields: Vec<String>| {
                (!fields.is_empty()).then(|| format!("{label}: {}", fields.join(", ")))
            };
            let fields = [list("only in A", only_in_a), list("only in B", only_in_b)];
            (
                format!("{a:#x} -> {b:#x}"),
                fields.into_iter().flatten().collect(),
            )
        },
    );
    print_section(
        printer,
        diff,
        "accepted values",
        &diff.accepted_values,
        |id, (a, b)| {
            (
                format!("{} -> {}", a.describe(id), b.describe(id)),
                Vec::new(),
            )
        },
    );
    print_section(
        printer,
        diff,
        "values that were tried",
        &group_trials(&diff.trials),
        |_, (values, change)| (format!("{}: {change}", values.join(", ")), Vec::new()),
    );
    print_omissions(printer, &to_omissions(diff.value_format, &diff.omissions));
}

fn print_header(printer: &mut Printer, diff: &HostDiff<'_>) {
    if diff.is_equal() {
        printer.line(format_args!(
            "{}: {}",
            styled(style::GOOD, "equal"),
            pluralize(diff.guests.len(), "guest"),
        ));
    } else {
        let counts = diff.counts().into_iter();
        let counts = counts.filter(|(_, count)| *count != 0);
        let counts: Vec<_> = counts
            .map(|(kind, count)| format!("{kind} ({count})"))
            .collect();
        printer.line(format_args!(
            "{}: {}",
            styled(style::ERROR, "differ"),
            counts.join(", ")
        ));
    }
    print_side(printer, "A", diff.a);
    print_side(printer, "B", diff.b);
    printer.line("");
    let names = |sets: &[Features]| {
        let names = sets.iter().map(ToString::to_string);
        names.collect::<Vec<_>>().join("; ")
    };
    printer.line(format_args!("guests compared: {}", names(&diff.guests)));
    for (label, sets) in [("A", &diff.guests_only_in_a), ("B", &diff.guests_only_in_b)] {
        if !sets.is_empty() {
            printer.line(format_args!("guests only in {label}: {}", names(sets)));
        }
    }
}

fn print_side(printer: &mut Printer, label: &str, host: ComparedHost<'_>) {
    let identity = &host.record.identity;
    let emulated = if identity.emulated { ", emulated" } else { "" };
    printer.line(format_args!(
        "  {label}  {} (Linux {}, {}, MIDR_EL1 {:#x}{emulated})",
        host.argument,
        identity.release,
        identity.cpu_and_mode(),
        identity.midr,
    ));
}

fn print_capabilities(printer: &mut Printer, diff: &HostDiff<'_>) {
    if diff.capabilities.is_empty() {
        return;
    }
    printer.line("");
    printer.line(format_args!(
        "capabilities, A -> B ({})",
        diff.capabilities.len()
    ));
    for (name, a, b) in &diff.capabilities {
        printer.line(format_args!("  {}  {a} -> {b}", styled(style::NAME, name)));
    }
}

fn print_one_sided(
    printer: &mut Printer,
    diff: &HostDiff<'_>,
    label: &str,
    rows: &[HostDifference<AtReset>],
) {
    let title = format!("registers only in {label}");
    print_rows(printer, diff, &title, rows, |id, at_reset| {
        let content = match at_reset {
            AtReset::Value(value) => diff.value_format.describe(id, value),
            AtReset::Poison => "UNKNOWN (KVM's reset poison)".to_owned(),
            AtReset::Counter => "counter".to_owned(),
            AtReset::Unreadable(number) => format!("cannot be read: {}", errno_name(*number)),
        };
        (content, Vec::new())
    });
}

fn print_section<T>(
    printer: &mut Printer,
    diff: &HostDiff<'_>,
    title: &str,
    rows: &[HostDifference<T>],
    describe: impl Fn(RegisterId, &T) -> (String, Vec<String>),
) {
    print_rows(printer, diff, &format!("{title}, A -> B"), rows, describe);
}

/// Prints a line for each row, and the fields of the row. `describe` returns both texts.
fn print_rows<T>(
    printer: &mut Printer,
    diff: &HostDiff<'_>,
    title: &str,
    rows: &[HostDifference<T>],
    describe: impl Fn(RegisterId, &T) -> (String, Vec<String>),
) {
    if rows.is_empty() {
        return;
    }
    printer.line("");
    printer.line(format_args!("{title} ({})", rows.len()));
    let names = rows.iter().map(|row| diff.value_format.name(row.id).len());
    let column = names.max().unwrap_or(0);
    for row in rows {
        let name = diff.value_format.name(row.id);
        let (change, fields) = describe(row.id, &row.difference);
        printer.line(format_args!(
            "  {}  {change}  {}{}",
            styled(style::NAME, format_args!("{name:<column$}")),
            styled(style::DIM, format_args!("[{}]", id_digits(row.id))),
            guests_suffix(diff, &row.guests)
        ));
        if !fields.is_empty() {
            printer.line(format_args!("      {}", fields.join(", ")));
        }
    }
}

/// Returns the guests that show a difference, or an empty text for all guests.
fn guests_suffix(diff: &HostDiff<'_>, guests: &[Features]) -> String {
    if guests.len() == diff.guests.len() {
        return String::new();
    }
    let names: Vec<_> = guests.iter().map(ToString::to_string).collect();
    format!("  {}", names.join("; "))
}

/// Prints the kinds of facts that were not compared.
pub(crate) fn print_omissions(printer: &mut Printer, omissions: &Omissions) {
    let mut lines = Vec::new();
    if !omissions.registers_without_value.is_empty() {
        lines.push(format!(
            "not compared: {} without a value on one side (KVM's reset poison, a counter, \
             unreadable, or different by vCPU)",
            pluralize(omissions.registers_without_value.len(), "register")
        ));
    }
    if !omissions.guests_without_writable_masks.is_empty() {
        lines.push(
            "not compared: writable bits, which only one of the kernels reports (since Linux 6.7)"
                .to_owned(),
        );
    }
    if !omissions.one_sided_trials.is_empty() {
        lines.push(format!(
            "not compared: trial writes of {}, made on only one of the hosts",
            pluralize(omissions.one_sided_trials.len(), "register")
        ));
    }
    if !lines.is_empty() {
        printer.line("");
    }
    for line in lines {
        printer.line(styled(style::DIM, line));
    }
}
