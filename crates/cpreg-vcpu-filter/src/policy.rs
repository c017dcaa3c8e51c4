//! [`Policy`]: the user's decisions about a VMM's calls, made before the VMM starts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::{Accelerator, DestinationVcpu, Features, Version};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Consents, SetConsent};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::{RegisterDifference, RegisterSelector, Tolerance, Tolerances};
use cpreg::vm::Registers;
use cpreg_hosts::record::GuestRecord;
use cpreg_hosts::{HostIndex, HostRecord};

use crate::vcpu::is_judged;

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
    /// Tolerances of the operator, in the order of precedence.
    pub operator_entries: Vec<Tolerance>,
    /// Settings that each vCPU gets after its initialisation.
    pub born_with: Vec<SetConsent>,
    /// Log of events, beside standard error.
    pub log: Option<LogTarget>,
    /// Properties of this host.
    pub host: HostFacts,
    /// Properties of the host that the VM ran on.
    pub source_hardware: HardwareFacts,
}

impl Policy {
    /// Returns the table of tolerances with the operator's entries.
    pub fn tolerances(&self) -> Tolerances {
        let mut tolerances = Tolerances::default();
        tolerances.add_operator_entries(self.operator_entries.iter().cloned());
        tolerances
    }
}

/// File for the log, and its format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTarget {
    /// File or descriptor.
    pub output: LogOutput,
    /// Format of the lines.
    pub format: LogFormat,
}

/// File or descriptor for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the library opens each of them")]
pub enum LogOutput {
    /// File with this path, to which the library appends.
    File(PathBuf),
    /// Descriptor that the VMM inherits.
    Descriptor(i32),
}

/// Format of the log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the library writes each of them")]
pub enum LogFormat {
    /// Text for people, as on standard error.
    #[default]
    Text,
    /// One JSON document on each line, `cpreg.run-event/1`.
    Json,
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
    /// that the user ignores. Adds the registers that the operator or the user names.
    ///
    /// A register that the table tolerates with no value is left out, because the VMM itself then
    /// refuses the VM.
    pub fn from_hosts(
        hosts: impl IntoIterator<Item = GuestList>,
        tolerances: &Tolerances,
        consents: &Consents,
    ) -> Vec<Self> {
        let listings = hosts.into_iter().flat_map(|host| {
            let registers = host.registers.into_iter();
            registers.map(move |register| (host.features, register))
        });
        Self::from_listings(listings, tolerances, consents)
    }

    /// Returns the candidates of all hosts of an index, as [`Self::from_hosts`] does.
    pub fn from_index(
        index: &HostIndex,
        tolerances: &Tolerances,
        consents: &Consents,
    ) -> Vec<Self> {
        let registers = index.registers();
        // The table tolerates few registers, and each has hundreds of recordings.
        let registers = registers.filter(|id| can_be_ignored(*id, tolerances, consents));
        let listings = registers.flat_map(|id| {
            let recordings = index.recordings_with(id);
            recordings.map(move |recording| (recording.features, id))
        });
        Self::from_listings(listings, tolerances, consents)
    }

    fn from_listings(
        listings: impl Iterator<Item = (Features, RegisterId)>,
        tolerances: &Tolerances,
        consents: &Consents,
    ) -> Vec<Self> {
        let mut found: BTreeMap<RegisterId, Vec<Features>> = BTreeMap::new();
        for (features, register) in listings {
            let features = features.difference(Features::EL1_32BIT);
            let sets = found.entry(register).or_default();
            if !sets.iter().any(|set| features.contains(*set)) {
                sets.retain(|set| !set.contains(features));
                sets.push(features);
            }
        }
        for id in named_registers(tolerances, consents) {
            found.insert(id, vec![Features::NONE]);
        }
        let mut candidates: Vec<_> = found
            .into_iter()
            .filter(|(id, _)| can_be_ignored(*id, tolerances, consents))
            .map(|(register, features)| Self { register, features })
            .collect();
        for candidate in &mut candidates {
            candidate.features.sort_unstable();
        }
        candidates
    }
}

