//! The sample: one case of each family, for a quick look at everything.

use std::collections::{BTreeMap, BTreeSet};

/// Returns the names of the sample: of each family one case, and not always the first.
///
/// It depends on nothing but the list: a case is in it in every run or in none.
pub(crate) fn sample<C: ToString>(cases: &[C], family: impl Fn(&C) -> String) -> BTreeSet<String> {
    let mut families: Vec<Vec<&C>> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for case in cases {
        let place = *places.entry(family(case)).or_insert(families.len());
        if place == families.len() {
            families.push(Vec::new());
        }
        families[place].push(case);
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
    fn each_family_has_one_and_they_take_turns() {
        let cases = ["a1", "a2", "b1", "b2", "c1", "b3", "a3"];
        let sample = sample(&cases, |case| case[..1].to_owned());
        assert_eq!(Vec::from_iter(sample), ["a1", "b2", "c1"]);
    }
}
