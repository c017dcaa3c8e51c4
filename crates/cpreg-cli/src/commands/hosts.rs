//! `cpreg hosts [NAME]`: lists the recorded hosts, whose names are valid as DESTINATION.

use cpreg_report::hosts::model::HostsReport;
use cpreg_report::hosts::text;

use crate::arguments::{self, Format};
use crate::destination::hosts;
use crate::failure::{Failure, Status};
use crate::printer::{Printer, print_json};

pub(crate) fn run(arguments: &arguments::Hosts, printer: &mut Printer) -> Result<Status, Failure> {
    let index = hosts::history()?;
    let chosen = match &arguments.name {
        Some(name) => index.find_hosts(name),
        None => index.hosts(),
    };
    if let (Some(name), []) = (&arguments.name, chosen.as_slice()) {
        // For a full name with features, `resolve` returns the most exact error.
        let error = index
            .resolve(name)
            .map_err(|error| hosts::host_name_failure(&error));
        return Err(error.err().unwrap_or_else(|| {
            Failure::new(format!("{name} has features at its end"))
                .with_hint("`cpreg hosts` lists hosts: name one without features")
        }));
    }
    let report = HostsReport::new(&chosen);
    match arguments.format {
        Format::Text => text::print(printer, &report, arguments.name.is_some()),
        Format::Json => print_json(printer, &report)?,
    }
    Ok(Status::Success)
}
