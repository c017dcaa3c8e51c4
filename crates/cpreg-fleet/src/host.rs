//! [`Host`]: a host of the fleet.
//!
//! The registers of a recorded host depend on the guest's features, so a host gives one destination
//! for each set of features. It keeps each of them, because a fleet asks for the same few sets many
//! times.

use std::sync::Arc;

use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, Destination, Features, Loader};
use cpreg::shape::MachineShape;
use cpreg::vm::Vm;
use cpreg_hosts::{Error, HostRecord};

use crate::cache::Cache;

/// Host of a fleet.
///
/// ```
/// use cpreg::destination::Features;
/// use cpreg_fleet::Host;
///
/// # fn main() -> Result<(), cpreg_hosts::Error> {
/// let index = cpreg_hosts::HostIndex::built_in()?;
/// let host = index.resolve("linux-6.12.107/neoverse-n1")?.host;
/// let host = Host::recorded(host.name(), host.record());
/// let vm = host.new_vm(Features::PMU)?;
/// let destination = host.destination_for_new_vm(Features::PMU)?;
/// assert_eq!(vm.vcpus.len(), destination.vcpus.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Host {
    name: String,
    data: HostData,
    /// Loader of the host, if known.
    loader: Option<Loader>,
    destinations: Cache<(Features, Program), Destination>,
    possible: Cache<GuestKey, Vec<PossibleDestination>>,
}

/// Data about a host.
#[derive(Clone, Debug)]
enum HostData {
    /// Recorded host, for guests with any recorded features.
    Recorded(Arc<HostRecord>),
    /// Recorded host, for guests with exactly these features.
    WithFeatures(Arc<HostRecord>, Features),
    /// Profile: a host for guests with the features of the recording.
    Profile(Arc<Destination>),
    /// Host whose kernel was not recorded.
    Unrecorded {
        /// Recorded hosts next to it; empty if none are.
        neighbours: Vec<Arc<Host>>,
        /// `true` if the neighbours enclose the kernel.
        is_enclosed: bool,
    },
}

/// Properties of a guest on which a host's registers and loaders depend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GuestKey {
    /// Features that the guest has or may have; `None` if its registers do not show them.
    pub(crate) features: Option<Features>,
    /// Subset of the features that the guest may lack.
    pub(crate) undetermined: Features,
    /// Program whose list of registers the guest has.
    pub(crate) program: Program,
    /// Loader of the guest's file, if the file decides it.
    pub(crate) loader: Option<Loader>,
    /// Machine type, if known.
    pub(crate) machine: Option<String>,
    /// Number of vCPUs of a new VM; `None` for a VM that has run.
    pub(crate) new_vcpus: Option<usize>,
}

/// One of the destinations that a host may be for a guest.
#[derive(Debug)]
pub(crate) struct PossibleDestination {
    pub(crate) destination: Destination,
    /// `true` if the guest is assumed to have the open feature; `None` if none is open.
    pub(crate) has_feature: Option<bool>,
    /// Recorded host next to the kernel, if the kernel was not recorded.
    pub(crate) recorded_host: Option<String>,
}

/// Maximum number of guests whose destinations a host keeps. Real fleets have a few; a hostile one
/// has a machine type for each VM.
const MAX_KEPT_GUESTS: usize = 64;

impl Host {
    /// Returns a recorded host.
    pub fn recorded(name: String, record: HostRecord) -> Self {
        Self::new(name, HostData::Recorded(Arc::new(record)))
    }

    /// Returns a recorded host for guests with exactly these features.
    pub fn recorded_for(name: String, record: HostRecord, features: Features) -> Self {
        Self::new(name, HostData::WithFeatures(Arc::new(record), features))
    }

    /// Returns a host whose kernel was not recorded, with the recorded hosts next to it.
    ///
    /// `is_enclosed` says if these enclose the kernel, so that a result of all of them is also the
    /// kernel's.
    pub fn unrecorded(name: String, neighbours: Vec<Self>, is_enclosed: bool) -> Self {
        let data = HostData::Unrecorded {
            neighbours: neighbours.into_iter().map(Arc::new).collect(),
            is_enclosed,
        };
        Self::new(name, data)
    }

    /// Returns the host in a profile.
    pub fn profile(name: String, destination: Destination) -> Self {
        Self::new(name, HostData::Profile(Arc::new(destination)))
    }

    fn new(name: String, data: HostData) -> Self {
        Self {
            name,
            data,
            loader: None,
            destinations: Cache::new(MAX_KEPT_GUESTS),
            possible: Cache::new(MAX_KEPT_GUESTS),
        }
    }

    /// Returns the host with a program that loads VMs on it; `None` for the host's own, if known.
    #[must_use]
    pub fn with_loader(&self, loader: Option<Loader>) -> Self {
        let data = match &self.data {
            HostData::Unrecorded {
                neighbours,
                is_enclosed,
            } => HostData::Unrecorded {
                neighbours: neighbours
                    .iter()
                    .map(|neighbour| Arc::new(neighbour.with_loader(loader)))
                    .collect(),
                is_enclosed: *is_enclosed,
            },
            other => other.clone(),
        };
        Self {
            loader,
            ..Self::new(self.name.clone(), data)
        }
    }

