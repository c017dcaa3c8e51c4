//! Search for the circles of a graph.

use std::collections::BTreeSet;

/// Returns the groups of nodes that reach each other, without groups of one node (Tarjan).
pub(super) fn cycles(nodes: usize, edges: &BTreeSet<(usize, usize)>) -> Vec<Vec<usize>> {
    let mut after = vec![Vec::new(); nodes];
    for (from, to) in edges {
        after[*from].push(*to);
    }
    let mut search = Search {
        successors: after,
        number: vec![None; nodes],
        lowest: vec![0; nodes],
        stack: Vec::new(),
        is_on_stack: vec![false; nodes],
        next: 0,
        components: Vec::new(),
    };
    for node in 0..nodes {
        if search.number[node].is_none() {
            search.visit(node);
        }
    }
    search.components
}

struct Search {
    successors: Vec<Vec<usize>>,
    number: Vec<Option<usize>>,
    lowest: Vec<usize>,
    stack: Vec<usize>,
    is_on_stack: Vec<bool>,
    next: usize,
    components: Vec<Vec<usize>>,
}

impl Search {
    fn visit(&mut self, node: usize) {
        self.number[node] = Some(self.next);
        self.lowest[node] = self.next;
        self.next += 1;
        self.stack.push(node);
        self.is_on_stack[node] = true;
        for other in self.successors[node].clone() {
            match self.number[other] {
                None => {
                    self.visit(other);
                    self.lowest[node] = self.lowest[node].min(self.lowest[other]);
                }
                Some(number) if self.is_on_stack[other] => {
                    self.lowest[node] = self.lowest[node].min(number);
                }
                Some(_) => {}
            }
        }
        if self.number[node] != Some(self.lowest[node]) {
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
