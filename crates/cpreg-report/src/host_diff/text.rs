//! The text of `diff` for two recorded hosts: A's, then B's; names first, ids behind.

use cpreg::destination::Features;
use cpreg::register::RegisterId;
use cpreg_hosts::record::{AtReset, Trial};

use super::{HostDiff, Row, Side};
use crate::host::{errno, fields_in, outcome};
use crate::printer::{Printer, style, styled};
use crate::text::counted;
use crate::value::{field_changes, id_digits};

/// Prints the whole answer.
pub fn print(printer: &mut Printer, diff: &HostDiff<'_>) {
    head(printer, diff);
    capabilities(printer, diff);
    only(printer, diff, "A", &diff.only_a);
    only(printer, diff, "B", &diff.only_b);
    section(
        printer,
        diff,
        "values at reset",
        &diff.values,
        |id, (a, b)| {
            if id.is_secret() && !diff.printing.secrets {
                return ("differs (secret)".to_owned(), Vec::new());
            }
            let describe = |value| diff.printing.describe(id, value);
            let fields = match (a.as_u64(), b.as_u64()) {
                (Some(a), Some(b)) => field_changes(id, a, b),
                _ => Vec::new(),
            };
            (format!("{} -> {}", describe(a), describe(b)), fields)
        },
    );
    section(
        printer,
        diff,
        "writing back what was read",
        &diff.write_back,
        |_, (a, b)| {
            let says = |number: &u16| match number {
                0 => "taken".to_owned(),
                number => format!("refused ({})", errno(*number)),
            };
            (format!("{} -> {}", says(a), says(b)), Vec::new())
        },
    );
    section(
        printer,
        diff,
        "writable bits",
        &diff.writable,
        |id, (a, b)| {
            let (gone, new) = (fields_in(id, a & !b), fields_in(id, b & !a));
            let list = |what: &str, fields: Vec<String>| {
                (!fields.is_empty()).then(|| format!("{what}: {}", fields.join(", ")))
            };
            let fields = [list("no longer", gone), list("also", new)];
            (
                format!("{a:#x} -> {b:#x}"),
                fields.into_iter().flatten().collect(),
            )
        },
    );
    section(
        printer,
        diff,
        "values that are taken",
        &diff.takes,
        |id, (a, b)| {
            (
                format!("{} -> {}", a.in_words(id), b.in_words(id)),
                Vec::new(),
            )
        },
    );
    section(
        printer,
        diff,
        "values that were tried",
        &tried(&diff.trials),
        |_, (values, change)| (format!("{}: {change}", values.join(", ")), Vec::new()),
    );
    left_out(printer, diff);
}

/// Trials of a register that came out alike, in one row: the values and what became of them.
fn tried(rows: &[Row<(Trial, Trial)>]) -> Vec<Row<(Vec<String>, String)>> {
    let mut together: Vec<Row<(Vec<String>, String)>> = Vec::new();
    for row in rows {
        let (a, b) = &row.what;
        let (value, change) = (
            format!("{:#x}", a.value),
            format!("{} -> {}", outcome(a), outcome(b)),
        );
        let alike = together.iter_mut().find(|other| {
            other.id == row.id && other.what.1 == change && other.guests == row.guests
        });
        match alike {
            Some(alike) => alike.what.0.push(value),
            None => together.push(Row {
                id: row.id,
                what: (vec![value], change),
                guests: row.guests.clone(),
            }),
        }
    }
    together
}

fn head(printer: &mut Printer, diff: &HostDiff<'_>) {
    if diff.is_equal() {
        printer.line(format_args!(
            "{}: {}",
            styled(style::GOOD, "equal"),
            counted(diff.guests.len(), "guest"),
        ));
    } else {
        let counts = diff.counts().into_iter();
        let counts = counts.filter(|(_, count)| *count != 0);
        let counts: Vec<_> = counts
            .map(|(what, count)| format!("{what} ({count})"))
            .collect();
        printer.line(format_args!(
            "{}: {}",
            styled(style::BAD, "differ"),
            counts.join(", ")
        ));
    }
    side(printer, "A", diff.a);
    side(printer, "B", diff.b);
    printer.line("");
    let names = |sets: &[Features]| {
        let names = sets.iter().map(ToString::to_string);
        names.collect::<Vec<_>>().join("; ")
    };
    printer.line(format_args!("guests compared: {}", names(&diff.guests)));
    for (label, sets) in [("A", &diff.guests_only_a), ("B", &diff.guests_only_b)] {
        if !sets.is_empty() {
            printer.line(format_args!("guests only in {label}: {}", names(sets)));
        }
    }
}

