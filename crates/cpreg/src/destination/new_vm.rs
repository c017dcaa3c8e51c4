//! New VMs of a host: VMs that have just started on it, and of which only the host is known.

use alloc::borrow::ToOwned as _;

use crate::destination::features::GuestFeatures;
use crate::destination::{Destination, DestinationVcpu};
use crate::hardware::HardwareFacts;
use crate::register::{RegisterId, Value};
use crate::shape::MachineShape;
use crate::vm::{Registers, Vcpu, Vm};

impl Destination {
    /// Returns a new VM of this host, with up to `count` vCPUs.
    ///
    /// The registers hold the host's reset values. A register whose reset value is not known has an
    /// [unknown](Value::unknown) value.
    pub fn new_vm(&self, count: usize) -> Vm {
        let vcpus = self.vcpus.iter().take(count).map(|vcpu| Vcpu {
            registers: reset_values(vcpu),
            extensions: vcpu.extensions.clone(),
            ..Vcpu::default()
        });
        Vm {
            vcpus: vcpus.collect(),
            source_hardware: self.source_hardware(),
        }
    }

    /// Returns the facts that a VM of this host has seen.
    pub fn source_hardware(&self) -> HardwareFacts {
        HardwareFacts {
            is_emulated: self.is_emulated(),
            uses_lpis: None,
            ..self.hardware
        }
    }

    /// Returns the features of the guest for which the host's registers were recorded.
    pub fn guest_features(&self) -> GuestFeatures {
        let registers = self.vcpu(0).map(reset_values);
        GuestFeatures::from_registers(&registers.unwrap_or_default())
    }

    /// Excludes loaders that read feature bits of QEMU from the input, unless the loader is known.
    ///
    /// QEMU up to 5.2 reads and saves these bits. A VM that is known only by its host has none.
    pub fn exclude_feature_bits(&mut self) {
        const MACHINE_WITHOUT_BITS: &str = "virt-6.0";
        if self.loader.is_none() && self.shape.is_none() {
            self.shape = Some(MachineShape {
                machine: Some(MACHINE_WITHOUT_BITS.to_owned()),
                ..MachineShape::default()
            });
        }
    }

    /// Returns `true` if the host lists no core registers. QEMU does not need them in the list,
    /// other VMMs do.
    pub fn lacks_core_registers(&self) -> bool {
        let vcpu = self.vcpu(0);
        vcpu.is_some_and(|vcpu| vcpu.get(RegisterId::CORE_PSTATE).is_none())
    }
}

/// Returns the reset values of a vCPU's registers.
fn reset_values(vcpu: &DestinationVcpu) -> Registers {
    let pairs = vcpu.registers().iter().map(|register| {
        let value = register.value.clone();
        (register.id, value.unwrap_or_else(Value::unknown))
    });
    // A destination lists no register twice, so `from_pairs` does not fail.
    Registers::from_pairs(pairs).unwrap_or_default()
}
