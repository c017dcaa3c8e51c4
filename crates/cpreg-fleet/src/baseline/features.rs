//! Features of the guest: the sets to try, and the features that a guest does without.

use std::cmp::Reverse;

use cpreg::destination::Features;
use cpreg::destination::features::GuestFeatures;
use cpreg::destination::loader::Program;

use crate::host::Host;

/// Feature that the guest does without.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostFeature {
    /// The feature.
    pub feature: Features,
    /// Hosts that force the guest to do without, as indexes.
    pub forced_by: Vec<usize>,
    /// Reason to do without.
    pub reason: LossReason,
    /// Registers and fields that would differ with the feature, and that no setting makes equal.
    pub fixed: Vec<String>,
    /// `true` if the user asked to keep the feature.
    pub is_wanted: bool,
}

/// Reason to do without a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "reports list all reasons")]
pub enum LossReason {
    /// The hosts in [`LostFeature::forced_by`] lack the feature.
    Lacking,
    /// Fewer pairs of hosts move VMs with the feature.
    Moves,
    /// The user did not ask for a feature that VMMs do not give by default.
    NotWanted,
}

/// Features that QEMU gives a guest of `-cpu host` by default, in the order in which they are kept.
const DEFAULT: [Features; 3] = [
    Features::PMU,
    Features::POINTER_AUTHENTICATION,
    Features::SVE,
];

/// Features that a guest has only at the user's request: QEMU does not migrate a guest with MTE.
const ON_REQUEST: [Features; 2] = [Features::MTE, Features::EL2];

/// Features that hosts offer and the user keeps.
pub(super) struct Offer {
    /// Features that every host offers, by default or at the user's request.
    common: Features,
    /// Features of `common` that the user keeps.
    kept: Features,
    lacking: Vec<LostFeature>,
}

impl Offer {
    /// Returns the offer of these hosts, of which the user keeps some features.
    pub(super) fn new(hosts: &[&Host], wanted: Features) -> Self {
        let offers: Vec<_> = hosts.iter().map(|host| offered(host)).collect();
        let (mut common, mut lacking) = (Features::NONE, Vec::new());
        for feature in DEFAULT.into_iter().chain(ON_REQUEST) {
            let offers = || offers.iter().enumerate();
            let without = offers().filter(|(_, offer)| !offer.contains(feature));
            let without: Vec<_> = without.map(|(index, _)| index).collect();
            let is_wanted = wanted.contains(feature);
            let is_default = DEFAULT.contains(&feature);
            let reason = match without.len() {
                0 if is_default || is_wanted => {
                    common = common | feature;
                    continue;
                }
                0 => LossReason::NotWanted,
                count if count == hosts.len() && !is_wanted => continue,
                _ if is_default || is_wanted => LossReason::Lacking,
                _ => continue,
            };
            lacking.push(LostFeature {
                feature,
                forced_by: without,
                reason,
                fixed: Vec::new(),
                is_wanted,
            });
        }
        Self {
            common,
            kept: DEFAULT
                .into_iter()
                .chain(ON_REQUEST)
                .filter(|feature| common.contains(*feature) && wanted.contains(*feature))
                .fold(Features::NONE, |kept, feature| kept | feature),
            lacking,
        }
    }

    /// Returns the sets of features to try: all that the hosts offer, then fewer.
    pub(super) fn sets(&self) -> Vec<Features> {
        let optional: Vec<_> = DEFAULT
            .into_iter()
            .filter(|feature| self.common.contains(*feature) && !self.kept.contains(*feature))
            .collect();
        let mut sets: Vec<_> = (0_u8..1 << optional.len())
            .map(|bits| {
                let removed = optional.iter().enumerate();
                let removed = removed.filter(|(index, _)| bits >> index & 1 == 1);
                removed.fold(self.common, |set, (_, feature)| set.difference(*feature))
            })
            .collect();
        // Of two sets of the same size, the one without the later features comes first.
        sets.sort_by_key(|set| {
            let keeps = optional.iter().map(|feature| set.contains(*feature));
            (Reverse(set.len()), Reverse(keeps.collect::<Vec<_>>()))
        });
        sets
    }

    /// Returns the features that a guest with `features` does without. `fixed` names what would
    /// differ with all features.
    pub(super) fn losses(&self, features: Features, fixed: &[String]) -> Vec<LostFeature> {
        let removed = DEFAULT
            .into_iter()
            .filter(|feature| self.common.contains(*feature) && !features.contains(*feature));
        let removed = removed.map(|feature| LostFeature {
            feature,
            forced_by: Vec::new(),
            reason: LossReason::Moves,
            fixed: fixed.to_vec(),
            is_wanted: false,
        });
        self.lacking.iter().cloned().chain(removed).collect()
    }
}

/// Returns the features that a host offers a guest. A profile has those of its guest.
fn offered(host: &Host) -> Features {
    if let Some(record) = host.record() {
        let recorded = record.guests.keys();
        return recorded.fold(Features::NONE, |all, features| all | *features);
    }
    let vm = host.new_vm(Features::NONE);
    let vcpus = vm.iter().flat_map(|vm| &vm.vcpus);
    GuestFeatures::from_vcpus(vcpus.map(|vcpu| &vcpu.registers)).features
}

/// Returns `true` if a host takes guests with these features.
pub(super) fn has_recording(host: &Host, features: Features) -> bool {
    host.destination(features, Program::QEMU).is_ok()
}
