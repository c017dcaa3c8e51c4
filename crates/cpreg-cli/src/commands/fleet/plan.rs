//! `cpreg fleet plan --to HOST`: order of a rolling upgrade.

use std::path::Path;

use cpreg_fleet::baseline::{Baseline, Wishes};
use cpreg_fleet::upgrade::{UpgradePlan, VmGroups};
use cpreg_fleet::{Host, Inventory, PlanInputs};
use cpreg_report::command::quote;
use cpreg_report::fleet::plan::FleetPlanReport;

use super::{inventory, vms};
use crate::arguments::{FleetPlan, Format, LoaderArgs};
use crate::destination;
use crate::failure::{Failure, Status};
use crate::fleet_hosts;
use crate::plan_settings::PlanSettings;
use crate::printer::{Printer, print_json};

pub(super) fn run(arguments: &FleetPlan, printer: &mut Printer) -> Result<Status, Failure> {
    let settings = PlanSettings::read(&arguments.vms.consents, printer)?;
    let loader = &arguments.nodes.loader;
    let target = open_target(&arguments.to, loader, printer)?;
    let mut fleet = inventory::open(&arguments.nodes, &arguments.vms.vms, printer)?;
    let target = fleet.inventory.add_host(target);
    let mut groups = VmGroups::new(target);
    vms::plan_all(
        &mut fleet,
        settings.inputs(),
        printer,
        &|_| true,
        &mut |inventory, vm| {
            let host = vm.node.and_then(|node| inventory.usable_host(node));
            if let Some(host) = host {
                groups.add(&vm.name, host, &vm.cells);
            }
        },
    )?;
    let inventory = &fleet.inventory;
    let inputs = settings.inputs();
    let plan = UpgradePlan::new(inventory, &groups, inputs);
    let avoiding = find_settings(inventory, target, &plan, inputs);
    let report = FleetPlanReport::new(inventory, target, &plan, avoiding.as_ref());
    match arguments.format {
        Format::Text => report.print(printer, arguments.verbosity.verbosity()),
        Format::Json => print_json(printer, &report)?,
    }
    let (refused, unknown) = report.stuck();
    let is_incomplete = unknown > 0 || !report.faults.is_empty();
    Ok(Status::of_many(refused > 0, is_incomplete))
}

/// Opens the host that the nodes become.
pub(super) fn open_target(
    path: &Path,
    loader: &LoaderArgs,
    printer: &Printer,
) -> Result<Host, Failure> {
    let host = match fleet_hosts::find_one_by_name(path)? {
        Some(host) => host,
        None => fleet_hosts::open_file(path, loader, printer)?,
    };
    if host.record().is_none() {
        return Err(
            Failure::new(format!("--to {}: not a recorded host", path.display()))
                .with_hint("name a recorded host, or a file of `cpreg probe kvm`"),
        );
    }
    Ok(host.with_loader(destination::parse_loader(loader)?))
}

/// Finds the settings with which new VMs move among the target and the hosts that do not take its
/// VMs. Returns them with the command that prints them for a VMM.
pub(super) fn find_settings(
    inventory: &Inventory,
    target: usize,
    plan: &UpgradePlan,
    inputs: PlanInputs<'_>,
) -> Option<(Baseline, String)> {
    if plan.doors.is_empty() {
        return None;
    }
    let indexes = plan.doors.iter().map(|door| door.host).chain([target]);
    let hosts = indexes.filter_map(|index| inventory.hosts().get(index));
    let hosts: Vec<_> = hosts.collect();
    let baseline = Baseline::find(&hosts, &Wishes::default(), inputs).ok()?;
    let names = hosts.iter().map(|host| quote(host.name()));
    let names: Vec<_> = names.collect();
    Some((baseline, format!("cpreg baseline {}", names.join(" "))))
}