/// Returns `true` if some value of the register is ignored on a host that lacks it.
fn can_be_ignored(id: RegisterId, tolerances: &Tolerances, consents: &Consents) -> bool {
    is_judged(id) && invented_value(id, tolerances, consents).is_some()
}

/// Registers that a host lists for a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestList {
    features: Features,
    registers: Vec<RegisterId>,
}

impl GuestList {
    /// Returns the lists of a recorded host.
    pub fn from_record(host: &HostRecord) -> Vec<Self> {
        let guests = host.guests.iter();
        let lists = guests.map(|(features, GuestRecord { registers, .. })| Self {
            features: *features,
            registers: registers.iter().map(|register| register.id).collect(),
        });
        lists.collect()
    }

    /// Returns the list of a vCPU of a profile.
    pub fn from_vcpu(vcpu: &DestinationVcpu) -> Self {
        let registers: Vec<_> = vcpu
            .registers()
            .iter()
            .map(|register| register.id)
            .collect();
        let unknown = registers.iter().map(|id| (*id, Value::unknown()));
        let values = Registers::from_pairs(unknown).unwrap_or_default();
        Self {
            features: GuestFeatures::from_registers(&values).features,
            registers,
        }
    }
}

/// Returns the registers that entries of the operator or consents of the user ignore by name. No
/// recorded host need have them.
fn named_registers(tolerances: &Tolerances, consents: &Consents) -> Vec<RegisterId> {
    let entries = tolerances.entries().iter();
    let entries = entries.filter(|entry| {
        entry.is_operator_entry && entry.difference == RegisterDifference::SourceOnly
    });
    let of_entries = entries.flat_map(|entry| match &entry.registers {
        RegisterSelector::Ids(ids) => ids.to_vec(),
        _ => Vec::new(),
    });
    let of_consents = consents.ignore.iter().map(|ignore| ignore.register);
    of_entries.chain(of_consents).collect()
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
    use cpreg::plan::IgnoreConsent;
    use cpreg_hosts::HostIndex;

    use super::*;

    #[test]
    fn candidates_are_the_tolerated_registers_of_the_hosts() {
        let index = HostIndex::built_in().expect("the built-in index");
        let hosts = index.hosts();
        let lists = || {
            let records = hosts.iter().map(cpreg_hosts::IndexedHost::record);
            records.flat_map(|record| GuestList::from_record(&record))
        };
        let consents = Consents::default();
        let candidates = Candidate::from_hosts(lists(), &Tolerances::default(), &consents);
        let find = |id| candidates.iter().find(|candidate| candidate.register == id);
        let pir = find(RegisterId::PIR_EL1).expect("a candidate");
        assert!(pir.is_possible(Features::NONE));
        let pmmir = find(RegisterId::PMMIR_EL1).expect("a candidate");
        assert!(!pmmir.is_possible(Features::NONE) && pmmir.is_possible(Features::PMU));
        assert_eq!(find(RegisterId::SCTLR_EL1), None);
        // A register that no recorded host has.
        let unknown = RegisterId::from_raw(0x6030_0000_0013_c7ff);
        let ignore = IgnoreConsent {
            register: unknown,
            condition: None,
        };
        let consents = Consents {
            ignore: vec![ignore],
            ..Consents::default()
        };
        let candidates = Candidate::from_hosts(lists(), &Tolerances::default(), &consents);
        let expected = Candidate {
            register: unknown,
            features: vec![Features::NONE],
        };
        assert!(candidates.contains(&expected));
    }

    #[test]
    fn an_index_gives_the_candidates_of_its_records() {
        let index = HostIndex::built_in().expect("the built-in index");
        let (tolerances, consents) = (Tolerances::default(), Consents::default());
        let records = index.hosts().into_iter().map(|host| host.record());
        let lists = records.flat_map(|record| GuestList::from_record(&record));
        let expected = Candidate::from_hosts(lists, &tolerances, &consents);
        assert_eq!(
            Candidate::from_index(&index, &tolerances, &consents),
            expected
        );
    }
}
