//! [`DestinationVcpu`]: one vCPU of a destination, its registers, and the values they accept.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::accepted_fields::AcceptedFields;
use crate::hardware::{HardwareFact, HardwareFacts};
use crate::register::{RegisterId, Value};
use crate::vm::{Extension, Vcpu};

/// vCPU of a destination.
#[derive(Clone, Debug, Default)]
pub struct DestinationVcpu {
    registers: Vec<DestinationRegister>,
    /// `true` if the kernel reports the writable masks of ID registers.
    reports_masks: bool,
    /// Extensions that this vCPU has.
    pub extensions: Vec<Extension>,
}

/// Register that a destination lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationRegister {
    /// Id of the register.
    pub id: RegisterId,
    /// Recorded value; see [`Destination::value_origin`](super::Destination::value_origin).
    pub value: Option<Value>,
    /// Other values that the register is known to accept or refuse.
    pub accepted_values: AcceptedValues,
}

/// Observed values that a destination's register accepts, in addition to its recorded value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AcceptedValues {
    /// No observation. The [`RegisterKind`](super::kernel::RegisterKind) determines the accepted
    /// values.
    #[default]
    ByKind,
    /// Only these bits may differ from the recorded value (`KVM_ARM_GET_REG_WRITABLE_MASKS`). KVM
    /// decides about each field within these bits.
    Writable(u64),
    /// The register accepts exactly these values.
    OneOf(Vec<u64>),
    /// The register accepts any combination of these bits, and no other bit.
    Subset(u64),
    /// The register accepts these values of its fields, and no change of other bits.
    Fields(Box<AcceptedFields>),
}

impl DestinationRegister {
    /// Returns the value that the register reads after an accepted write of `value`, if trials
    /// showed that KVM replaces a part of `value`.
    ///
    /// KVM drops fields of ID registers that older kernels showed to guests by mistake, such as
    /// ID_AA64MMFR2_EL1.NV and ID_AA64PFR0_EL1.MPAM.
    pub fn replaced_value(&self, value: u64) -> Option<u64> {
        let AcceptedValues::Fields(fields) = &self.accepted_values else {
            return None;
        };
        let own = self.value.as_ref()?.as_u64()?;
        let after = fields.value_after_write(own, value)?;
        (after != value).then_some(after)
    }
}

impl DestinationVcpu {
    /// Returns the first fact that contradicts a listed register, and the register with its value.
    ///
    /// QEMU's emulator lists registers that hold such facts.
    pub fn find_contradiction(
        &self,
        facts: HardwareFacts,
    ) -> Option<(HardwareFact, RegisterId, u64)> {
        let mut facts = HardwareFact::ALL
            .into_iter()
            .filter_map(|fact| Some((fact, facts.get(fact)?)));
        facts.find_map(|(fact, stated)| {
            let register = fact.listed_register()?;
            let value = self.value(register).filter(|value| *value != stated)?;
            Some((fact, register, value))
        })
    }

    /// Returns a vCPU with these registers, in any order. Of several registers with one id, keeps
    /// the last.
    pub fn new(
        registers: impl IntoIterator<Item = DestinationRegister>,
        extensions: Vec<Extension>,
    ) -> Self {
        let mut registers: Vec<_> = registers.into_iter().collect();
        registers.sort_by_key(|register| register.id);
        registers.reverse();
        registers.dedup_by_key(|register| register.id);
        registers.reverse();
        let reports_masks = registers
            .iter()
            .any(|register| match &register.accepted_values {
                AcceptedValues::Writable(_) => true,
                AcceptedValues::Fields(fields) => fields.writable.is_some(),
                _ => false,
            });
        Self {
            registers,
            reports_masks,
            extensions,
        }
    }

    /// Returns the destination's vCPU as a vCPU that was loaded or saved there shows it.
    ///
    /// All values are proven for the destination, but [`ByKind`](AcceptedValues::ByKind) applies to
    /// any other value.
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

    /// Returns the listed registers, ascending by id.
    pub fn registers(&self) -> &[DestinationRegister] {
        &self.registers
    }

    /// Returns `true` if both vCPUs list the same registers with the same observations, and
    /// `accepts` returns `true` for each one whose recorded values differ.
    pub(crate) fn differs_only_in(
        &self,
        other: &Self,
        mut accepts: impl FnMut(RegisterId) -> bool,
    ) -> bool {
        let mut pairs = self.registers.iter().zip(&other.registers);
        self.registers.len() == other.registers.len()
            && pairs.all(|(one, other)| {
                one.id == other.id
                    && one.accepted_values == other.accepted_values
                    && (one.value == other.value || accepts(one.id))
            })
    }

    /// Returns `true` if the kernel reports the writable masks of ID registers (v6.7).
    pub(super) const fn reports_masks(&self) -> bool {
        self.reports_masks
    }

    /// Returns the register with this id, if the destination lists the register.
    pub fn get(&self, id: RegisterId) -> Option<&DestinationRegister> {
        let index = self
            .registers
            .binary_search_by_key(&id, |register| register.id)
            .ok()?;
        Some(&self.registers[index])
    }

    /// Returns the recorded value of a listed register of at most 64 bits.
    pub fn value(&self, id: RegisterId) -> Option<u64> {
        self.get(id)?.value.as_ref()?.as_u64()
    }

    /// Returns the extension with this name, if the vCPU has it.
    pub fn extension(&self, name: &str) -> Option<&Extension> {
        self.extensions
            .iter()
            .find(|extension| extension.name == name)
    }
}
