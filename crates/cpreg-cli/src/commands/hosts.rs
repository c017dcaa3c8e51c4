//! `cpreg hosts [NAME]`: the recorded hosts, which can be named as DEST.

use cpreg_report as report;

use crate::arguments::{self, Format};
use crate::destination::hosts;
use crate::failure::{Failure, Status};
use crate::printer::Printer;

pub(crate) fn run(arguments: &arguments::Hosts, printer: &mut Printer) -> Result<Status, Failure> {
    let history = hosts::history()?;
    let chosen = match &arguments.name {
        Some(name) => history.hosts_named(name),
        None => history.hosts(),
    };
    if let (Some(name), []) = (&arguments.name, chosen.as_slice()) {
        // A whole name with features says best what is wrong with it.
        let error = history.named(name).map_err(|error| hosts::unnamed(&error));
        return Err(error.err().unwrap_or_else(|| {
            Failure::new(format!("{name} has features at its end"))
                .hint("`cpreg hosts` lists hosts: name one without features")
        }));
    }
    match arguments.format {
        Format::Text => report::hosts::text(printer, &chosen, arguments.name.is_some()),
        Format::Json => {
            let json = report::hosts::json(&chosen);
            printer.json(&json.map_err(|error| Failure::new("cannot report").because(error))?);
        }
    }
    Ok(Status::Done)
}
