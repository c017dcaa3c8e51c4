//! Report of `fleet drain`, schema `cpreg.fleet-drain/1`.

use cpreg_fleet::inventory::Platform;
use cpreg_fleet::ways::{Distribution, Ways};
use cpreg_fleet::{Cell, Inventory};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::commands::move_command;
use super::{BlockedVm, FaultReport, faults, print_faults};
use crate::names::Verdict;
use crate::printer::{Printer, Verbosity, heading, style, styled};
use crate::text::pluralize;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.fleet-drain/1";

/// Report of `cpreg fleet drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FleetDrainReport {
    /// `"cpreg.fleet-drain/1"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Name of the node.
    pub node: String,
    /// VMs that leave.
    pub moves: Vec<MoveReport>,
    /// VMs that no other node is known to take.
    pub without_way: Vec<BlockedVm>,
    /// Items that cannot be used.
    pub faults: Vec<FaultReport>,
}

/// VM that leaves the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct MoveReport {
    /// Name of the VM.
    pub vm: String,
    /// `true` if no state of the VM was read, and a new VM of the host of its birth stands for it.
    pub is_inferred: bool,
    /// Verdict at the target: loads or converts.
    pub verdict: Verdict,
    /// Number of nodes that take the VM.
    pub nodes: usize,
    /// Node that the VM goes to. The platform may choose another one that takes the VM.
    pub target: String,
    /// Command of the platform that moves the VM; null for a VM that needs a conversion on
    /// KubeVirt, which has no place for it.
    pub command: Option<String>,
}

/// VM of a node that is drained.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "the command fills it")]
pub struct DrainedVm<'a> {
    /// Name.
    pub name: &'a str,
    /// `true` if a new VM of the host of its birth stands for it.
    pub is_inferred: bool,
    /// Key of the host of its birth, if known.
    pub birth_key: Option<&'a str>,
    /// Platform that runs it.
    pub platform: Platform,
    /// Cells at the hosts of the inventory.
    pub cells: &'a [Cell],
}

impl FleetDrainReport {
    /// Creates a report without VMs.
    pub fn new(node: &str) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            node: node.to_owned(),
            moves: Vec::new(),
            without_way: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Adds a VM of the node.
    pub fn add(
        &mut self,
        inventory: &Inventory,
        node: usize,
        distribution: &mut Distribution<'_>,
        vm: &DrainedVm<'_>,
    ) {
        let ways = Ways::new(inventory, Some(node), vm.cells);
        let next = distribution.next(vm.cells);
        let target =
            next.and_then(|(node, host)| Some((inventory.nodes().get(node)?, vm.cells.get(host)?)));
        if let Some((target, cell)) = target {
            let needs_relay = cell.verdict == cpreg::plan::Verdict::Converts;
            let can_move = !(needs_relay && vm.platform == Platform::KubeVirt);
            let command = || move_command(vm.platform, vm.name, &target.name, vm.birth_key);
            self.moves.push(MoveReport {
                vm: vm.name.to_owned(),
                is_inferred: vm.is_inferred,
                verdict: cell.verdict.into(),
                nodes: ways.loads + ways.converts,
                target: target.name.clone(),
                command: can_move.then(command),
            });
            return;
        }
        let best = ways.best_blocked.and_then(|host| {
            let name = inventory.hosts().get(host)?.name();
            Some((name, vm.cells.get(host)?))
        });
        let blocked = BlockedVm::new(vm.name, Some(&self.node), vm.is_inferred, best);
        self.without_way.push(blocked);
    }

    /// Completes the report with the faults of the inventory.
    pub fn finish(&mut self, inventory: &Inventory) {
        self.faults = faults(inventory);
    }

    /// Prints the report.
    pub fn print(&self, printer: &mut Printer, verbosity: Verbosity) {
        let count = self.moves.len() + self.without_way.len();
        if count == 0 {
            printer.line(format_args!("{} has no VMs", self.node));
        } else if self.without_way.is_empty() {
            let word = styled(style::GOOD, format_args!("all {count}"));
            printer.line(format_args!("{}: {word} VMs can leave", self.node));
        } else {
            let unknown = self.without_way.iter();
            let unknown = unknown.filter(|vm| vm.verdict == Verdict::UNKNOWN).count();
            let refused = self.without_way.len() - unknown;
            let mut words = vec![format!(
                "{} of {} can leave",
                self.moves.len(),
                pluralize(count, "VM")
            )];
            if refused > 0 {
                words.push(styled(style::ERROR, format_args!("{refused} cannot")));
            }
            if unknown > 0 {
                words.push(styled(style::WARNING, format_args!("{unknown} unknown")));
            }
            printer.line(format_args!("{}: {}", self.node, words.join(", ")));
        }
        if verbosity == Verbosity::Quiet {
            return;
        }
        if !self.without_way.is_empty() {
            printer.line("");
            printer.line(heading("no other node is known to take these VMs"));
        }
        for vm in &self.without_way {
            let word = if vm.is_inferred { " (inferred)" } else { "" };
            printer.paragraph("  ", format_args!("{}{word}", styled(style::NAME, &vm.vm)));
            printer.paragraph("      ", vm.explanation());
        }
        if !self.moves.is_empty() {
            printer.line("");
            printer.line(heading("can leave"));
        }
        for vm in &self.moves {
            let how = match (&vm.command, vm.verdict == Verdict::CONVERTS) {
                (None, _) => ", after a restart, as it needs a conversion",
                (Some(_), true) => ", through `cpreg relay`",
                (Some(_), false) => "",
            };
            let word = if vm.is_inferred { " (inferred)" } else { "" };
            printer.paragraph(
                "  ",
                format_args!(
                    "{}{word}: to {}{how}; {} it",
                    styled(style::NAME, &vm.vm),
                    vm.target,
                    if vm.nodes == 1 {
                        "1 node takes".to_owned()
                    } else {
                        format!("{} nodes take", vm.nodes)
                    },
                ),
            );
        }
        print_faults(printer, &self.faults);
    }

    /// Prints the commands that move the VMs. Comments have the VMs that no command moves.
    pub fn print_commands(&self, printer: &mut Printer) {
        for vm in &self.without_way {
            let word = if vm.verdict == Verdict::UNKNOWN {
                "has no known way"
            } else {
                "cannot leave"
            };
            printer.line(format_args!("# {} {word}: {}", vm.vm, vm.explanation()));
        }
        for vm in &self.moves {
            let Some(command) = &vm.command else {
                printer.line(format_args!(
                    "# {} needs a conversion, and KubeVirt has no relay: restart it, and it is \
                     born on its new node",
                    vm.vm
                ));
                continue;
            };
            if vm.verdict == Verdict::CONVERTS {
                printer.line(format_args!(
                    "# {} needs `cpreg relay` at {}, which `cpreg install libvirt` sets up",
                    vm.vm, vm.target
                ));
            }
            command.lines().for_each(|line| printer.line(line));
        }
    }
}