    /// Returns the program that loads VMs on the host, if it was set.
    pub const fn loader(&self) -> Option<Loader> {
        self.loader
    }

    /// Returns the name of the host in reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the recording of the host; `None` for a profile, and for a host that was not
    /// recorded.
    pub fn record(&self) -> Option<&HostRecord> {
        match &self.data {
            HostData::Recorded(record) | HostData::WithFeatures(record, _) => Some(record),
            HostData::Profile(_) | HostData::Unrecorded { .. } => None,
        }
    }

    /// Returns the features of the guests that the host is for; `None` for guests with any recorded
    /// features, and for a profile.
    pub fn features(&self) -> Option<Features> {
        match &self.data {
            HostData::WithFeatures(_, features) => Some(*features),
            _ => None,
        }
    }

    /// Returns the features that QEMU gives a guest of this host by default, as far as they were
    /// recorded: a PMU, SVE and pointer authentication.
    ///
    /// Returns the features of [`Self::features`] if the host is for such guests only.
    pub fn default_features(&self) -> Features {
        let default = Features::PMU | Features::SVE | Features::POINTER_AUTHENTICATION;
        let recorded = self.record().into_iter().flat_map(|it| it.guests.keys());
        let recorded = recorded.filter(|features| default.contains(**features));
        let largest = recorded.max_by_key(|features| features.len());
        self.features()
            .or(largest.copied())
            .unwrap_or(Features::NONE)
    }

    /// Returns the accelerator of the host, if known.
    pub fn accelerator(&self) -> Option<Accelerator> {
        match &self.data {
            HostData::Profile(destination) => destination.accelerator,
            _ => Some(Accelerator::Kvm),
        }
    }

    /// Returns `true` if the recorded neighbours enclose the host's kernel, and `None` if the
    /// kernel was recorded.
    pub(crate) const fn is_kernel_enclosed(&self) -> Option<bool> {
        match &self.data {
            HostData::Unrecorded { is_enclosed, .. } => Some(*is_enclosed),
            _ => None,
        }
    }

    /// Returns `true` for a profile.
    pub(crate) const fn is_profile(&self) -> bool {
        matches!(&self.data, HostData::Profile(_))
    }

    /// Returns the host as a destination for a guest with these features, with the registers in
    /// the list of `program`.
    ///
    /// A profile is the same for all features.
    ///
    /// # Errors
    /// Returns an error if the recordings do not cover these features.
    pub fn destination(
        &self,
        features: Features,
        program: Program,
    ) -> Result<Arc<Destination>, Error> {
        let key = (features, program);
        if let Some(known) = self.destinations.get(&key) {
            return Ok(known);
        }
        let destination = match &self.data {
            HostData::Recorded(record) => record.destination(features, program)?,
            HostData::WithFeatures(record, own) => record.destination(*own, program)?,
            HostData::Profile(destination) => destination.as_ref().clone(),
            HostData::Unrecorded { .. } => return Err(Error::not_recorded(&self.name)),
        };
        let destination = Arc::new(Destination {
            loader: self.loader.or(destination.loader),
            ..destination
        });
        self.destinations.insert(key, Arc::clone(&destination));
        Ok(destination)
    }

    /// Returns the destinations that the host may be for a guest: one, unless a feature of the
    /// guest is open or the kernel was not recorded. Empty if nothing is known of the host.
    pub(crate) fn possible(
        &self,
        guest: &GuestKey,
    ) -> Result<Arc<Vec<PossibleDestination>>, Error> {
        if let Some(known) = self.possible.get(guest) {
            return Ok(known);
        }
        let possible = Arc::new(self.find_possible(guest)?);
        self.possible.insert(guest.clone(), Arc::clone(&possible));
        Ok(possible)
    }

    fn find_possible(&self, guest: &GuestKey) -> Result<Vec<PossibleDestination>, Error> {
        if let HostData::Unrecorded { neighbours, .. } = &self.data {
            let mut possible = Vec::new();
            for neighbour in neighbours {
                let of_neighbour = neighbour.find_possible(guest)?;
                possible.extend(of_neighbour.into_iter().map(|it| PossibleDestination {
                    recorded_host: Some(neighbour.name.clone()),
                    ..it
                }));
            }
            return Ok(possible);
        }
        let lacking = self.lacking_features(guest);
        let undetermined = guest.undetermined.difference(lacking);
        let is_open = matches!(&self.data, HostData::Recorded(_)) && !undetermined.is_empty();
        let features = guest.features.unwrap_or_else(|| {
            // Such a guest is refused because of its accelerator, whatever its features are.
            let mut recorded = self.record().into_iter().flat_map(|it| it.guests.keys());
            recorded.next().copied().unwrap_or(Features::NONE)
        });
        // A VM with a feature that the host lacks can only be started there without it.
        let features = features.difference(lacking);
        let find = |features, has_feature| -> Result<_, Error> {
            let destination = self.destination(features, guest.program)?.as_ref().clone();
            Ok(PossibleDestination {
                destination: self.complete(destination, guest),
                has_feature,
                recorded_host: None,
            })
        };
        let mut possible = vec![find(features, is_open.then_some(true))?];
        if is_open {
            let without = features.difference(undetermined);
            possible.push(find(without, Some(false))?);
        }
        Ok(possible)
    }

