//! `cpreg hosts [NAME]`: lists the recorded hosts, whose names are valid as DESTINATION.
//!
//! NAME may be only a part of a host's name: a kernel, distribution, CPU or machine. For a kernel
//! that was not recorded, the command lists the hosts that a check would use in its place.

use cpreg_hosts::ErrorKind;
use cpreg_report::hosts::model::HostsReport;
use cpreg_report::hosts::text;
use cpreg_report::unrecorded::UnrecordedKernel;

use crate::arguments::{self, Format};
use crate::destination::hosts;
use crate::failure::{Failure, Status};
use crate::printer::{Printer, print_json};

pub(crate) fn run(arguments: &arguments::Hosts, printer: &mut Printer) -> Result<Status, Failure> {
    let index = hosts::history()?;
    let (chosen, unrecorded_kernel) = match &arguments.name {
        None => (index.hosts(), None),
        Some(name) => {
            let selection = index.select(name).map_err(|error| {
                let failure = hosts::host_name_failure(&error);
                if error.kind() == ErrorKind::Features {
                    return Failure::new(error.to_string())
                        .with_hint("`cpreg hosts` lists hosts: name one without features");
                }
                failure
            })?;
            let kernel = selection.gap.map(|gap| UnrecordedKernel::new(name, gap));
            (selection.hosts, kernel)
        }
    };
    let status = if chosen.is_empty() {
        Status::Unknown
    } else {
        Status::Success
    };
    let report = HostsReport::new(&chosen, unrecorded_kernel);
    match arguments.format {
        Format::Text => text::print(printer, &report, arguments.name.is_some()),
        Format::Json => print_json(printer, &report)?,
    }
    Ok(status)
}
