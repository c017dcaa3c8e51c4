//! The sets of vCPU features that are probed, by the host's capabilities.

use cpreg::destination::Features;
use cpreg_hosts::record::Capabilities;

fn has(capabilities: &Capabilities, names: &[&str]) -> bool {
    let mut names = names.iter();
    names.all(|name| capabilities.get(*name).is_some_and(|value| *value > 0))
}

/// Returns those of PMU, SVE and pointer authentication that the host has, as VMMs do for a full
/// guest.
pub(super) fn all_features(capabilities: &Capabilities) -> Features {
    single_features(capabilities).fold(Features::NONE, |all, feature| all | feature)
}

fn single_features(capabilities: &Capabilities) -> impl Iterator<Item = Features> {
    let needs: [(Features, &[&str]); 3] = [
        (Features::PMU, &["KVM_CAP_ARM_PMU_V3"]),
        (Features::SVE, &["KVM_CAP_ARM_SVE"]),
        (
            Features::POINTER_AUTHENTICATION,
            &["KVM_CAP_ARM_PTRAUTH_ADDRESS", "KVM_CAP_ARM_PTRAUTH_GENERIC"],
        ),
    ];
    let needs = needs.into_iter();
    needs
        .filter(|(_, names)| has(capabilities, names))
        .map(|(feature, _)| feature)
}

/// Returns the sets, each once.
///
/// These are none, each of the three features alone, all of them, EL1 in AArch32 alone, all with an
/// EL2, and all with memory tagging.
pub(super) fn feature_sets(capabilities: &Capabilities) -> Vec<Features> {
    let all = all_features(capabilities);
    let mut sets = vec![Features::NONE];
    sets.extend(single_features(capabilities));
    sets.push(all);
    if has(capabilities, &["KVM_CAP_ARM_EL1_32BIT"]) {
        sets.push(Features::EL1_32BIT);
    }
    if has(capabilities, &["KVM_CAP_ARM_EL2"]) {
        sets.push(all | Features::EL2);
    }
    if has(capabilities, &["KVM_CAP_ARM_EL2", "KVM_CAP_ARM_EL2_E2H0"]) {
        sets.push(all | Features::EL2 | Features::EL2_E2H0);
    }
    if has(capabilities, &["KVM_CAP_ARM_MTE"]) {
        sets.push(all | Features::MTE);
    }
    let mut known = Vec::new();
    sets.retain(|set| {
        let is_new = !known.contains(set);
        known.push(*set);
        is_new
    });
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(capabilities: &[&str]) -> Vec<String> {
        let capabilities = capabilities.iter().map(|name| ((*name).to_owned(), 1));
        feature_sets(&capabilities.collect())
            .iter()
            .map(Features::to_string)
            .collect()
    }

    #[test]
    fn each_set_is_probed_once() {
        assert_eq!(names(&[]), ["none"]);
        assert_eq!(names(&["KVM_CAP_ARM_PMU_V3"]), ["none", "pmu"]);
        // Pointer authentication needs both of its capabilities.
        assert_eq!(names(&["KVM_CAP_ARM_PTRAUTH_GENERIC"]), ["none"]);
        assert_eq!(
            names(&[
                "KVM_CAP_ARM_PMU_V3",
                "KVM_CAP_ARM_SVE",
                "KVM_CAP_ARM_EL1_32BIT",
                "KVM_CAP_ARM_EL2",
                "KVM_CAP_ARM_MTE"
            ]),
            [
                "none",
                "pmu",
                "sve",
                "pmu,sve",
                "el1-32bit",
                "pmu,sve,el2",
                "pmu,sve,mte"
            ]
        );
    }
}
