//! `cpreg explain REG [VALUE]`: what is known about a register.

use cpreg::register::RegisterField;
use cpreg::tolerance::Tolerances;
use cpreg_report::explain::register::{self, RegisterExplanation};
use cpreg_report::field::RegisterSelection;

use crate::arguments::{self, Format};
use crate::destination::hosts;
use crate::failure::{Failure, Status};
use crate::names;
use crate::printer::{Printer, print_json};

/// Explains a register or field, and a value of it.
pub(crate) fn run(
    wanted: RegisterSelection,
    value: Option<&str>,
    arguments: &arguments::Explain,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let value = value.map(|text| parse_value(wanted, text)).transpose()?;
    let history = hosts::history()?;
    let table = Tolerances::default();
    let explained = RegisterExplanation::new(wanted, value, &history, &table);
    match arguments.format {
        Format::Text => {
            register::text::print(printer, &explained);
        }
        Format::Json => {
            print_json(
                printer,
                &register::model::ExplainRegisterReport::from(&explained),
            )?;
        }
    }
    Ok(Status::Success)
}

/// A value of the register, or of its field if one was asked for.
fn parse_value(wanted: RegisterSelection, text: &str) -> Result<u64, Failure> {
    let id = wanted.id;
    let (named, bits) = if let Some(field) = wanted.field {
        let named = RegisterField { id, field }.value_by_name(text);
        (named, usize::from(field.width()))
    } else {
        let bits = id.size_bytes().map_or(64, |bytes| 8 * bytes);
        (id.value_by_name(text), bits)
    };
    if bits > 64 {
        let failure = Failure::new(format!("{id} holds {bits} bits"));
        return Err(failure.with_hint("only values of up to 64 bits are decoded"));
    }
    let value = named.map_or_else(|| names::parse_number(text), Ok);
    let value = value.map_err(|failure| with_value_names(failure, wanted))?;
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
fn with_value_names(failure: Failure, wanted: RegisterSelection) -> Failure {
    let id = wanted.id;
    let names: Vec<_> = match wanted.field {
        Some(field) => RegisterField { id, field }.named_values().collect(),
        None => id.named_values().collect(),
    };
    if names.is_empty() {
        return failure;
    }
    let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
    failure.with_hint(format!("or by its name: {}", names.join(", ")))
}

fn name(wanted: RegisterSelection) -> String {
    let id = wanted.id;
    let field = wanted.field.map(|field| RegisterField { id, field });
    field.map_or_else(|| id.to_string(), |field| field.to_string())
}