    /// Returns the features of a guest that no guest of this host can have.
    pub(crate) fn lacking_features(&self, guest: &GuestKey) -> Features {
        match &self.data {
            HostData::Recorded(record) => {
                let features = guest.features.unwrap_or(Features::NONE);
                features.intersection(record.lacking_features())
            }
            HostData::WithFeatures(..) | HostData::Profile(_) | HostData::Unrecorded { .. } => {
                Features::NONE
            }
        }
    }

    /// Adds to a destination what the guest decides of it.
    fn complete(&self, mut destination: Destination, guest: &GuestKey) -> Destination {
        destination.loader = destination.loader.or(guest.loader);
        if let Some(count) = guest.new_vcpus {
            destination.vcpus.truncate(count);
            destination.exclude_feature_bits();
        } else if !self.is_profile() {
            // The VM is assumed to be started as at the source. Plans use no more of its shape.
            destination.shape = Some(MachineShape {
                machine: guest.machine.clone(),
                ..MachineShape::default()
            });
        }
        destination
    }

    /// Returns the host as a destination for a new VM of another host: with one vCPU, and without
    /// the loaders that read feature bits of QEMU, which a new VM lacks.
    ///
    /// # Errors
    /// Returns an error if the recordings do not cover these features.
    pub fn destination_for_new_vm(&self, features: Features) -> Result<Destination, Error> {
        let mut destination = self.destination(features, Program::QEMU)?.as_ref().clone();
        destination.vcpus.truncate(1);
        destination.exclude_feature_bits();
        Ok(destination)
    }

    /// Returns a new VM of this host with one vCPU, as QEMU saves it before the guest runs.
    ///
    /// Values that are not known are [unknown](cpreg::register::Value::unknown).
    ///
    /// # Errors
    /// Returns an error if the recordings do not cover these features.
    pub fn new_vm(&self, features: Features) -> Result<Vm, Error> {
        match &self.data {
            HostData::Recorded(record) => record.new_vm(features, Program::QEMU),
            HostData::WithFeatures(record, own) => record.new_vm(*own, Program::QEMU),
            HostData::Profile(destination) => Ok(destination.new_vm(1)),
            HostData::Unrecorded { .. } => Err(Error::not_recorded(&self.name)),
        }
    }

    /// Returns the profile, if the host is one.
    pub(crate) fn as_profile(&self) -> Option<&Destination> {
        match &self.data {
            HostData::Profile(destination) => Some(destination),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use cpreg_hosts::HostIndex;

    use super::*;

    /// Returns recorded hosts by name.
    pub(crate) fn recorded_hosts(names: &[&str]) -> Vec<Host> {
        let index = HostIndex::built_in().expect("the checked-in index is valid");
        let hosts = names.iter().map(|name| {
            let named = index.resolve(name).expect("a recorded host");
            Host::recorded(named.host.name(), named.host.record())
        });
        hosts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::recorded_hosts;
    use super::*;

    #[test]
    fn a_host_keeps_the_destination_of_each_set_of_features() {
        let hosts = recorded_hosts(&["linux-6.12.107/neoverse-n1"]);
        let get = |features| {
            hosts[0]
                .destination(features, Program::QEMU)
                .expect("known")
        };
        let with_pmu = get(Features::PMU);
        assert!(Arc::ptr_eq(&with_pmu, &get(Features::PMU)));
        let without = get(Features::NONE);
        assert!(without.vcpus[0].registers().len() < with_pmu.vcpus[0].registers().len());
        let error = hosts[0].destination(Features::SVE, Program::QEMU);
        assert!(error.is_err(), "a Neoverse N1 has no SVE");
    }

    #[test]
    fn a_profile_is_a_host_too() {
        let recorded = recorded_hosts(&["linux-6.12.107/neoverse-n1"]).remove(0);
        let destination = recorded
            .destination(Features::PMU, Program::QEMU)
            .expect("known");
        let profile = Host::profile("a host".to_owned(), destination.as_ref().clone())
            .with_loader(Some(Loader::qemu(10, 0)));
        let copy = profile
            .destination(Features::NONE, Program::QEMU)
            .expect("known");
        assert_eq!(copy.loader, Some(Loader::qemu(10, 0)));
        assert_eq!(copy.vcpus[0].registers(), destination.vcpus[0].registers());
        let vm = profile.new_vm(Features::NONE).expect("known");
        assert_eq!(vm.vcpus[0].registers.len(), copy.vcpus[0].registers().len());
    }
}
