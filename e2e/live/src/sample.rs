//! The sample: one case of each family, for a quick check.

use std::collections::{BTreeMap, BTreeSet};

/// Returns the names of the sample: one case of each family, in turn the first, the second and
/// so on.
///
/// The sample depends only on the list of cases, so every run has the same sample.
pub(crate) fn sample<C: ToString>(cases: &[C], family: impl Fn(&C) -> String) -> BTreeSet<String> {
    let mut families: Vec<Vec<&C>> = Vec::new();
    let mut indices: BTreeMap<String, usize> = BTreeMap::new();
    for case in cases {
        let index = *indices.entry(family(case)).or_insert(families.len());
        if index == families.len() {
            families.push(Vec::new());
        }
        families[index].push(case);
    }
    let families = families.iter().enumerate();
    families
        .map(|(turn, family)| family[turn % family.len()].to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_one_case_in_rotation() {
        let cases = ["a1", "a2", "b1", "b2", "c1", "b3", "a3"];
        let sample = sample(&cases, |case| case[..1].to_owned());
        assert_eq!(Vec::from_iter(sample), ["a1", "b2", "c1"]);
    }
}
