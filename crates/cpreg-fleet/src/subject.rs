//! [`Subject`]: a VM to plan, from a file or as a new VM of a host.

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, Features, Loader};
use cpreg::shape::MachineShape;
use cpreg::vm::Vm;
use cpreg_hosts::Error;

use crate::host::{GuestKey, Host};

/// VM to plan, with what decides the registers of its destinations.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Name in reports.
    pub name: String,
    /// State of the VM.
    pub vm: Vm,
    /// Shape of the VM; `None` for a new VM, of which only the host is known.
    pub shape: Option<MachineShape>,
    /// Accelerator that the VM ran under, if known.
    pub accelerator: Option<Accelerator>,
    /// Features of the guest.
    pub features: GuestFeatures,
    /// Program whose list of registers the VM has.
    pub program: Program,
    /// Loader of the VM's file, if the file decides it.
    pub loader: Option<Loader>,
}

impl Subject {
    /// Returns a VM that QEMU saved, with the features that its registers show.
    pub fn from_qemu(
        name: String,
        vm: Vm,
        shape: MachineShape,
        accelerator: Option<Accelerator>,
    ) -> Self {
        let vcpus = vm.vcpus.iter().map(|vcpu| &vcpu.registers);
        Self {
            name,
            features: GuestFeatures::from_vcpus(vcpus),
            vm,
            shape: Some(shape),
            accelerator,
            program: Program::QEMU,
            loader: None,
        }
    }

    /// Returns a new VM of a host, for a guest with these features.
    ///
    /// A profile gives the VM its own features and number of vCPUs.
    ///
    /// # Errors
    /// Returns an error if the recordings do not cover these features.
    pub fn new_vm(host: &Host, features: Features) -> Result<Self, Error> {
        let (name, vm, features) = match host.as_profile() {
            Some(profile) => (
                host.name().to_owned(),
                profile.new_vm(usize::MAX),
                profile.guest_features(),
            ),
            None => (
                match host.features() {
                    Some(_) => host.name().to_owned(),
                    None => format!("{}/{features}", host.name()),
                },
                host.new_vm(features)?,
                GuestFeatures::determined(host.features().unwrap_or(features)),
            ),
        };
        Ok(Self {
            name,
            vm,
            shape: None,
            accelerator: host.accelerator(),
            features,
            program: Program::QEMU,
            loader: None,
        })
    }

    /// Returns what decides the registers of the VM's destinations.
    pub(crate) fn guest(&self) -> GuestKey {
        let shows_features = self.shape.is_none()
            || self.program != Program::QEMU
            || (self.accelerator == Some(Accelerator::Kvm) && !self.vm.vcpus.is_empty());
        let shape = self.shape.as_ref();
        GuestKey {
            features: shows_features.then_some(self.features.features),
            undetermined: self.features.undetermined,
            program: self.program,
            loader: self.loader,
            machine: shape.and_then(|shape| shape.machine.clone()),
            new_vcpus: shape.is_none().then_some(self.vm.vcpus.len()),
        }
    }
}
