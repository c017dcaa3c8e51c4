//! `cpreg fleet drain NODE`: the VMs of one node at all others.

use cpreg_fleet::inventory::Platform;
use cpreg_fleet::ways::Distribution;
use cpreg_report::fleet::drain::{DrainedVm, FleetDrainReport};
use cpreg_report::names::Verdict;

use super::{inventory, vms};
use crate::arguments::{DrainFormat, FleetDrain, PlatformName};
use crate::failure::{Failure, Status};
use crate::plan_settings::PlanSettings;
use crate::printer::{Printer, print_json};

pub(super) fn run(arguments: &FleetDrain, printer: &mut Printer) -> Result<Status, Failure> {
    let settings = PlanSettings::read(&arguments.vms.consents, printer)?;
    let mut fleet = inventory::open(&arguments.nodes, &arguments.vms.vms, printer)?;
    let node = inventory::find_node(&fleet.inventory, &arguments.node)?;
    let mut planned = Vec::new();
    vms::plan_all(
        &mut fleet,
        settings.inputs(),
        printer,
        &|of_vm| of_vm == Some(node),
        &mut |_, vm| planned.push(vm),
    )?;
    let inventory = &fleet.inventory;
    let mut distribution = Distribution::new(inventory, node);
    let mut report = FleetDrainReport::new(&arguments.node);
    for vm in &planned {
        let platform = match arguments.platform {
            None => vm.platform,
            Some(PlatformName::Libvirt) => Platform::Libvirt,
            Some(PlatformName::Kubevirt) => Platform::KubeVirt,
            Some(PlatformName::Openstack) => Platform::OpenStack,
        };
        let vm = DrainedVm {
            name: &vm.name,
            is_inferred: vm.is_inferred,
            birth_key: vm.birth_key.as_deref(),
            platform,
            cells: &vm.cells,
        };
        report.add(inventory, node, &mut distribution, &vm);
    }
    report.finish(inventory);
    match arguments.format {
        DrainFormat::Text => report.print(printer, arguments.verbosity.verbosity()),
        DrainFormat::Json => print_json(printer, &report)?,
        DrainFormat::Commands => {
            report.print_commands(printer);
            for fault in &report.faults {
                printer.note(format_args!("{}: {}", fault.subject, fault.message));
            }
        }
    }
    let mut blocked = report.without_way.iter();
    let is_refused = blocked.any(|vm| vm.verdict == Verdict::REFUSED);
    let is_incomplete = !report.without_way.is_empty() || !report.faults.is_empty();
    Ok(Status::of_many(is_refused, is_incomplete))
}
