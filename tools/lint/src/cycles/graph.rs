//! Search for the circles of a graph, with Tarjan's algorithm.

use std::collections::BTreeSet;

/// Returns the groups of nodes that reach each other, without groups of one node.
pub(super) fn cycles(nodes: usize, edges: &BTreeSet<(usize, usize)>) -> Vec<Vec<usize>> {
    let mut successors = vec![Vec::new(); nodes];
    for (from, to) in edges {
        successors[*from].push(*to);
    }
    let mut search = Search {
        successors,
        numbers: vec![None; nodes],
        lowest_reached: vec![0; nodes],
        stack: Vec::new(),
        is_on_stack: vec![false; nodes],
        next_number: 0,
        components: Vec::new(),
    };
    for node in 0..nodes {
        if search.numbers[node].is_none() {
            search.visit(node);
        }
    }
    search.components
}

struct Search {
    successors: Vec<Vec<usize>>,
    /// Numbers of the nodes in the order of their first visit.
    numbers: Vec<Option<usize>>,
    /// Lowest number of a node on the stack that each node reaches.
    lowest_reached: Vec<usize>,
    stack: Vec<usize>,
    is_on_stack: Vec<bool>,
    next_number: usize,
    components: Vec<Vec<usize>>,
}

impl Search {
    fn visit(&mut self, node: usize) {
        self.numbers[node] = Some(self.next_number);
        self.lowest_reached[node] = self.next_number;
        self.next_number += 1;
        self.stack.push(node);
        self.is_on_stack[node] = true;
        for other in self.successors[node].clone() {
            match self.numbers[other] {
                None => {
                    self.visit(other);
                    self.lowest_reached[node] =
                        self.lowest_reached[node].min(self.lowest_reached[other]);
                }
                Some(number) if self.is_on_stack[other] => {
                    self.lowest_reached[node] = self.lowest_reached[node].min(number);
                }
                Some(_) => {}
            }
        }
        if self.numbers[node] != Some(self.lowest_reached[node]) {
            return;
        }
        let mut group = Vec::new();
        while let Some(other) = self.stack.pop() {
            self.is_on_stack[other] = false;
            group.push(other);
            if other == node {
                break;
            }
        }
        if group.len() > 1 {
            group.sort_unstable();
            self.components.push(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles_of(nodes: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
        cycles(nodes, &edges.iter().copied().collect())
    }

    #[test]
    fn a_tree_has_no_circle() {
        assert!(cycles_of(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]).is_empty());
    }

    #[test]
    fn nodes_that_reach_each_other_are_a_circle() {
        assert_eq!(cycles_of(3, &[(0, 1), (1, 0), (1, 2)]), [[0, 1]]);
        assert_eq!(cycles_of(3, &[(0, 1), (1, 2), (2, 0)]), [[0, 1, 2]]);
    }

    #[test]
    fn circles_that_do_not_touch_are_apart() {
        let edges = [(0, 1), (1, 0), (1, 2), (2, 3), (3, 2)];
        assert_eq!(cycles_of(4, &edges), [[2, 3], [0, 1]]);
    }
}
