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
    let explanation = RegisterExplanation::new(selection, value, history, &tolerances);
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
    let bits = id.size_bytes().map_or(64, |bytes| 8 * bytes);
    if selection.field.is_none() && bits > 64 {
        let failure = Failure::new(format!("{id} has {bits} bits"));
        return Err(failure.with_hint("only values of up to 64 bits are decoded"));
    }
    let value = match selection.field {
        Some(field) => names::parse_field_value(RegisterField { id, field }, text),
        None => names::parse_register_value(id, text).map(|bits| bits.value),
    };
    value.map_err(|failure| failure.with_context(name(selection)))
}

fn name(selection: RegisterSelection) -> String {
    let id = selection.id;
    let field = selection.field.map(|field| RegisterField { id, field });
    field.map_or_else(|| id.to_string(), |field| field.to_string())
}
