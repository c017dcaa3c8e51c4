//! [`UpgradePlan`]: the order in which the nodes of a fleet get another kernel.
//!
//! A step upgrades all nodes of one record. Before a node is upgraded, its VMs go to a node that
//! has the new kernel already, else to another node that takes them. The order leaves as few VMs as
//! possible without a way.

use std::collections::BTreeMap;

use cpreg::plan::Verdict;

use crate::cell::{Cell, plan_cell};
use crate::inputs::PlanInputs;
use crate::inventory::Inventory;
use crate::subject::Subject;

/// VMs on nodes of one host with equal verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VmGroup {
    /// Host of their nodes.
    pub host: usize,
    /// Verdict at each host of the inventory.
    pub verdicts: Vec<Verdict>,
    /// Result at the target.
    pub at_target: Cell,
    /// Number of VMs.
    pub count: usize,
    /// Name of the first VM.
    pub example: String,
}

impl VmGroup {
    fn is_taken_by(&self, host: usize) -> bool {
        self.verdicts.get(host).is_some_and(|it| it.can_load())
    }
}

/// VMs of a fleet in groups, of which one VM stands for all.
#[derive(Clone, Debug)]
pub struct VmGroups {
    target: usize,
    groups: BTreeMap<(usize, Vec<&'static str>, Option<String>), VmGroup>,
}

impl VmGroups {
    /// Returns no VMs. `target` is the host of all nodes after the upgrade.
    pub const fn new(target: usize) -> Self {
        Self {
            target,
            groups: BTreeMap::new(),
        }
    }

    /// Adds a VM on a node of `host`, with its cells at all hosts.
    pub fn add(&mut self, name: &str, host: usize, cells: &[Cell]) {
        let Some(at_target) = cells.get(self.target) else {
            return;
        };
        let names = cells.iter().map(|cell| cell.verdict.name()).collect();
        let key = (host, names, at_target.reason.clone());
        let group = self.groups.entry(key).or_insert_with(|| VmGroup {
            host,
            verdicts: cells.iter().map(|cell| cell.verdict).collect(),
            at_target: at_target.clone(),
            count: 0,
            example: name.to_owned(),
        });
        group.count += 1;
    }
}

/// Order of a rolling upgrade.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpgradePlan {
    /// Host whose kernel the nodes get.
    pub target: usize,
    /// Steps in their order.
    pub steps: Vec<Step>,
    /// Hosts of nodes that keep their kernel, because their CPU is another.
    pub kept: Vec<usize>,
    /// Number of VMs on nodes of the fleet.
    pub vms: usize,
    /// Number of VMs with a way to another node before the first step.
    pub movable_before: usize,
    /// The same after the last step.
    pub movable_after: usize,
    /// Hosts that do not take VMs that are born on the target.
    pub doors: Vec<OneWayDoor>,
}

/// Upgrade of all nodes of one host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step {
    /// Host of the nodes.
    pub host: usize,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of VMs that go to nodes with the new kernel.
    pub to_target: usize,
    /// Number of VMs that go to other nodes.
    pub to_others: usize,
    /// VMs without a way off these nodes.
    pub stuck: Vec<VmGroup>,
    /// Number of VMs with a way to another node after the step.
    pub movable: usize,
}

/// Host that does not take VMs that are born on the target.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OneWayDoor {
    /// Host.
    pub host: usize,
    /// Result of a new VM of the target there.
    pub cell: Cell,
}

/// Fleet in the middle of an upgrade.
struct Simulation {
    target: usize,
    /// Number of nodes of each host.
    counts: Vec<usize>,
    /// Groups with the host of the nodes on which they are; `None` for VMs without a way, which are
    /// shut down.
    groups: Vec<(Option<usize>, VmGroup)>,
}

