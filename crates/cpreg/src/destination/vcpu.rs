//! [`DestinationVcpu`]: one vCPU of a destination, the registers that it lists, and what was seen of the values that these take.

use alloc::vec::Vec;

use crate::register::{RegisterId, Value};
use crate::vm::{Extension, Vcpu};

/// One vCPU of a destination.
#[derive(Clone, Debug, Default)]
pub struct DestinationVcpu {
    registers: Vec<DestinationRegister>,
    /// The extensions that this vCPU has.
    pub extensions: Vec<Extension>,
}

/// One register that a destination lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationRegister {
    /// Which one.
    pub id: RegisterId,
    /// What it held when it was read; see [`Destination::values`](super::Destination::values).
    pub value: Option<Value>,
    /// Which other values are known to be taken or refused.
    pub accepted_values: AcceptedValues,
}

/// What has been seen of the values that a destination's register takes, beyond the one it held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AcceptedValues {
    /// Nothing; only its kind can tell.
    #[default]
    ByKind,
    /// Only these bits may differ from the value it held (`KVM_ARM_GET_REG_WRITABLE_MASKS`);
    /// within them KVM decides field by field.
    Writable(u64),
    /// Exactly these values.
    OneOf(Vec<u64>),
    /// Any of these bits, in any combination, and no others.
    Subset(u64),
}

impl DestinationVcpu {
    /// A vCPU with these registers, in any order; of several with one id the last stays.
    pub fn new(
        registers: impl IntoIterator<Item = DestinationRegister>,
        extensions: Vec<Extension>,
    ) -> Self {
        let mut registers: Vec<_> = registers.into_iter().collect();
        registers.sort_by_key(|register| register.id);
        registers.reverse();
        registers.dedup_by_key(|register| register.id);
        registers.reverse();
        Self {
            registers,
            extensions,
        }
    }

    /// The vCPU that a loaded or saved one is evidence of.
    pub fn from_vcpu(vcpu: &Vcpu) -> Self {
        let registers = vcpu
            .registers
            .iter()
            .map(|(id, value)| DestinationRegister {
                id,
                value: Some(value.clone()),
                accepted_values: AcceptedValues::ByKind,
            });
        Self::new(registers, vcpu.extensions.clone())
    }

    /// The registers listed there, ascending by id.
    pub fn registers(&self) -> &[DestinationRegister] {
        &self.registers
    }

    /// The register with this id, if it is listed there.
    pub fn get(&self, id: RegisterId) -> Option<&DestinationRegister> {
        let at = self
            .registers
            .binary_search_by_key(&id, |register| register.id)
            .ok()?;
        Some(&self.registers[at])
    }

    /// What a listed register of at most 64 bits held.
    pub fn value(&self, id: RegisterId) -> Option<u64> {
        self.get(id)?.value.as_ref()?.as_u64()
    }

    /// The extension with this name, if the vCPU has it.
    pub fn extension(&self, name: &str) -> Option<&Extension> {
        self.extensions
            .iter()
            .find(|extension| extension.name == name)
    }
}
