//! `cpreg explain REG [VALUE]`: what is known about a register.

use std::borrow::Cow;

use cpreg::register::{RegisterField, RegisterId};
use cpreg::tolerance::{Tolerance, Tolerances, Which};

use crate::arguments::{self, Format};
use crate::commands::tolerances;
use crate::consents;
use crate::destination::hosts;
use crate::failure::{Failure, Status};
use crate::printer::{Printer, style, styled};
use crate::report::explain::register::{self, Explained};
use crate::report::show::Wanted;

/// Explains a register or field, and a value of it.
pub(crate) fn run(
    wanted: Wanted,
    value: Option<&str>,
    arguments: &arguments::Explain,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let value = value.map(|text| value_of(wanted, text)).transpose()?;
    let history = hosts::history()?;
    let table = Tolerances::default();
    let explained = Explained::new(wanted, value, &history, &table);
    match arguments.format {
        Format::Text => {
            register::text::print(printer, &explained);
            print_tolerances(printer, &explained);
        }
        Format::Json => {
            let json = register::json::report(&explained);
            printer.json(&json.map_err(|error| Failure::new("cannot report").because(error))?);
        }
    }
    Ok(Status::Done)
}

/// A value of the register, or of its field if one was asked for.
fn value_of(wanted: Wanted, text: &str) -> Result<u64, Failure> {
    let id = wanted.id;
    let (named, bits) = if let Some(field) = wanted.field {
        let named = RegisterField { id, field }.value_named(text);
        (named, usize::from(field.width()))
    } else {
        let bits = id.size_bytes().map_or(64, |bytes| 8 * bytes);
        (id.value_named(text), bits)
    };
    if bits > 64 {
        let failure = Failure::new(format!("{id} holds {bits} bits"));
        return Err(failure.hint("only values of up to 64 bits are decoded"));
    }
    let value = named.map_or_else(|| consents::number(text), Ok);
    let value = value.map_err(|failure| names_hint(failure, wanted))?;
    if bits < 64 && value >> bits != 0 {
        let s = if bits == 1 { "" } else { "s" };
        return Err(Failure::new(format!(
            "{value:#x} does not fit into the {bits} bit{s} of {}",
            name(wanted)
        )));
    }
    Ok(value)
}

/// Tells which values have names, where some do.
fn names_hint(failure: Failure, wanted: Wanted) -> Failure {
    let id = wanted.id;
    let names: Vec<_> = match wanted.field {
        Some(field) => RegisterField { id, field }.named_values().collect(),
        None => id.named_values().collect(),
    };
    if names.is_empty() {
        return failure;
    }
    let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
    failure.hint(format!("or by its name: {}", names.join(", ")))
}

fn name(wanted: Wanted) -> String {
    let id = wanted.id;
    let field = wanted.field.map(|field| RegisterField { id, field });
    field.map_or_else(|| id.to_string(), |field| field.to_string())
}

fn print_tolerances(printer: &mut Printer, explained: &Explained<'_>) {
    for (_, entry) in &explained.tolerances {
        printer.line("");
        let kind = tolerances::what_kind(entry);
        let others = others(entry, explained.id);
        let heading = styled(style::NAME, "tolerance");
        let heading = format!("{heading}  ({kind}{others})");
        tolerances::print(printer, &addressed(entry), &heading);
    }
    if explained.tolerances.is_empty() && explained.is_met() {
        printer.line("");
        printer.line(
            "no tolerance: if only the input has it, or its value is not taken, that refuses; if only the destination has it, it stays at reset",
        );
    }
}

/// Which other registers an entry is about.
fn others(entry: &Tolerance, id: RegisterId) -> String {
    const FEW: usize = 4;
    let names = match &entry.registers {
        Which::These(ids) => {
            let others = ids.iter().filter(|other| **other != id);
            let others: Vec<_> = others.map(ToString::to_string).collect();
            match others.len() {
                0 => return String::new(),
                1..=FEW => others,
                many => vec![format!("{many} others")],
            }
        }
        _ => tolerances::names(&entry.registers),
    };
    format!("; also about {}", names.join(", "))
}

/// The entry with a word for the destination's value, which is not known here.
fn addressed(entry: &Tolerance) -> Cow<'_, Tolerance> {
    if !entry.advice.contains("{host}") {
        return Cow::Borrowed(entry);
    }
    Cow::Owned(Tolerance {
        advice: entry.advice.replace("{host}", "VALUE").into(),
        ..entry.clone()
    })
}
