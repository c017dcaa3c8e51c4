//! Sets of vCPU features to probe, selected by the host's capabilities.

use cpreg::destination::Features;
use cpreg_hosts::record::Capabilities;

fn has_all(capabilities: &Capabilities, names: &[&str]) -> bool {
    let mut names = names.iter();
    names.all(|name| capabilities.get(*name).is_some_and(|value| *value > 0))
}

/// Returns the features among PMU, SVE and pointer authentication that the host supports.
///
/// A VMM gives a guest these features by default.
pub(super) fn all_features(capabilities: &Capabilities) -> Features {
    single_features(capabilities).fold(Features::NONE, |all, feature| all | feature)
}

/// Returns every feature that the host can give to a guest.
pub fn available_features(capabilities: &Capabilities) -> Features {
    let sets = feature_sets(capabilities).into_iter();
    sets.fold(Features::NONE, |all, set| all | set)
}

/// Returns the features of [`all_features`], one by one.
fn single_features(capabilities: &Capabilities) -> impl Iterator<Item = Features> {
    let requirements: [(Features, &[&str]); 3] = [
        (Features::PMU, &["KVM_CAP_ARM_PMU_V3"]),
        (Features::SVE, &["KVM_CAP_ARM_SVE"]),
        (
            Features::POINTER_AUTHENTICATION,
            &["KVM_CAP_ARM_PTRAUTH_ADDRESS", "KVM_CAP_ARM_PTRAUTH_GENERIC"],
        ),
    ];
    let requirements = requirements.into_iter();
    requirements
        .filter(|(_, names)| has_all(capabilities, names))
        .map(|(feature, _)| feature)
}

/// Returns the sets to probe, each once, without features that the host lacks.
///
/// - no feature
/// - PMU, SVE and pointer authentication, each alone and all together
/// - EL1 in AArch32, alone
/// - all three with EL2, without and with its E2H0 mode
/// - all three with memory tagging
pub(super) fn feature_sets(capabilities: &Capabilities) -> Vec<Features> {
    let all = all_features(capabilities);
    let mut sets = vec![Features::NONE];
    sets.extend(single_features(capabilities));
    sets.push(all);
    if has_all(capabilities, &["KVM_CAP_ARM_EL1_32BIT"]) {
        sets.push(Features::EL1_32BIT);
    }
    if has_all(capabilities, &["KVM_CAP_ARM_EL2"]) {
        sets.push(all | Features::EL2);
    }
    if has_all(capabilities, &["KVM_CAP_ARM_EL2", "KVM_CAP_ARM_EL2_E2H0"]) {
        sets.push(all | Features::EL2 | Features::EL2_E2H0);
    }
    if has_all(capabilities, &["KVM_CAP_ARM_MTE"]) {
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
