//! `cpreg explain REG [VALUE]`, `cpreg explain LINE…`: which of both is meant.

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
    match show::parse_wanted(word, Naming::Kvm) {
        Ok(wanted) => register::run(wanted, value, arguments, printer),
        // A line has blanks; one word that says nothing is a register's name gone wrong.
        Err(no_register) if !word.contains(' ') && !lines::is_known_line(word) => {
            Err(if Path::new(word).is_file() {
                no_register.with_hint(format!("{word} is a file: --file {word} reads a log"))
            } else {
                no_register
            })
        }
        Err(_) => lines::run(arguments, printer),
    }
}
