//! `cpreg diff A B`: what differs, by name and field.

use std::path::Path;

use crate::arguments::{self, Format};
use crate::destination::hosts::{self, Guest};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::printer::Printer;
use crate::report;
use crate::report::contents::Contents;
use crate::report::diff::Diff;

pub(crate) fn run(arguments: &arguments::Diff, printer: &mut Printer) -> Result<Status, Failure> {
    let reading = &arguments.reading;
    let inputs = open(arguments, printer)?;
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

/// Opens both. A recorded host without features in its name is taken for the guest on the other side.
fn open(arguments: &arguments::Diff, printer: &Printer) -> Result<[Input; 2], Failure> {
    let file = |path: &Path| Input::open(path, arguments.reading.verify, printer);
    let host = |name, guest| hosts::open(name, guest).map(|(input, _)| input);
    let (a, b) = (&arguments.a, &arguments.b);
    let guest = |other: &Path| hosts::features_in(other).map_or(Guest::Nobody, Guest::Having);
    Ok(match (hosts::name_of(a), hosts::name_of(b)) {
        (None, None) => [file(a)?, file(b)?],
        (Some(a), None) => {
            let b = file(b)?;
            [host(a, Guest::In(&b))?, b]
        }
        (None, Some(b)) => {
            let a = file(a)?;
            let b = host(b, Guest::In(&a))?;
            [a, b]
        }
        (Some(one), Some(other)) => [host(one, guest(b))?, host(other, guest(a))?],
    })
}
