//! `cpreg explain REG [VALUE]`: explains a register.

use cpreg::register::RegisterField;
use cpreg::tolerance::Tolerances;
use cpreg_report::explain::register::{self, RegisterExplanation};
use cpreg_report::field::RegisterSelection;

use crate::arguments::{self, Format};
use crate::destination::hosts;
use crate::failure::{Failure, Status};
use crate::names;
use crate::printer::{Printer, print_json};

/// Explains a register or field, and its value if the user gives one.
pub(crate) fn run(
    selection: RegisterSelection,
    value: Option<&str>,
    arguments: &arguments::Explain,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let value = value.map(|text| parse_value(selection, text)).transpose()?;
    let history = hosts::history()?;
    let tolerances = Tolerances::default();
    let explanation = RegisterExplanation::new(selection, value, &history, &tolerances);
    match arguments.format {
        Format::Text => {
            register::text::print(printer, &explanation);
        }
        Format::Json => {
            print_json(
                printer,
                &register::model::ExplainRegisterReport::from(&explanation),
            )?;
        }
    }
    Ok(Status::Success)
}

/// Parses a value of the selected field, or of the whole register.
fn parse_value(selection: RegisterSelection, text: &str) -> Result<u64, Failure> {
    let id = selection.id;
    let (named, bits) = if let Some(field) = selection.field {
        let named = RegisterField { id, field }.value_by_name(text);
        (named, usize::from(field.width()))
    } else {
        let bits = id.size_bytes().map_or(64, |bytes| 8 * bytes);
        (id.value_by_name(text), bits)
    };
    if bits > 64 {
        let failure = Failure::new(format!("{id} has {bits} bits"));
        return Err(failure.with_hint("only values of up to 64 bits are decoded"));
    }
    let value = named.map_or_else(|| names::parse_number(text), Ok);
    let value = value.map_err(|failure| with_value_names(failure, selection))?;
    if bits < 64 && value >> bits != 0 {
        let s = if bits == 1 { "" } else { "s" };
        return Err(Failure::new(format!(
            "{value:#x} does not fit into the {bits} bit{s} of {}",
            name(selection)
        )));
    }
    Ok(value)
}

/// Adds the named values of the register or field as a hint, if it has any.
fn with_value_names(failure: Failure, selection: RegisterSelection) -> Failure {
    let id = selection.id;
    let names: Vec<_> = match selection.field {
        Some(field) => RegisterField { id, field }.named_values().collect(),
        None => id.named_values().collect(),
    };
    if names.is_empty() {
        return failure;
    }
    let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
    failure.with_hint(format!("or by its name: {}", names.join(", ")))
}

fn name(selection: RegisterSelection) -> String {
    let id = selection.id;
    let field = selection.field.map(|field| RegisterField { id, field });
    field.map_or_else(|| id.to_string(), |field| field.to_string())
}
