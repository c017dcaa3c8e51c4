//! `cpreg explain REG [VALUE]` and `cpreg explain LINE…`; the form of the arguments selects the
//! command.

mod lines;
mod register;

use std::path::Path;

use cpreg::register::Naming;

use super::show;
use crate::arguments;
use crate::failure::{Failure, Status};
use crate::printer::Printer;

pub(crate) fn run(
    arguments: &arguments::Explain,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let (word, value) = match (&arguments.file, arguments.query.as_slice()) {
        (None, [word]) if word != "-" => (word, None),
        (None, [word, value]) => (word, Some(value.as_str())),
        _ => return lines::run(arguments, printer),
    };
    match show::parse_selection(word, Naming::Kvm) {
        Ok(selection) => register::run(selection, value, arguments, printer),
        // A line that was broken in two may begin with one long word.
        Err(_)
            if ["", " "]
                .iter()
                .any(|it| lines::is_known_line(&arguments.query.join(it))) =>
        {
            lines::run(arguments, printer)
        }
        // An error line contains blanks. A single word that is no known line is a misspelt
        // register.
        Err(failure) if !word.contains(' ') && !lines::is_known_line(word) => {
            Err(if Path::new(word).is_file() {
                failure.with_hint(format!("{word} is a file: --file {word} reads a log"))
            } else {
                failure
            })
        }
        Err(_) => lines::run(arguments, printer),
    }
}