fn side(printer: &mut Printer, label: &str, named: Side<'_>) {
    let identity = &named.record.identity;
    let emulated = if identity.emulated { ", emulated" } else { "" };
    printer.line(format_args!(
        "  {label}  {} (Linux {}, {}, MIDR_EL1 {:#x}{emulated})",
        named.written,
        identity.release,
        identity.cpu_and_mode(),
        identity.midr,
    ));
}

fn capabilities(printer: &mut Printer, diff: &HostDiff<'_>) {
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

fn only(printer: &mut Printer, diff: &HostDiff<'_>, label: &str, rows: &[Row<AtReset>]) {
    let title = format!("registers only in {label}");
    list(printer, diff, &title, rows, |id, at_reset| {
        let held = match at_reset {
            AtReset::Value(value) => diff.printing.describe(id, value),
            AtReset::Poison => "poison".to_owned(),
            AtReset::Counts => "counts".to_owned(),
            AtReset::Unreadable(number) => format!("cannot be read: {}", errno(*number)),
        };
        (held, Vec::new())
    });
}

fn section<T>(
    printer: &mut Printer,
    diff: &HostDiff<'_>,
    title: &str,
    rows: &[Row<T>],
    says: impl Fn(RegisterId, &T) -> (String, Vec<String>),
) {
    list(printer, diff, &format!("{title}, A -> B"), rows, says);
}

/// A line for each row, and what `says` gives of its fields below it.
fn list<T>(
    printer: &mut Printer,
    diff: &HostDiff<'_>,
    title: &str,
    rows: &[Row<T>],
    says: impl Fn(RegisterId, &T) -> (String, Vec<String>),
) {
    if rows.is_empty() {
        return;
    }
    printer.line("");
    printer.line(format_args!("{title} ({})", rows.len()));
    let names = rows.iter().map(|row| diff.printing.name(row.id).len());
    let column = names.max().unwrap_or(0);
    for row in rows {
        let name = diff.printing.name(row.id);
        let (change, fields) = says(row.id, &row.what);
        printer.line(format_args!(
            "  {}  {change}  {}{}",
            styled(style::NAME, format_args!("{name:<column$}")),
            styled(style::ASIDE, format_args!("[{}]", id_digits(row.id))),
            of_guests(diff, &row.guests)
        ));
        if !fields.is_empty() {
            printer.line(format_args!("      {}", fields.join(", ")));
        }
    }
}

/// The guests that a difference is about, where it is not all.
fn of_guests(diff: &HostDiff<'_>, guests: &[Features]) -> String {
    if guests.len() == diff.guests.len() {
        return String::new();
    }
    let names: Vec<_> = guests.iter().map(ToString::to_string).collect();
    format!("  {}", names.join("; "))
}

fn left_out(printer: &mut Printer, diff: &HostDiff<'_>) {
    let left_out = &diff.left_out;
    let mut lines = Vec::new();
    if !left_out.no_value.is_empty() {
        lines.push(format!(
            "not compared: what {} held, as it is no value: KVM's reset poison, counters, \
             another on each vCPU",
            counted(left_out.no_value.len(), "register")
        ));
    }
    if !left_out.masks.is_empty() {
        lines.push(
            "not compared: writable bits, of which only one of the kernels tells (since Linux 6.7)"
                .to_owned(),
        );
    }
    if !left_out.untried.is_empty() {
        lines.push(format!(
            "not compared: values of {} that were tried on one side only",
            counted(left_out.untried.len(), "register")
        ));
    }
    if !lines.is_empty() {
        printer.line("");
    }
    for line in lines {
        printer.line(styled(style::ASIDE, line));
    }
}
