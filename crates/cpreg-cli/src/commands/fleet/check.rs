//! `cpreg fleet check`: every VM at every class of nodes.

use cpreg_report::fleet::check::FleetCheckReport;

use super::{inventory, vms};
use crate::arguments::{FleetCheck, Format};
use crate::failure::{Failure, Status};
use crate::plan_settings::PlanSettings;
use crate::printer::{Printer, print_json};

pub(super) fn run(arguments: &FleetCheck, printer: &mut Printer) -> Result<Status, Failure> {
    let settings = PlanSettings::read(&arguments.vms.consents, printer)?;
    let mut fleet = inventory::open(&arguments.nodes, &arguments.vms.vms, printer)?;
    let mut report = FleetCheckReport::new(&fleet.inventory);
    vms::plan_all(
        &mut fleet,
        settings.inputs(),
        printer,
        &|_| true,
        &mut |inventory, vm| {
            report.add(inventory, &vm.name, vm.node, vm.is_inferred, &vm.cells);
        },
    )?;
    report.finish(&fleet.inventory);
    if report.vms == 0 && report.faults.is_empty() {
        return Err(Failure::new("the inputs have no VM").with_hint(
            "name VMs with --vms, or give an inventory with VMs, such as the output of \
             `kubectl get nodes,vmi -A -o json`",
        ));
    }
    match arguments.format {
        Format::Text => report.print(printer, arguments.verbosity.verbosity()),
        Format::Json => print_json(printer, &report)?,
    }
    let is_incomplete = report.unknown > 0 || !report.faults.is_empty();
    Ok(Status::of_many(report.stuck > 0, is_incomplete))
}
