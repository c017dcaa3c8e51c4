//! [`BirthValue`]: a value that would have avoided a difference, had the VM started with it.
//!
//! A VMM can set some registers before a guest first runs: the PSCI version, the firmware bitmaps
//! and the fields of ID registers. The guest then never relies on what the destination lacks.

use alloc::vec::Vec;

use super::{Action, Decision, Plan};
use crate::destination::accept::nearest_value;
use crate::destination::kernel::RegisterKind;
use crate::destination::{Destination, DestinationVcpu};
use crate::register::{RegisterId, Value, differing_fields};
use crate::tolerance::Tolerances;

/// Value of a register that a VM of both hosts can start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BirthValue {
    /// Register.
    pub register: RegisterId,
    /// Bits that matter.
    pub mask: u64,
    /// Value of these bits.
    pub value: u64,
}

impl Plan {
    /// Returns the values that would have avoided differences of this plan, ascending by register.
    ///
    /// The source's kernel may refuse the value of an ID register: only newer kernels let a VMM
    /// write them.
    pub fn birth_values(
        &self,
        destination: &Destination,
        tolerances: &Tolerances,
    ) -> Vec<BirthValue> {
        // These registers have one value for the whole VM.
        let Some((plan, destination_vcpu)) = self.vcpus.first().zip(destination.vcpu(0)) else {
            return Vec::new();
        };
        let decisions = plan.decisions.iter();
        decisions
            .filter_map(|decision| birth_value(decision, destination, destination_vcpu, tolerances))
            .collect()
    }
}

fn birth_value(
    decision: &Decision,
    destination: &Destination,
    destination_vcpu: &DestinationVcpu,
    tolerances: &Tolerances,
) -> Option<BirthValue> {
    let id = decision.register;
    let from = decision.source.as_ref().and_then(Value::as_u64)?;
    let kind = RegisterKind::from_id(id);
    let value = match (destination_vcpu.get(id), &decision.action) {
        (_, Action::Copy) => return None,
        (Some(register), _) => nearest_value(destination, destination_vcpu, register, Some(from))?,
        (None, Action::Refuse) => tolerances.ignorable_value(id, destination.accelerator)?,
        (None, _) => return None,
    };
    let mask = match kind {
        RegisterKind::PsciVersion => u64::from(u32::MAX),
        RegisterKind::FirmwareBitmap(_) => from ^ value,
        RegisterKind::Identification => {
            let fields = differing_fields(id, from, value);
            fields.fold(0, |mask, difference| mask | difference.field.mask())
        }
        _ => return None,
    };
    (mask != 0 && value != from).then_some(BirthValue {
        register: id,
        mask,
        value: value & mask,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::{
        Accelerator, AcceptedValues, DestinationRegister, Loader, ValueOrigin,
    };
    use crate::hardware::HardwareFacts;
    use crate::plan::Consents;
    use crate::vm::Vm;

    fn birth_values(vm: &[(RegisterId, u64)], host: &[(RegisterId, u64)]) -> Vec<BirthValue> {
        let registers = host.iter().map(|(id, value)| DestinationRegister {
            id: *id,
            value: Some(Value::U64(*value)),
            accepted_values: AcceptedValues::ByKind,
        });
        let destination = Destination {
            name: "there".into(),
            accelerator: Some(Accelerator::Kvm),
            loader: Some(Loader::qemu(10, 0)),
            value_origin: ValueOrigin::Reset,
            vcpus: alloc::vec![DestinationVcpu::new(registers, Vec::new())],
            kernel_version: None,
            hardware: HardwareFacts::UNKNOWN,
            shape: None,
        };
        let tolerances = Tolerances::default();
        let vm = Vm::with_one_vcpu(vm);
        let plan = Plan::new(&vm, &destination, &tolerances, &Consents::default());
        plan.birth_values(&destination, &tolerances)
    }

    #[test]
    fn a_common_value_would_have_avoided_the_difference() {
        let psci = RegisterId::PSCI_VERSION;
        let value = |register, mask, value| BirthValue {
            register,
            mask,
            value,
        };
        assert_eq!(
            birth_values(&[(psci, 0x1_0003)], &[(psci, 0x1_0001)]),
            [value(psci, 0xffff_ffff, 0x1_0001)]
        );
        assert_eq!(birth_values(&[(psci, 0x1_0001)], &[(psci, 0x1_0001)]), []);
        let bitmap = RegisterId::VENDOR_HYP_BMAP_2;
        assert_eq!(birth_values(&[(bitmap, 3)], &[]), [value(bitmap, 3, 0)]);
        assert_eq!(birth_values(&[(bitmap, 0)], &[]), []);
        // No VMM sets another kind of register.
        assert_eq!(birth_values(&[(RegisterId::TCR2_EL1, 5)], &[]), []);
    }

    #[test]
    fn the_fields_of_an_id_register_that_differ_matter() {
        let id = RegisterId::ID_AA64ISAR0_EL1;
        let values = birth_values(&[(id, 0x1_0021_2120)], &[(id, 0x1_0021_1120)]);
        assert_eq!(
            values,
            [BirthValue {
                register: id,
                mask: 0xf000,
                value: 0x1000,
            }]
        );
    }
}
