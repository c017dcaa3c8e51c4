//! `cpreg fleet page`: one page for a browser with nodes, VMs and an upgrade.

use std::collections::HashMap;
use std::sync::Arc;

use cpreg_fleet::upgrade::{UpgradePlan, VmGroups};
use cpreg_fleet::{Cell, Inventory, plan_row};
use cpreg_report::command::CommandKind;
use cpreg_report::fleet::plan::FleetPlanReport;
use cpreg_report::matrix::page::details::CellDetails;
use cpreg_report::matrix::page::fleet::{FleetPageBuilder, FleetVm};
use cpreg_report::matrix::page::html;
use cpreg_report::matrix::page::model::PageLoader;

use super::vms::{PlannedVm, Settings};
use super::{inventory, labels, plan, vms};
use crate::arguments::{FleetPage, LoaderArgs};
use crate::command_line;
use crate::destination::hosts;
use crate::failure::{Failure, Status};
use crate::plan_settings::PlanSettings;
use crate::printer::Printer;

/// VMs that are planned at a time. A cell takes some kilobytes until it is merged with equal ones.
const BATCH: usize = 8;

/// Cell with its details for the page.
#[derive(Clone)]
struct DetailedCell {
    cell: Cell,
    details: CellDetails,
}

impl From<Cell> for DetailedCell {
    fn from(cell: Cell) -> Self {
        Self {
            details: CellDetails::without_plan(&cell),
            cell,
        }
    }
}

pub(super) fn run(arguments: &FleetPage, printer: &mut Printer) -> Result<Status, Failure> {
    let settings = PlanSettings::read(&arguments.vms.consents, printer)?;
    let loader = &arguments.nodes.loader;
    let target = arguments.to.as_deref();
    let target = target.map(|path| plan::open_target(path, loader, printer));
    let target = target.transpose()?;
    let mut fleet = inventory::open(&arguments.nodes, &arguments.vms.vms, printer)?;
    let target = target.map(|target| fleet.inventory.add_host(target));
    let typed = command_line::typed(
        CommandKind::Check,
        [None, None],
        None,
        None,
        &arguments.vms.consents,
    );
    let builder = FleetPageBuilder::new(
        &fleet.inventory,
        target,
        page_loader(loader),
        &typed.options,
    );
    let mut collector = Collector {
        builder,
        rows: HashMap::new(),
        groups: target.map(VmGroups::new),
    };
    let hosts = vms::host_set(&fleet);
    let detail = Settings {
        hosts: &hosts,
        printer,
        batch_len: BATCH,
    };
    vms::plan_in_detail(
        &mut fleet,
        detail,
        &|_| true,
        &|subject| {
            plan_row(
                subject,
                &hosts,
                settings.inputs(),
                |subject, host, planned| {
                    let details = CellDetails::new(subject, host, &planned, &settings.tolerances);
                    DetailedCell {
                        details,
                        cell: planned.cell,
                    }
                },
            )
        },
        &mut |inventory, vm| collector.add(inventory, &vm),
    )?;
    let inventory = &fleet.inventory;
    let upgrade = collector
        .groups
        .as_ref()
        .zip(target)
        .map(|(groups, target)| {
            let inputs = settings.inputs();
            let plan = UpgradePlan::new(inventory, groups, inputs);
            let avoiding = plan::find_settings(inventory, target, &plan, inputs);
            let report = FleetPlanReport::new(inventory, target, &plan, avoiding.as_ref());
            (plan, report)
        });
    let upgrade = upgrade.as_ref().map(|(plan, report)| (plan, report));
    let data = collector
        .builder
        .finish(inventory, upgrade, hosts::history()?);
    let text = data.and_then(|data| html::document(&data));
    let text = text.map_err(|error| Failure::new("cannot print the page").with_cause(error))?;
    match &arguments.output {
        Some(path) => labels::write(path, &text)?,
        None => printer.append(&text),
    }
    Ok(Status::of_many(false, !inventory.faults().is_empty()))
}

/// Returns the loader of all cells.
fn page_loader(loader: &LoaderArgs) -> PageLoader {
    match &loader.loader {
        Some(name) => PageLoader {
            label: name.clone(),
            option: format!(" --loader {name}"),
        },
        None => PageLoader {
            label: "that of the node, if known".to_owned(),
            option: String::new(),
        },
    }
}

/// Receiver of the VMs.
struct Collector {
    builder: FleetPageBuilder,
    /// Rows of inferred VMs, which share their cells, with the cells that keep the address.
    rows: HashMap<usize, (usize, Arc<Vec<DetailedCell>>)>,
    groups: Option<VmGroups>,
}

impl Collector {
    fn add(&mut self, inventory: &Inventory, vm: &PlannedVm<DetailedCell>) {
        let row = self.add_row(vm);
        let cells = vm.cells.iter().map(|it| it.cell.clone());
        let cells: Vec<_> = cells.collect();
        let described = FleetVm {
            name: &vm.name,
            source: vm.source.as_deref(),
            node: vm.node,
            vcpus: vm.vcpus,
            is_inferred: vm.is_inferred,
            row,
        };
        self.builder.add_vm(inventory, &described, &cells);
        let host = vm.node.and_then(|node| inventory.usable_host(node));
        if let Some((groups, host)) = self.groups.as_mut().zip(host) {
            groups.add(&vm.name, host, &cells);
        }
    }

    /// Returns the row of a VM.
    fn add_row(&mut self, vm: &PlannedVm<DetailedCell>) -> usize {
        let address = Arc::as_ptr(&vm.cells).addr();
        if let Some((row, _)) = self.rows.get(&address) {
            return *row;
        }
        let details = |host: usize| vm.cells.get(host).map(|it| &it.details);
        let row = self.builder.add_row(details);
        // The planner holds the cells of inferred VMs too. Others are dropped at once.
        if Arc::strong_count(&vm.cells) > 1 {
            self.rows.insert(address, (row, Arc::clone(&vm.cells)));
        }
        row
    }
}