impl UpgradePlan {
    /// Plans the upgrade of all nodes with the CPU of the target.
    pub fn new(inventory: &Inventory, groups: &VmGroups, inputs: PlanInputs<'_>) -> Self {
        let target = groups.target;
        let hosts = 0..inventory.hosts().len();
        let others = hosts.filter(|host| *host != target && inventory.count(*host, None) > 0);
        let (mut old, kept): (Vec<_>, Vec<_>) =
            others.partition(|host| have_same_cpu(inventory, *host, target));
        let mut simulation = Simulation {
            target,
            counts: (0..inventory.hosts().len())
                .map(|host| inventory.count(host, None))
                .collect(),
            groups: groups
                .groups
                .values()
                .map(|group| (Some(group.host), group.clone()))
                .collect(),
        };
        let doors = find_doors(inventory, target, &old, inputs);
        let movable_before = simulation.count_movable();
        let mut steps = Vec::new();
        while !old.is_empty() {
            let best = old.iter().enumerate().min_by_key(|(_, host)| {
                let nodes = simulation.counts.get(**host).copied().unwrap_or(0);
                let (early, all) = simulation.count_stuck(**host);
                (early, all, nodes, **host)
            });
            let Some(index) = best.map(|(index, _)| index) else {
                break;
            };
            let host = old.remove(index);
            steps.push(simulation.upgrade(host));
        }
        Self {
            target,
            steps,
            kept,
            vms: simulation.groups.iter().map(|(_, group)| group.count).sum(),
            movable_before,
            movable_after: simulation.count_movable(),
            doors,
        }
    }
}

/// Returns `true` if two hosts have the same CPU and mode of KVM.
fn have_same_cpu(inventory: &Inventory, one: usize, other: usize) -> bool {
    let cpu = |host: usize| {
        let record = inventory.hosts().get(host)?.record()?;
        Some(record.identity.cpu_and_mode())
    };
    cpu(one).is_some() && cpu(one) == cpu(other)
}

/// Plans new VMs of the target at the old hosts.
fn find_doors(
    inventory: &Inventory,
    target: usize,
    old: &[usize],
    inputs: PlanInputs<'_>,
) -> Vec<OneWayDoor> {
    let hosts = inventory.hosts();
    let subject = hosts
        .get(target)
        .and_then(|host| Subject::new_vm(host, host.default_features()).ok());
    let cells = old.iter().filter_map(|host| {
        let cell = plan_cell(subject.as_ref()?, hosts.get(*host)?, inputs);
        Some(OneWayDoor { host: *host, cell })
    });
    cells.filter(|door| !door.cell.verdict.can_load()).collect()
}

impl Simulation {
    fn count(&self, host: usize) -> usize {
        self.counts.get(host).copied().unwrap_or(0)
    }

    /// Returns the number of VMs that another node takes.
    fn count_movable(&self) -> usize {
        let groups = self.groups.iter().filter(|(place, group)| {
            let Some(place) = *place else {
                return false;
            };
            (0..self.counts.len()).any(|host| {
                let others = self.count(host).saturating_sub(usize::from(host == place));
                others > 0 && group.is_taken_by(host)
            })
        });
        groups.map(|(_, group)| group.count).sum()
    }

    /// Returns where a group goes when the nodes of `host` are upgraded.
    fn destination(&self, host: usize, group: &VmGroup) -> Option<usize> {
        // The first upgraded node of the step takes the VMs of the others.
        let has_target = self.count(self.target) > 0 || self.count(host) > 1;
        if has_target && group.is_taken_by(self.target) {
            return Some(self.target);
        }
        let mut others = (0..self.counts.len()).filter(|it| *it != host && *it != self.target);
        others.find(|other| self.count(*other) > 0 && group.is_taken_by(*other))
    }

    /// Returns the numbers of VMs without a way off the nodes of `host`: of those that would have
    /// one after another step, and of all.
    fn count_stuck(&self, host: usize) -> (usize, usize) {
        let (mut early, mut all) = (0, 0);
        for (place, group) in &self.groups {
            if *place == Some(host) && self.destination(host, group).is_none() {
                all += group.count;
                if group.is_taken_by(self.target) {
                    early += group.count;
                }
            }
        }
        (early, all)
    }

