//! `cpreg tolerances`: prints the table of tolerances. [`cpreg_report::export`] writes the table
//! for other programs.

use cpreg::register::{Naming, RegisterId};
use cpreg_report::export::{Exporter, Firecracker, Json, Qemu};
use cpreg_report::tolerance::{self, entries};

use crate::arguments::{self, Export, Format};
use crate::failure::{Failure, Status};
use crate::names;
use crate::printer::Printer;
use crate::tolerances;

pub(crate) fn run(
    arguments: &arguments::Tolerances,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let tolerances = tolerances::read(&arguments.tolerances, printer)?;
    let registers: Vec<RegisterId> = arguments
        .registers
        .iter()
        .map(|text| names::parse_register(text, Naming::Kvm))
        .collect::<Result<_, _>>()?;
    let format = match (arguments.export, arguments.format) {
        (Some(export), _) => Some(export),
        (None, Format::Json) => Some(Export::Json),
        (None, Format::Text) => None,
    };
    match format {
        Some(format) => {
            let exported = exporter(format).export(&tolerances, &registers, printer);
            exported.map_err(|error| Failure::new("cannot export").with_cause(error))?;
        }
        None => tolerance::print(printer, &entries(&tolerances, &registers)),
    }
    Ok(Status::Success)
}

/// Returns the exporter of a format.
fn exporter(format: Export) -> &'static dyn Exporter {
    match format {
        Export::Qemu => &Qemu,
        Export::Firecracker => &Firecracker,
        Export::Json => &Json,
    }
}
