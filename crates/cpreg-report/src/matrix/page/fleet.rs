//! [`FleetPageBuilder`]: the page of a fleet. Its destinations are classes of nodes. Its VMs are in
//! the order of the number of nodes that take them, worst first.

use cpreg_fleet::upgrade::UpgradePlan;
use cpreg_fleet::ways::Ways;
use cpreg_fleet::{Cell, Inventory};
use cpreg_hosts::HostIndex;
use serde_json::Value;

use super::PageBuilder;
use super::details::CellDetails;
use super::model::{
    PageClass, PageData, PageFleet, PageLeftOut, PageLoader, PageMoment, PageSource,
};
use crate::command::quote;
use crate::fleet::FaultReport;
use crate::fleet::plan::FleetPlanReport;
use crate::matrix::model::MatrixHeader;
use crate::printer::escape_control;
use crate::text::pluralize;

/// Maximum number of names of nodes of a class.
const MAX_NAMES: usize = 20;

/// Collector of the VMs of a fleet.
#[derive(Debug)]
pub struct FleetPageBuilder {
    page: PageBuilder,
    /// Index into the hosts of the inventory for each destination.
    columns: Vec<usize>,
    /// VMs with their ranks.
    vms: Vec<(VmRank, PageSource)>,
}

/// Rank of a VM: the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct VmRank {
    has_way: bool,
    is_unknown: bool,
    nodes: usize,
}

/// VM of the fleet, with its details at the hosts of the inventory.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "`fleet page` fills it")]
pub struct FleetVm<'a> {
    /// Name of the VM.
    pub name: &'a str,
    /// SOURCE of `cpreg check` that stands for it, if any.
    pub source: Option<&'a str>,
    /// Index of its node, if known.
    pub node: Option<usize>,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// `true` if a new VM stands for it.
    pub is_inferred: bool,
    /// Row that [`FleetPageBuilder::add_row`] returned for its cells.
    pub row: usize,
}

impl FleetPageBuilder {
    /// Returns a page without VMs. `target` is the host of an upgrade, `options` are the user's
    /// consents.
    pub fn new(
        inventory: &Inventory,
        target: Option<usize>,
        loader: PageLoader,
        options: &[String],
    ) -> Self {
        let has_column = |host: &usize| inventory.count(*host, None) > 0 || target == Some(*host);
        let columns: Vec<_> = (0..inventory.hosts().len()).filter(has_column).collect();
        let hosts = columns
            .iter()
            .filter_map(|host| inventory.hosts().get(*host));
        let header = MatrixHeader {
            cpreg_version: env!("CARGO_PKG_VERSION").to_owned(),
            loader: None,
            destinations: hosts.map(|host| host.name().to_owned()).collect(),
            left_out: Vec::new(),
        };
        Self {
            page: PageBuilder::new(&header, vec![loader], options),
            columns,
            vms: Vec::new(),
        }
    }

