//! Text of `classes`.

use cpreg_fleet::cell::Symbol;

use super::model::{Boundary, ClassesReport, FeatureClasses};
use crate::matrix::text::in_groups;
use crate::printer::{Printer, heading, style, styled};
use crate::text::{list_first, pluralize};

/// Prints the classes of each set of features. `in_full` lists all registers of a boundary.
pub fn print(printer: &mut Printer, report: &ClassesReport, in_full: bool) {
    for (index, classes) in report.features.iter().enumerate() {
        if index > 0 {
            printer.line("");
        }
        print_classes(printer, classes, in_full);
    }
}

fn print_classes(printer: &mut Printer, report: &FeatureClasses, in_full: bool) {
    let features = if report.features.is_empty() {
        "none".to_owned()
    } else {
        report.features.join(",")
    };
    let hosts: usize = report.classes.iter().map(|class| class.hosts.len()).sum();
    printer.line(heading(format_args!(
        "guests with the features {features}: {} in {}",
        pluralize(hosts, "host"),
        if report.classes.len() == 1 {
            "1 class".to_owned()
        } else {
            format!("{} classes", report.classes.len())
        }
    )));
    for (index, class) in report.classes.iter().enumerate() {
        printer.paragraph(
            &format!("{:>4}  {}  ", index + 1, styled(style::NAME, &class.key)),
            class.hosts.join(", "),
        );
        if let Some(boundary) = &class.boundary {
            printer.paragraph(
                &format!(
                    "      {}: ",
                    styled(style::DIM, format_args!("differs from {index}"))
                ),
                describe_boundary(boundary, in_full),
            );
        }
    }
    if !report.not_recorded.is_empty() {
        printer.paragraph(
            "not recorded for such guests: ",
            report.not_recorded.join(", "),
        );
    }
    printer.line("");
    printer.line(heading(
        "new VMs of the class in front, at classes 1, 2, 3, …",
    ));
    for (index, class) in report.classes.iter().enumerate() {
        let symbols = class.moves_to.iter().flat_map(|symbol| symbol.chars());
        let groups = in_groups(symbols);
        let per_line = (printer.width().saturating_sub(6) / 11).max(1);
        for (number, line) in groups.chunks(per_line).enumerate() {
            let begin = if number == 0 {
                format!("{:>4}", index + 1)
            } else {
                " ".repeat(4)
            };
            printer.line(format_args!("{begin}  {}", line.join(" ")));
        }
    }
    for symbol in Symbol::ALL {
        let name = symbol.character().to_string();
        let mut rows = report.classes.iter();
        if rows.any(|class| class.moves_to.contains(&name)) {
            printer.paragraph(&format!("  {name}  "), symbol.meaning());
        }
    }
}

/// Returns what separates a class from the one before it, in words.
fn describe_boundary(boundary: &Boundary, in_full: bool) -> String {
    /// Maximum number of names of each kind in a short report.
    const MAX_LISTED: usize = 4;
    let parts = [
        ("no longer lists ", &boundary.removed),
        ("lists ", &boundary.added),
        ("other initial values: ", &boundary.values),
        ("accepts other values: ", &boundary.accepted),
        ("ID fields hide otherwise: ", &boundary.gates),
        (
            "other properties: ",
            &boundary
                .facts
                .iter()
                .map(|fact| describe_fact(fact))
                .collect(),
        ),
    ];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    let parts = parts.map(|(words, names)| {
        let shown = if in_full { names.len() } else { MAX_LISTED };
        format!("{words}{}", list_first(names, shown))
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// Returns the name of another part of the key in words.
fn describe_fact(name: &str) -> String {
    match name {
        "rules" => "the parts of a value that the kernel replaces after it has accepted the value",
        "series" => "the kernel's series",
        "values" => "the origin of the values",
        name => name,
    }
    .to_owned()
}
