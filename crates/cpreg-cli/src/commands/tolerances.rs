//! `cpreg tolerances`: the table, printed.

use cpreg::destination::Accelerator;
use cpreg::register::{Naming, RegisterId};
use cpreg::tolerance::{Condition, Difference, Handling, Tolerance, Which};
use serde::Serialize;

use crate::arguments::{self, Format};
use crate::consents;
use crate::failure::{Failure, Status};
use crate::printer::{Printer, style, styled};

/// The JSON's schema and version.
const SCHEMA: &str = "cpreg.tolerances/1";

pub(crate) fn run(
    arguments: &arguments::Tolerances,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let tolerances = consents::tolerances(&arguments.tolerances)?;
    let wanted: Vec<RegisterId> = arguments
        .registers
        .iter()
        .map(|text| consents::register(text, Naming::Kvm))
        .collect::<Result<_, _>>()?;
    let entries: Vec<(usize, &Tolerance)> = tolerances
        .entries()
        .iter()
        .enumerate()
        .filter(|(_, entry)| {
            wanted.is_empty() || wanted.iter().any(|id| entry.registers.contains(*id))
        })
        .collect();
    match arguments.format {
        Format::Text => {
            for (_, entry) in &entries {
                print(printer, entry);
            }
            if entries.is_empty() {
                printer.line("no entry: a register only in the input refuses; one only at the destination stays at reset");
            }
        }
        Format::Json => {
            let report = Report {
                schema: SCHEMA,
                tolerances: entries
                    .iter()
                    .map(|(number, entry)| report(*number, entry))
                    .collect(),
            };
            let mut text = serde_json::to_string_pretty(&report)
                .map_err(|error| Failure::new("cannot report").because(error))?;
            text.push('\n');
            printer.json(&text);
        }
    }
    Ok(Status::Done)
}

fn print(printer: &mut Printer, entry: &Tolerance) {
    let where_ = entry
        .accelerator
        .map(|accelerator| format!(", under {accelerator}"))
        .unwrap_or_default();
    printer.line(format_args!(
        "{}  ({}{where_}{})",
        styled(style::NAME, names(&entry.registers).join(", ")),
        entry.category,
        if entry.by_operator {
            ", an operator's"
        } else {
            ""
        }
    ));
    printer.line(format_args!(
        "  {}: {}{}",
        difference(entry.difference),
        handling(entry.handling),
        condition(&entry.condition)
    ));
    printer.line(format_args!("  why: {}", entry.reason));
    if let Some(visible) = &entry.visible {
        printer.line(format_args!(
            "  the guest could notice ({}): {}",
            visible.severity, visible.what
        ));
    }
    if !entry.advice.is_empty() {
        printer.line(format_args!("  otherwise: {}", entry.advice));
    }
    for change in &entry.history {
        let commit = if change.commit.is_empty() {
            String::new()
        } else {
            format!(" ({})", change.commit)
        };
        printer.line(styled(
            style::ASIDE,
            format_args!("  {}{commit}: {}", change.release, change.what),
        ));
    }
    printer.line("");
}

fn names(which: &Which) -> Vec<String> {
    match which {
        Which::These(ids) => ids.iter().map(ToString::to_string).collect(),
        Which::CacheSizes => vec!["CCSIDR_EL1[0] to CCSIDR_EL1[13]".to_owned()],
        Which::ImplementationDefined => vec!["implementation-defined registers".to_owned()],
        Which::ReservedAArch32 => vec!["reserved AArch32 ID registers".to_owned()],
        Which::PerformanceMonitors => vec!["the performance monitors".to_owned()],
    }
}

const fn difference(difference: Difference) -> &'static str {
    match difference {
        Difference::OnlyInInput => "only in the input",
        Difference::OnlyAtDestination => "only at the destination",
        Difference::ValueNotTaken => "value not taken",
    }
}

/// What is done, in words.
pub(crate) fn handling(handling: Handling) -> String {
    match handling {
        Handling::Ignore => "ignore".to_owned(),
        Handling::KeepAtReset => "keep at reset".to_owned(),
        Handling::Set(value) => format!("set to {value:#x}"),
        Handling::SetToNearest => "set to the nearest value that is taken".to_owned(),
        Handling::Refuse => "refuse".to_owned(),
    }
}

/// When, in words: `, if …`, or nothing.
pub(crate) fn condition(of: &Condition) -> String {
    match of {
        Condition::Always => String::new(),
        Condition::Both(one, other) => {
            let other = condition(other);
            format!(
                "{} and {}",
                condition(one),
                other.strip_prefix(", if ").unwrap_or(&other)
            )
        }
        Condition::Value { mask, expected } => {
            format!(", if it holds {}", masked(*mask, *expected))
        }
        Condition::Other {
            register,
            mask,
            expected,
        } => format!(", if {register} holds {}", masked(*mask, *expected)),
        Condition::WithoutFeature {
            register, field, ..
        } => format!(", if {register}.{field} is 0"),
        Condition::DiffersIn { mask } => {
            format!(", if it differs from the destination's only in the bits {mask:#x}")
        }
        Condition::NoSuchCache => ", if CLIDR_EL1 has no such cache".to_owned(),
        Condition::MonitorsUnused => {
            ", if the VM there has none and all hold what they held at reset".to_owned()
        }
    }
}

fn masked(mask: u64, expected: u64) -> String {
    if mask == u64::MAX {
        format!("{expected:#x}")
    } else {
        format!("{expected:#x} in the bits {mask:#x}")
    }
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    tolerances: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    number: usize,
    registers: Vec<String>,
    accelerator: Option<&'static str>,
    category: &'static str,
    difference: &'static str,
    handling: String,
    condition: String,
    reason: String,
    advice: Option<String>,
    visible: Option<String>,
    severity: Option<&'static str>,
    history: Vec<Change>,
    by_operator: bool,
}

#[derive(Serialize)]
struct Change {
    release: &'static str,
    commit: &'static str,
    what: &'static str,
}

fn report(number: usize, entry: &Tolerance) -> Entry {
    Entry {
        number,
        registers: names(&entry.registers),
        accelerator: entry.accelerator.map(Accelerator::name),
        category: entry.category.name(),
        difference: entry.difference.name(),
        handling: handling(entry.handling),
        condition: condition(&entry.condition)
            .trim_start_matches(", if ")
            .to_owned(),
        reason: entry.reason.clone().into_owned(),
        advice: (!entry.advice.is_empty()).then(|| entry.advice.clone().into_owned()),
        visible: entry
            .visible
            .as_ref()
            .map(|visible| visible.what.clone().into_owned()),
        severity: entry
            .visible
            .as_ref()
            .map(|visible| visible.severity.name()),
        history: entry
            .history
            .iter()
            .map(|change| Change {
                release: change.release,
                commit: change.commit,
                what: change.what,
            })
            .collect(),
        by_operator: entry.by_operator,
    }
}
