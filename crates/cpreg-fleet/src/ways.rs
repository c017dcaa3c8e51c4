//! [`Ways`]: the nodes of a fleet that take a VM.

use cpreg::plan::Verdict;

use crate::cell::Cell;
use crate::inventory::Inventory;

/// Numbers of nodes that take a VM, without its own node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ways {
    /// Nodes where the VM loads unchanged.
    pub loads: usize,
    /// Nodes where the VM loads after a conversion.
    pub converts: usize,
    /// Nodes of which it is not known.
    pub unknown: usize,
    /// Host of the best cell among those that refuse the VM or do not know; `None` if a node takes
    /// the VM, and if the fleet has no other node.
    pub best_blocked: Option<usize>,
}

impl Ways {
    /// Returns the ways of a VM on `node`, with one cell for each host of the inventory.
    pub fn new(inventory: &Inventory, node: Option<usize>, cells: &[Cell]) -> Self {
        let mut ways = Self::default();
        let mut best = None;
        for (host, cell) in cells.iter().enumerate() {
            let count = inventory.count(host, node);
            match cell.verdict {
                Verdict::Loads => ways.loads += count,
                Verdict::Converts => ways.converts += count,
                Verdict::Unknown => ways.unknown += count,
                Verdict::Refused => {}
            }
            let is_better = best.is_none_or(|(symbol, _)| cell.symbol() < symbol);
            if count > 0 && is_better {
                best = Some((cell.symbol(), host));
            }
        }
        if !ways.has_way() {
            ways.best_blocked = best.map(|(_, host)| host);
        }
        ways
    }

    /// Returns `true` if another node takes the VM.
    pub const fn has_way(&self) -> bool {
        self.loads + self.converts > 0
    }

    /// Returns `true` if no node is known to take the VM, and not all of them are known to refuse.
    pub const fn is_unknown(&self) -> bool {
        !self.has_way() && self.unknown > 0
    }
}

/// Chooses a node for each VM that leaves a node, in turn, so that no node gets most of them.
///
/// The number of VMs is the only measure: the scheduler of the platform knows the memory and the
/// CPUs.
#[derive(Debug)]
pub struct Distribution<'a> {
    inventory: &'a Inventory,
    node: usize,
    /// Nodes of each host, the next one last.
    queues: Vec<Vec<usize>>,
}

impl<'a> Distribution<'a> {
    /// Returns a distribution of the VMs of `node` to the other nodes.
    pub fn new(inventory: &'a Inventory, node: usize) -> Self {
        Self {
            inventory,
            node,
            queues: vec![Vec::new(); inventory.hosts().len()],
        }
    }

    /// Returns a node for the next VM, and the host that stands for it. A node where the VM loads
    /// unchanged precedes one where it needs a conversion.
    pub fn next(&mut self, cells: &[Cell]) -> Option<(usize, usize)> {
        let numbered = || cells.iter().enumerate();
        let usable = |host: usize| self.inventory.count(host, Some(self.node)) > 0;
        let find = |verdict| {
            let mut hosts = numbered();
            hosts.find(|(host, cell)| cell.verdict == verdict && usable(*host))
        };
        let (host, _) = find(Verdict::Loads).or_else(|| find(Verdict::Converts))?;
        let queue = self.queues.get_mut(host)?;
        if queue.is_empty() {
            let nodes = self.inventory.nodes_of(host);
            *queue = nodes.filter(|node| *node != self.node).collect();
            queue.reverse();
        }
        Some((queue.pop()?, host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::recorded_hosts;

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        let names = ["linux-6.12.107/neoverse-n1", "linux-7.3.4/neoverse-n1"];
        for (index, host) in recorded_hosts(&names).into_iter().enumerate() {
            let host = inventory.add_host(host);
            for node in 0..2 {
                inventory.add_node(&format!("n{index}{node}"), Some(host), None);
            }
        }
        inventory.check_nodes();
        inventory
    }

    #[test]
    fn the_own_node_is_no_way() {
        let inventory = inventory();
        let cells = [Verdict::Loads, Verdict::Refused].map(Cell::without_details);
        assert_eq!(Ways::new(&inventory, None, &cells).loads, 2);
        assert_eq!(Ways::new(&inventory, Some(0), &cells).loads, 1);
        assert_eq!(Ways::new(&inventory, Some(2), &cells).loads, 2);
        let blocked = [Verdict::Unknown, Verdict::Refused].map(Cell::without_details);
        let ways = Ways::new(&inventory, Some(0), &blocked);
        assert!(ways.is_unknown() && ways.best_blocked == Some(1));
    }

    #[test]
    fn vms_are_spread_over_the_nodes_that_take_them() {
        let inventory = inventory();
        let mut distribution = Distribution::new(&inventory, 0);
        let cells = [Verdict::Converts, Verdict::Loads].map(Cell::without_details);
        let nodes: Vec<_> = (0..3).map(|_| distribution.next(&cells)).collect();
        assert_eq!(nodes, [Some((2, 1)), Some((3, 1)), Some((2, 1))]);
        let refused = [Verdict::Refused, Verdict::Unknown].map(Cell::without_details);
        assert_eq!(distribution.next(&refused), None);
    }
}
