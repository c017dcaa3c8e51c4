//! `cpreg completions SHELL`: prints the script that completes cpreg's arguments in a shell.

use crate::arguments;
use crate::completion;
use crate::failure::{Failure, Status};
use crate::printer::Printer;

pub(crate) fn run(
    arguments: &arguments::Completions,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let script = completion::script(arguments.shell)
        .map_err(|error| Failure::new("cannot print the script").with_cause(error))?;
    printer.append(&script);
    Ok(Status::Success)
}
