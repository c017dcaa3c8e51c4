//! Report of `fleet check`, schema `cpreg.fleet-check/1`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cpreg_fleet::cell::Symbol;
use cpreg_fleet::ways::Ways;
use cpreg_fleet::{Cell, Inventory};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BlockedVm, FaultReport, faults, print_faults};
use crate::printer::{Printer, Verbosity, heading, style, styled};
use crate::text::{list_first, pluralize};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.fleet-check/1";

/// Maximum number of VMs without a way in a short report.
const MAX_SHOWN: usize = 20;

/// Report of `cpreg fleet check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FleetCheckReport {
    /// `"cpreg.fleet-check/1"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of nodes with a record that can be used.
    pub usable_nodes: usize,
    /// Nodes with records that decide alike, in the order of their first nodes.
    pub classes: Vec<FleetClass>,
    /// Number of VMs.
    pub vms: usize,
    /// Number of VMs that are inferred from the host of their birth.
    pub inferred: usize,
    /// Number of VMs that another node takes.
    pub movable: usize,
    /// Number of VMs that every other node refuses.
    pub stuck: usize,
    /// Number of VMs that no node is known to take, although some may.
    pub unknown: usize,
    /// VMs that no node is known to take.
    pub without_way: Vec<BlockedVm>,
    /// Items that cannot be used.
    pub faults: Vec<FaultReport>,
}

/// Nodes with records that decide alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FleetClass {
    /// Name of the record that stands for all of them.
    pub host: String,
    /// Number of usable nodes.
    pub nodes: usize,
    /// Names of the first nodes, up to ten.
    pub first_nodes: Vec<String>,
    /// Number of VMs on these nodes.
    pub vms: usize,
    /// Number of VMs by their symbol at these nodes; the symbols are those of
    /// [`cpreg.matrix/1`](#cpregmatrix1).
    pub takes: BTreeMap<String, usize>,
}

