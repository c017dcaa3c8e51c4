//! `cpreg diff A B`: what differs, by name and field.

use crate::arguments::{self, Format};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::printer::Printer;
use crate::report;
use crate::report::contents::Contents;
use crate::report::diff::Diff;

pub(crate) fn run(arguments: &arguments::Diff, printer: &mut Printer) -> Result<Status, Failure> {
    let reading = &arguments.reading;
    let inputs = [
        Input::open(&arguments.a, reading.verify, printer)?,
        Input::open(&arguments.b, reading.verify, printer)?,
    ];
    let [a, b] = [Contents::of(&inputs[0])?, Contents::of(&inputs[1])?];
    let diff = Diff::new(&a, &b, arguments.all, reading.secrets);
    match reading.format {
        Format::Text => report::diff::text::print(printer, &diff),
        Format::Json => {
            let json = report::diff::json::report(&diff);
            printer.json(&json.map_err(|error| Failure::new("cannot report").because(error))?);
        }
    }
    Ok(if diff.is_equal() {
        Status::Done
    } else {
        Status::Refused
    })
}
