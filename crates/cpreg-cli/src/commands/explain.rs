//! `cpreg explain LINE…`: what an error line means.

pub(crate) mod lines;

use crate::arguments;
use crate::failure::{Failure, Status};
use crate::printer::Printer;

pub(crate) fn run(
    arguments: &arguments::Explain,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    lines::run(arguments, printer)
}