impl FleetCheckReport {
    /// Creates a report without VMs.
    pub fn new(inventory: &Inventory) -> Self {
        /// Maximum number of names of each class.
        const MAX_NAMES: usize = 10;
        let hosts = inventory.hosts().iter().enumerate();
        let classes = hosts.map(|(index, host)| {
            let names = inventory.nodes_of(index).take(MAX_NAMES);
            let names = names.filter_map(|node| inventory.nodes().get(node));
            FleetClass {
                host: host.name().to_owned(),
                nodes: inventory.count(index, None),
                first_nodes: names.map(|node| node.name.clone()).collect(),
                vms: 0,
                takes: BTreeMap::new(),
            }
        });
        let usable = inventory.nodes().iter().filter(|node| node.is_usable);
        Self {
            schema: SCHEMA.to_owned(),
            nodes: inventory.nodes().len(),
            usable_nodes: usable.count(),
            classes: classes.collect(),
            vms: 0,
            inferred: 0,
            movable: 0,
            stuck: 0,
            unknown: 0,
            without_way: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Adds a VM on a node, with its cells at the hosts of the inventory.
    pub fn add(
        &mut self,
        inventory: &Inventory,
        vm: &str,
        node: Option<usize>,
        is_inferred: bool,
        cells: &[Cell],
    ) {
        self.vms += 1;
        self.inferred += usize::from(is_inferred);
        let own = node.and_then(|node| inventory.usable_host(node));
        for (index, (class, cell)) in self.classes.iter_mut().zip(cells).enumerate() {
            class.vms += usize::from(own == Some(index));
            let symbol = cell.symbol().character().to_string();
            *class.takes.entry(symbol).or_default() += 1;
        }
        let ways = Ways::new(inventory, node, cells);
        if ways.has_way() {
            self.movable += 1;
            return;
        }
        if ways.is_unknown() {
            self.unknown += 1;
        } else {
            self.stuck += 1;
        }
        let name = node.and_then(|node| inventory.nodes().get(node));
        let best = ways.best_blocked.and_then(|host| {
            let name = inventory.hosts().get(host)?.name();
            Some((name, cells.get(host)?))
        });
        let name = name.map(|node| &*node.name);
        self.without_way
            .push(BlockedVm::new(vm, name, is_inferred, best));
    }

    /// Completes the report with the faults of the inventory. Classes without nodes are left out.
    pub fn finish(&mut self, inventory: &Inventory) {
        self.classes.retain(|class| class.nodes > 0);
        self.faults = faults(inventory);
    }

    /// Prints the report.
    pub fn print(&self, printer: &mut Printer, verbosity: Verbosity) {
        printer.paragraph("", self.summary());
        if verbosity == Verbosity::Quiet {
            return;
        }
        printer.line("");
        printer.line(heading("classes of nodes, and the VMs that each takes"));
        for (index, class) in self.classes.iter().enumerate() {
            let mut names = class.first_nodes.clone();
            names.resize(class.nodes.max(names.len()), String::new());
            printer.paragraph(
                &format!("{:>4}  ", index + 1),
                format_args!(
                    "{}  {}, {}: {}",
                    styled(style::NAME, &class.host),
                    pluralize(class.nodes, "node"),
                    pluralize(class.vms, "VM"),
                    list_first(&names, 5),
                ),
            );
            let symbols = Symbol::ALL.iter().filter_map(|symbol| {
                let count = class.takes.get(&symbol.character().to_string())?;
                Some(format!("{} {count}", symbol.character()))
            });
            let symbols: Vec<_> = symbols.collect();
            if !symbols.is_empty() {
                printer.line(format_args!("      {}", symbols.join("  ")));
            }
        }
        for symbol in Symbol::ALL {
            let name = symbol.character().to_string();
            if self
                .classes
                .iter()
                .any(|class| class.takes.contains_key(&name))
            {
                printer.paragraph(&format!("  {name}  "), symbol.meaning());
            }
        }
        if !self.without_way.is_empty() {
            printer.line("");
            printer.line(heading("no other node takes these VMs"));
        }
        let shown = match verbosity {
            Verbosity::Verbose => self.without_way.len(),
            _ => MAX_SHOWN,
        };
        for vm in self.without_way.iter().take(shown) {
            let at = vm.node.as_deref();
            let at = at.map(|node| format!(" on {node}")).unwrap_or_default();
            let word = if vm.is_inferred { " (inferred)" } else { "" };
            printer.paragraph(
                "  ",
                format_args!("{}{at}{word}", styled(style::NAME, &vm.vm)),
            );
            printer.paragraph("      ", vm.explanation());
        }
        if let Some(rest) = self
            .without_way
            .len()
            .checked_sub(shown)
            .filter(|it| *it > 0)
        {
            printer.line(format_args!(
                "  and {}; -v lists them",
                pluralize(rest, "other")
            ));
        }
        print_faults(printer, &self.faults);
    }

    fn summary(&self) -> String {
        let movable = format!(
            "{} of {} can leave",
            self.movable,
            pluralize(self.vms, "VM")
        );
        let mut parts = vec![movable];
        if self.stuck > 0 {
            let count = format!("{} cannot", self.stuck);
            parts.push(styled(style::ERROR, count));
        }
        if self.unknown > 0 {
            let count = format!("{} unknown", self.unknown);
            parts.push(styled(style::WARNING, count));
        }
        let mut text = parts.join(", ");
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "; {} in {}",
            pluralize(self.usable_nodes, "usable node"),
            if self.classes.len() == 1 {
                "1 class".to_owned()
            } else {
                format!("{} classes", self.classes.len())
            }
        );
        let unusable = self.nodes - self.usable_nodes;
        if unusable > 0 {
            let _ = write!(text, ", {unusable} without a usable record");
        }
        if self.inferred > 0 {
            let _ = write!(
                text,
                "; {} inferred from the host of birth",
                pluralize(self.inferred, "VM")
            );
        }
        text
    }
}
