//! `cpreg tolerances`: the table, printed for people. For other programs: [`cpreg_report::export`].

use cpreg::register::{Naming, RegisterId};
use cpreg::tolerance::Tolerance;
use cpreg_report::{export, tolerance};

use crate::arguments::{self, Export, Format};
use crate::failure::{Failure, Status};
use crate::names;
use crate::printer::{Printer, print_json};
use crate::tolerance_file;

pub(crate) fn run(
    arguments: &arguments::Tolerances,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let tolerances = tolerance_file::read(&arguments.tolerances)?;
    let wanted: Vec<RegisterId> = arguments
        .registers
        .iter()
        .map(|text| names::register(text, Naming::Kvm))
        .collect::<Result<_, _>>()?;
    let entries: Vec<(usize, &Tolerance)> = tolerances
        .entries()
        .iter()
        .enumerate()
        .filter(|(_, entry)| {
            wanted.is_empty() || wanted.iter().any(|id| entry.registers.contains(*id))
        })
        .collect();
    match (arguments.export, arguments.format) {
        (Some(Export::Json), _) | (None, Format::Json) => {
            print_json(printer, &tolerance::model::Report::of(&entries))?;
        }
        (Some(Export::Qemu), _) => export::qemu::print(printer, &tolerances, &wanted),
        (Some(Export::Firecracker), _) => export::firecracker::print(printer, &tolerances, &wanted),
        (None, Format::Text) => tolerance::print(printer, &entries),
    }
    Ok(Status::Done)
}
