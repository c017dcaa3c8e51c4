//! `cpreg tolerances`: the table, printed for people. For other programs: [`crate::export`].

use cpreg::register::{Naming, RegisterId};
use cpreg::tolerance::{Condition, Difference, Handling, Tolerance, Which};

use crate::arguments::{self, Export, Format};
use crate::consents;
use crate::export;
use crate::failure::{Failure, Status};
use crate::printer::{Printer, style, styled};

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
    match (arguments.export, arguments.format) {
        (Some(Export::Json), _) | (None, Format::Json) => export::json::print(printer, &entries)?,
        (Some(Export::Qemu), _) => export::qemu::print(printer, &tolerances, &wanted),
        (Some(Export::Firecracker), _) => export::firecracker::print(printer, &tolerances, &wanted),
        (None, Format::Text) => {
            for (_, entry) in &entries {
                let names = names(&entry.registers).join(", ");
                let name = styled(style::NAME, names);
                print(printer, entry, &format!("{name}  ({})", what_kind(entry)));
                printer.line("");
            }
            if entries.is_empty() {
                printer.line("no entry: a register only in the input refuses; one only at the destination stays at reset");
            }
        }
    }
    Ok(Status::Done)
}

/// What kind of difference it is about: `new, under tcg`.
pub(super) fn what_kind(entry: &Tolerance) -> String {
    let where_ = entry
        .accelerator
        .map(|accelerator| format!(", under {accelerator}"))
        .unwrap_or_default();
    let whose = if entry.by_operator {
        ", an operator's"
    } else {
        ""
    };
    format!("{}{where_}{whose}", entry.category)
}

/// An entry under its heading.
pub(super) fn print(printer: &mut Printer, entry: &Tolerance, heading: &str) {
    printer.line(heading);
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
}

pub(crate) fn names(which: &Which) -> Vec<String> {
    match which {
        Which::These(ids) => ids.iter().map(ToString::to_string).collect(),
        Which::CacheSizes => vec!["CCSIDR_EL1[0] to CCSIDR_EL1[13]".to_owned()],
        Which::ImplementationDefined => vec!["implementation-defined registers".to_owned()],
        Which::ReservedAArch32 => vec!["reserved AArch32 ID registers".to_owned()],
        Which::PerformanceMonitors => vec!["the performance monitors".to_owned()],
    }
}

pub(crate) const fn difference(difference: Difference) -> &'static str {
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
