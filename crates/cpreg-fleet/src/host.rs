//! [`Host`]: a host of the fleet.
//!
//! The registers of a recorded host depend on the guest's features, so a host gives one destination
//! for each set of features. It keeps each of them, because a fleet asks for the same few sets many
//! times.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cpreg::destination::loader::Program;
use cpreg::destination::{Destination, Features, Loader};
use cpreg::hardware::HardwareFacts;
use cpreg::register::Value;
use cpreg::shape::MachineShape;
use cpreg::vm::{Registers, Vcpu, Vm};
use cpreg_hosts::{Error, HostRecord};

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
    destinations: Mutex<HashMap<(Features, Program), Arc<Destination>>>,
}

/// Data about a host.
#[derive(Debug)]
enum HostData {
    /// Recorded host, for guests with any recorded features.
    Recorded(Box<HostRecord>),
    /// Profile: a host for guests with the features of the recording.
    Profile(Arc<Destination>),
}

impl Host {
    /// Returns a recorded host.
    pub fn recorded(name: String, record: HostRecord) -> Self {
        Self::new(name, HostData::Recorded(Box::new(record)))
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
            destinations: Mutex::default(),
        }
    }

    /// Sets the program that loads VMs on the host.
    #[must_use]
    pub fn with_loader(mut self, loader: Option<Loader>) -> Self {
        self.loader = loader;
        self.destinations = Mutex::default();
        self
    }

    /// Returns the name of the host in reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the recording of the host; `None` for a profile.
    pub fn record(&self) -> Option<&HostRecord> {
        match &self.data {
            HostData::Recorded(record) => Some(record),
            HostData::Profile(_) => None,
        }
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
        let lock = || {
            // A panic of another thread leaves complete entries.
            self.destinations
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(known) = lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        let destination = match &self.data {
            HostData::Recorded(record) => record.destination(features, program)?,
            HostData::Profile(destination) => destination.as_ref().clone(),
        };
        let destination = Arc::new(Destination {
            loader: self.loader.or(destination.loader),
            ..destination
        });
        lock().insert(key, Arc::clone(&destination));
        Ok(destination)
    }

    /// Returns the host as a destination for a new VM of another host: with one vCPU, and without
    /// the loaders that read feature bits of QEMU, which a new VM lacks.
    ///
    /// # Errors
    /// Returns an error if the recordings do not cover these features.
    pub fn destination_for_new_vm(&self, features: Features) -> Result<Destination, Error> {
        // QEMU up to 5.2, which loads such bits, has no newer machine.
        const MACHINE_WITHOUT_FEATURE_BITS: &str = "virt-6.0";
        let mut destination = self.destination(features, Program::QEMU)?.as_ref().clone();
        destination.vcpus.truncate(1);
        if destination.loader.is_none() && destination.shape.is_none() {
            destination.shape = Some(MachineShape {
                machine: Some(MACHINE_WITHOUT_FEATURE_BITS.to_owned()),
                ..MachineShape::default()
            });
        }
        Ok(destination)
    }

    /// Returns a new VM of this host with one vCPU, as QEMU saves it before the guest runs.
    ///
    /// Values that are not known are [unknown](Value::unknown).
    ///
    /// # Errors
    /// Returns an error if the recordings do not cover these features.
    pub fn new_vm(&self, features: Features) -> Result<Vm, Error> {
        match &self.data {
            HostData::Recorded(record) => record.new_vm(features, Program::QEMU),
            HostData::Profile(destination) => Ok(vm_of_profile(destination)),
        }
    }
}

/// Returns a VM with one vCPU and the values in a profile.
fn vm_of_profile(host: &Destination) -> Vm {
    let vcpus = host.vcpus.iter().take(1).map(|vcpu| {
        let pairs = vcpu.registers().iter().map(|register| {
            let value = register.value.clone();
            (register.id, value.unwrap_or_else(Value::unknown))
        });
        Vcpu {
            // A destination lists no register twice, so `from_pairs` does not fail.
            registers: Registers::from_pairs(pairs).unwrap_or_default(),
            extensions: vcpu.extensions.clone(),
            ..Vcpu::default()
        }
    });
    Vm {
        vcpus: vcpus.collect(),
        source_hardware: HardwareFacts {
            is_emulated: host.is_emulated(),
            ..host.hardware
        },
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
