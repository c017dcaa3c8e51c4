//! Names of present registers that are similar to the name of an absent register.

use strsim::osa_distance;

/// Maximum number of similar names.
const MAX_NAMES: usize = 3;

/// Returns the names that are most similar to `name`, and differ in at most a quarter of its
/// letters.
pub(crate) fn similar_names<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let max_distance = name.len() / 4;
    let distances = names.map(|other| (osa_distance(name, other), other));
    let mut similar: Vec<_> = distances
        .filter(|(distance, _)| *distance <= max_distance)
        .collect();
    similar.sort_unstable();
    similar.dedup();
    let similar = similar.into_iter().take(MAX_NAMES);
    similar.map(|(_, name)| name).collect()
}

/// Returns the text about a register that `place` lacks, with the similar registers that it has.
pub(crate) fn describe_absence<'n>(
    name: &str,
    place: &str,
    present: impl Iterator<Item = &'n str>,
) -> String {
    let similar = similar_names(name, present).join(", ");
    if similar.is_empty() {
        format!("absent: {place} lacks this register")
    } else {
        format!("absent: {place} lacks this register; it has {similar}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names_come_first() {
        let present = ["TCR_EL1", "SCTLR_EL1", "TCR2_EL2", "PSCI_VERSION"];
        let similar = similar_names("TCR2_EL1", present.into_iter());
        assert_eq!(similar, ["TCR2_EL2", "TCR_EL1"]);
        assert_eq!(similar_names("X0", present.into_iter()), [""; 0]);
        assert_eq!(
            describe_absence("X0", "the stream", present.into_iter()),
            "absent: the stream lacks this register"
        );
    }
}