    fn upgrade(&mut self, host: usize) -> Step {
        let mut step = Step {
            host,
            nodes: self.count(host),
            to_target: 0,
            to_others: 0,
            stuck: Vec::new(),
            movable: 0,
        };
        let places = self.groups.iter().map(|(place, group)| match place {
            Some(place) if *place == host => self.destination(host, group),
            place => *place,
        });
        let places: Vec<_> = places.collect();
        for ((place, group), new) in self.groups.iter_mut().zip(places) {
            if *place != Some(host) {
                continue;
            }
            match new {
                Some(new) if new == self.target => step.to_target += group.count,
                Some(_) => step.to_others += group.count,
                None => step.stuck.push(group.clone()),
            }
            *place = new;
        }
        if let Some(count) = self.counts.get_mut(host) {
            *count = 0;
        }
        if let Some(count) = self.counts.get_mut(self.target) {
            *count += step.nodes;
        }
        step.movable = self.count_movable();
        step
    }
}

#[cfg(test)]
mod tests {
    use cpreg::plan::Consents;
    use cpreg::tolerance::Tolerances;

    use super::*;
    use crate::host::testing::recorded_hosts;

    fn inventory(counts: [usize; 3]) -> Inventory {
        let mut inventory = Inventory::default();
        let names = [
            "linux-6.12.107/neoverse-n1",
            "linux-6.16.12/neoverse-n1",
            "linux-7.3.4/neoverse-n1",
        ];
        for (host, count) in recorded_hosts(&names).into_iter().zip(counts) {
            let index = inventory.add_host(host);
            for node in 0..count {
                inventory.add_node(&format!("n{index}-{node}"), Some(index), None);
            }
        }
        inventory.check_nodes();
        inventory
    }

    fn cells(verdicts: [Verdict; 3]) -> Vec<Cell> {
        verdicts.map(Cell::without_details).to_vec()
    }

    fn plan(inventory: &Inventory, groups: &VmGroups) -> UpgradePlan {
        let inputs = PlanInputs {
            tolerances: &Tolerances::default(),
            consents: &Consents::default(),
        };
        UpgradePlan::new(inventory, groups, inputs)
    }

    #[test]
    fn vms_go_to_upgraded_nodes_and_stuck_ones_are_named() {
        use Verdict::{Loads, Refused};
        let inventory = inventory([2, 1, 0]);
        let mut groups = VmGroups::new(2);
        groups.add("a", 0, &cells([Loads, Refused, Loads]));
        groups.add("b", 0, &cells([Loads, Refused, Refused]));
        groups.add("c", 1, &cells([Refused, Loads, Loads]));
        let plan = plan(&inventory, &groups);
        // The only node of host 1 has no target for `c` before another node is upgraded.
        let order: Vec<_> = plan.steps.iter().map(|step| step.host).collect();
        assert_eq!(order, [0, 1]);
        assert_eq!((plan.steps[0].to_target, plan.steps[0].stuck.len()), (1, 1));
        assert_eq!(plan.steps[0].stuck[0].example, "b");
        assert_eq!(plan.steps[1].to_target, 1);
        assert_eq!(
            (plan.vms, plan.movable_before, plan.movable_after),
            (3, 2, 2)
        );
    }

    #[test]
    fn doors_are_hosts_that_refuse_new_vms_of_the_target() {
        let inventory = inventory([1, 1, 1]);
        let plan = plan(&inventory, &VmGroups::new(2));
        let doors: Vec<_> = plan.doors.iter().map(|door| door.host).collect();
        assert_eq!(doors, [0], "PSCI_VERSION of 6.12");
        assert_eq!(plan.steps.len(), 2);
    }
}