    /// Adds the cells of a VM at the hosts of the inventory, and returns their index.
    pub fn add_row<'a>(&mut self, details: impl Fn(usize) -> Option<&'a CellDetails>) -> usize {
        let cells = self.columns.iter().filter_map(|host| details(*host));
        let cells = cells.cloned().collect();
        self.page.add_cells(vec![cells])
    }

    /// Adds a VM. `cells` are those at the hosts of the inventory.
    pub fn add_vm(&mut self, inventory: &Inventory, vm: &FleetVm<'_>, cells: &[Cell]) {
        let ways = Ways::new(inventory, vm.node, cells);
        let rank = VmRank {
            has_way: ways.has_way(),
            is_unknown: ways.is_unknown(),
            nodes: ways.loads + ways.converts,
        };
        let host = vm.node.and_then(|node| inventory.usable_host(node));
        let node = vm.node.and_then(|node| inventory.nodes().get(node));
        let escape = |text: &str| escape_control(text, false);
        let argument = vm.source.map(|source| escape(&quote(source)));
        let source = PageSource {
            name: escape(vm.name),
            argument: argument.unwrap_or_default(),
            vcpus: vm.vcpus,
            is_new: vm.is_inferred,
            row: vm.row,
            node: node.map(|node| escape(&node.name)),
            class: host.and_then(|host| self.columns.iter().position(|it| *it == host)),
        };
        self.vms.push((rank, source));
    }

    /// Returns the page.
    ///
    /// # Errors
    /// Returns an error if the upgrade cannot be serialised, which does not happen.
    pub fn finish(
        mut self,
        inventory: &Inventory,
        upgrade: Option<(&UpgradePlan, &FleetPlanReport)>,
        history: &HostIndex,
    ) -> serde_json::Result<PageData> {
        self.vms.sort_by_key(|(rank, _)| *rank);
        let sources = self.vms.into_iter().map(|(_, source)| source);
        let sources: Vec<_> = sources.collect();
        for fault in inventory.faults() {
            let report = FaultReport::from(fault);
            let hint = report.hint.map(|hint| format!("; {hint}"));
            let error = format!("{}{}", report.message, hint.unwrap_or_default());
            self.page.left_out.push(PageLeftOut {
                name: escape_control(&report.subject, false),
                error: escape_control(&error, false),
            });
        }
        let nodes = inventory.nodes();
        let usable = nodes.iter().filter(|node| node.is_usable);
        let classes = self.columns.iter().enumerate().map(|(column, host)| {
            let names = inventory.nodes_of(*host).take(MAX_NAMES);
            let names = names.filter_map(|node| nodes.get(node));
            let vms = sources.iter().filter(|vm| vm.class == Some(column));
            PageClass {
                first_nodes: names
                    .map(|node| escape_control(&node.name, false))
                    .collect(),
                vms: vms.count(),
            }
        });
        let plan = upgrade.map(|(plan, _)| plan);
        let report = upgrade.map(|(_, report)| serde_json::to_value(report));
        let mut report = report.transpose()?;
        report.iter_mut().for_each(escape_strings);
        let fleet = PageFleet {
            nodes: nodes.len(),
            usable_nodes: usable.count(),
            classes: classes.collect(),
            moments: moments(inventory, &self.columns, plan),
            upgrade: report,
        };
        let mut data = self.page.finish(history);
        data.sources = sources;
        data.fleet = Some(fleet);
        Ok(data)
    }
}

/// Returns the numbers of nodes now, and after each step.
fn moments(
    inventory: &Inventory,
    columns: &[usize],
    plan: Option<&UpgradePlan>,
) -> Vec<PageMoment> {
    let counts = columns.iter().map(|host| inventory.count(*host, None));
    let mut counts: Vec<_> = counts.collect();
    let mut moments = vec![PageMoment {
        label: "now".to_owned(),
        counts: counts.clone(),
    }];
    let Some(plan) = plan else {
        return moments;
    };
    let column = |host: usize| columns.iter().position(|it| *it == host);
    for (index, step) in plan.steps.iter().enumerate() {
        if let Some(count) = column(step.host).and_then(|column| counts.get_mut(column)) {
            *count = 0;
        }
        if let Some(count) = column(plan.target).and_then(|column| counts.get_mut(column)) {
            *count += step.nodes;
        }
        moments.push(PageMoment {
            label: format!(
                "after step {} ({})",
                index + 1,
                pluralize(step.nodes, "node")
            ),
            counts: counts.clone(),
        });
    }
    moments
}

/// Escapes the control characters of all strings. The author of an input controls the names.
fn escape_strings(value: &mut Value) {
    match value {
        Value::String(text) => *text = escape_control(text, false),
        Value::Array(items) => items.iter_mut().for_each(escape_strings),
        Value::Object(members) => members.values_mut().for_each(escape_strings),
        _ => {}
    }
}
