//! [`Policy`]: the user's decisions about a VMM's calls, made before the VMM starts.

use std::collections::BTreeMap;

use cpreg::destination::{Accelerator, Features, Version};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Consents, SetConsent};
use cpreg::register::RegisterId;
use cpreg::tolerance::Tolerances;
use cpreg_hosts::HostRecord;
use cpreg_hosts::record::GuestRecord;

pub use crate::policy_json::PolicyError;

/// Schema of the JSON document of a policy.
pub const POLICY_SCHEMA: &str = "cpreg.run-policy/1";

/// Decisions of the user about a VMM's calls.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// `true` if the VMM starts to receive a VM.
    pub is_receiving: bool,
    /// Registers that an incoming VM may have. The VMM lists those that the host lacks.
    pub candidates: Vec<Candidate>,
    /// Registers that the VMM does not list, if it does not start to receive a VM.
    pub drop: Vec<RegisterId>,
    /// Changes of the incoming VM that the user accepts.
    pub consents: Consents,
    /// Settings that each vCPU gets after its initialisation.
    pub born_with: Vec<SetConsent>,
    /// Properties of this host.
    pub host: HostFacts,
    /// Properties of the host that the VM ran on.
    pub source_hardware: HardwareFacts,
}

/// Properties of this host that a process does not learn from its vCPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Kernel release (`uname -r`).
    pub kernel_release: Option<String>,
    /// Properties that guests see and that no register list holds.
    pub hardware: HardwareFacts,
}

impl HostFacts {
    pub(crate) fn kernel_version(&self) -> Option<Version> {
        let release = self.kernel_release.as_deref()?;
        Version::from_kernel_release(release)
    }
}

/// Register that an incoming VM may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Id of the register.
    pub register: RegisterId,
    /// Smallest sets of features with which some host lists the register.
    pub features: Vec<Features>,
}

impl Candidate {
    /// Returns `true` if a guest with these features may have the register.
    pub fn is_possible(&self, features: Features) -> bool {
        let mut sets = self.features.iter();
        sets.any(|set| features.contains(*set))
    }

    /// Returns the registers that guests of these hosts may have and that the table tolerates, or
    /// that the user ignores.
    ///
    /// A register that the table tolerates with no value is left out, because the VMM itself then
    /// refuses the VM.
    pub fn from_hosts<'a>(
        hosts: impl IntoIterator<Item = &'a HostRecord>,
        consents: &Consents,
    ) -> Vec<Self> {
        let tolerances = Tolerances::default();
        let mut found: BTreeMap<RegisterId, Vec<Features>> = BTreeMap::new();
        let guests = hosts.into_iter().flat_map(|host| &host.guests);
        for (features, GuestRecord { registers, .. }) in guests {
            let features = features.difference(Features::EL1_32BIT);
            for register in registers {
                let sets = found.entry(register.id).or_default();
                if !sets.iter().any(|set| features.contains(*set)) {
                    sets.retain(|set| !set.contains(features));
                    sets.push(features);
                }
            }
        }
        let mut candidates: Vec<_> = found
            .into_iter()
            .filter(|(id, _)| invented_value(*id, &tolerances, consents).is_some())
            .map(|(register, features)| Self { register, features })
            .collect();
        for candidate in &mut candidates {
            candidate.features.sort_unstable();
        }
        candidates
    }
}

/// Returns the first value of a register that the host lacks, or `None` if the register must not be
/// listed.
///
/// The table ignores a register with this value. It therefore does not matter whether the VMM
/// writes back what it has read or the incoming VM has the value.
pub(crate) fn invented_value(
    id: RegisterId,
    tolerances: &Tolerances,
    consents: &Consents,
) -> Option<u64> {
    let value = tolerances.ignorable_value(id, Some(Accelerator::Kvm));
    let is_ignored = |id| consents.ignore.iter().any(|ignore| ignore.register == id);
    value.or_else(|| is_ignored(id).then_some(0))
}

#[cfg(test)]
mod tests {
    use cpreg_hosts::HostIndex;

    use super::*;

    #[test]
    fn candidates_are_the_tolerated_registers_of_the_hosts() {
        let index = HostIndex::built_in().expect("the built-in index");
        let hosts: Vec<_> = index
            .hosts()
            .iter()
            .map(cpreg_hosts::IndexedHost::record)
            .collect();
        let candidates = Candidate::from_hosts(&hosts, &Consents::default());
        let find = |id| candidates.iter().find(|candidate| candidate.register == id);
        let pir = find(RegisterId::PIR_EL1).expect("a candidate");
        assert!(pir.is_possible(Features::NONE));
        let pmmir = find(RegisterId::PMMIR_EL1).expect("a candidate");
        assert!(!pmmir.is_possible(Features::NONE) && pmmir.is_possible(Features::PMU));
        assert_eq!(find(RegisterId::SCTLR_EL1), None);
    }
}
