//! [`Birth`]: a VM that is born with settings on one host, and the host as a destination that is
//! started with the same settings.
//!
//! `cpreg run --baseline` makes the settings before the VMM asks KVM for the list of registers. A
//! register that a low ID field hides is therefore in no list, neither of the VM nor of the
//! destination's VMM.

use std::collections::BTreeSet;

use cpreg::destination::kernel::{self, RegisterKind};
use cpreg::destination::{Destination, DestinationVcpu, Features};
use cpreg::register::{RegisterId, Value};
use cpreg::vm::Vm;
use cpreg_hosts::Error;

use super::lengths::LengthLimit;
use super::setting::Setting;
use crate::host::Host;

/// VM that is born on a host, and the host as a destination for such VMs.
pub(super) struct Birth {
    pub(super) vm: Vm,
    /// Destination that is started with the settings.
    pub(super) destination: Destination,
    /// Destination that is started without the settings of registers. It lists all registers.
    pub(super) plain_destination: Destination,
    /// Registers that the settings hide on the host.
    pub(super) hidden: BTreeSet<RegisterId>,
}

impl Birth {
    /// Returns the birth with these features and settings on a host.
    ///
    /// # Errors
    /// Returns an error if the recordings do not cover these features.
    pub(super) fn new(
        host: &Host,
        features: Features,
        settings: &[Setting],
        lengths: Option<LengthLimit>,
    ) -> Result<Self, Error> {
        let mut vm = host.new_vm(features)?;
        let mut destination = host.destination_for_new_vm(features)?;
        if let Some(limit) = lengths {
            let facts = [&mut vm.source_hardware, &mut destination.hardware];
            for facts in facts {
                facts.vector_lengths = facts.vector_lengths.map(|lengths| limit.apply(lengths));
            }
        }
        let plain_destination = destination.clone();
        let hidden = hidden_registers(&destination, settings);
        for vcpu in &mut vm.vcpus {
            for setting in settings {
                if let Some(value) = vcpu.registers.get_u64(setting.register) {
                    let value = Value::U64(setting.apply(value));
                    vcpu.registers.insert(setting.register, value);
                }
            }
            for id in &hidden {
                vcpu.registers.remove(*id);
            }
        }
        hide_registers(&mut destination, &hidden);
        Ok(Self {
            vm,
            destination,
            plain_destination,
            hidden,
        })
    }

    /// Returns the registers that the VM can be born without, of those that another host lacks.
    ///
    /// The guest has no use for them as long as it runs: an ID field or a value that the guest
    /// cannot change says so.
    pub(super) fn can_drop(&self, id: RegisterId) -> bool {
        let is_constant = matches!(
            RegisterKind::from_id(id),
            RegisterKind::FirmwareBitmap(_) | RegisterKind::PmuModel | RegisterKind::CacheSize(_)
        );
        is_constant
            || kernel::find_feature_gate(id).is_some_and(|gate| {
                let value = |vcpu: &cpreg::vm::Vcpu| vcpu.registers.get_u64(gate.id_register);
                let mut vcpus = self.vm.vcpus.iter();
                vcpus.all(|vcpu| value(vcpu).is_some_and(|value| gate.hides(value)))
            })
    }

    /// Returns the VM without these registers.
    pub(super) fn vm_without(&self, registers: &BTreeSet<RegisterId>) -> Vm {
        let mut vm = self.vm.clone();
        for vcpu in &mut vm.vcpus {
            for id in registers {
                vcpu.registers.remove(*id);
            }
        }
        vm
    }
}

/// Removes registers from the lists of a destination.
fn hide_registers(destination: &mut Destination, hidden: &BTreeSet<RegisterId>) {
    if hidden.is_empty() {
        return;
    }
    for vcpu in &mut destination.vcpus {
        let registers = vcpu.registers().iter().cloned();
        let listed = registers.filter(|register| !hidden.contains(&register.id));
        *vcpu = DestinationVcpu::new(listed, vcpu.extensions.clone());
    }
}

/// Returns the registers that a host hides from a VM with these settings.
fn hidden_registers(destination: &Destination, settings: &[Setting]) -> BTreeSet<RegisterId> {
    let Some(vcpu) = destination.vcpu(0) else {
        return BTreeSet::new();
    };
    let is_hidden = |id: RegisterId| {
        let version = destination.kernel_version;
        let Some(gate) = kernel::find_active_gate(version, id) else {
            return false;
        };
        let Some(own) = vcpu.value(gate.id_register) else {
            return false;
        };
        let of_register = settings
            .iter()
            .filter(|setting| setting.register == gate.id_register);
        let value = of_register.fold(own, |value, setting| setting.apply(value));
        gate.hides(value) && kernel::gates_by_vm_id_field(vcpu, version, id) == Some(true)
    };
    let listed = vcpu.registers().iter().map(|register| register.id);
    listed.filter(|id| is_hidden(*id)).collect()
}
