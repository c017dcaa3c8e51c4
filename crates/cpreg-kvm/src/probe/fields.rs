//! Values that each field of an ID register accepts, found by writing every value.
//!
//! The probe writes to a temporary vCPU, one field and one value at a time. It writes the original
//! value back after each accepted value, because the VM's ID registers decide which other registers
//! exist. If a vCPU does not take the original value back, a fresh VM replaces it.
//!
//! The trials also find values that the writable masks do not show. KVM accepts some values outside
//! the masks but replaces them by others, for example in ID_AA64PFR0_EL1.MPAM.

use std::collections::BTreeMap;

use cpreg::destination::kernel::RegisterKind;
use cpreg::destination::{AcceptedField, DroppedValues, Features, MAX_FIELD_WIDTH};
use cpreg::register::{RegisterId, Value};

use super::vm::create_vm;
use crate::error::{Error, ErrorKind};
use crate::host::{Host, Vcpu, Vm};
use crate::value;

/// Width of the pieces into which bits outside named fields are divided. Most ID registers have
/// fields of this width.
const UNNAMED_FIELD_WIDTH: u8 = 4;

/// Returns the accepted values of the fields of each ID register, for a guest with these features.
///
/// A register is missing if its behaviour cannot be described field by field.
///
/// # Errors
/// Returns an error if such a VM cannot be created or does not list its registers.
pub(super) fn probe_fields(
    host: &impl Host,
    features: Features,
) -> Result<BTreeMap<RegisterId, Vec<AcceptedField>>, Error> {
    let mut vm = create_vm(host, features, 1)?;
    let mut accepted = BTreeMap::new();
    for id in id_registers(&vm, features)? {
        let Some(vcpu) = vm.vcpus().first() else {
            return Ok(accepted);
        };
        let Ok(Value::U64(original)) = value::read(vcpu, id) else {
            continue;
        };
        if let Some(fields) = try_register(vcpu, id, original) {
            accepted.insert(id, fields);
        }
        if value::read(vcpu, id) != Ok(Value::U64(original)) {
            vm = create_vm(host, features, 1)?;
        }
    }
    Ok(accepted)
}

fn id_registers(vm: &impl Vm, features: Features) -> Result<Vec<RegisterId>, Error> {
    let Some(vcpu) = vm.vcpus().first() else {
        return Ok(Vec::new());
    };
    let list = vcpu.list().map_err(|errno| {
        let error = Error::from(ErrorKind::List { vcpu: None, errno });
        error.with_probe_features(features)
    })?;
    Ok(list.into_iter().filter(|id| has_fields(*id)).collect())
}

/// Returns `true` if KVM decides about each field of the register.
pub(super) fn has_fields(id: RegisterId) -> bool {
    matches!(
        RegisterKind::from_id(id),
        RegisterKind::Identification | RegisterKind::CacheType
    )
}

/// Tries all fields of one register. Returns the fields that accept more than the original value.
///
/// Returns `None` if a write to a field changes another field, or if the register does not return
/// to its original value.
pub(super) fn try_register(
    vcpu: &impl Vcpu,
    id: RegisterId,
    original: u64,
) -> Option<Vec<AcceptedField>> {
    let mut accepted = Vec::new();
    for (msb, lsb) in fields(id) {
        let count = 1_u64 << (msb - lsb + 1);
        let mask = (count - 1) << lsb;
        let original_field = (original & mask) >> lsb;
        let mut kept = 1_u64 << original_field;
        let mut dropped: BTreeMap<u8, u64> = BTreeMap::new();
        for value in (0..count).filter(|value| *value != original_field) {
            let written = original & !mask | value << lsb;
            if value::write(vcpu, id, &Value::U64(written)).is_err() {
                continue;
            }
            let read = value::read(vcpu, id).ok()?.as_u64()?;
            value::write(vcpu, id, &Value::U64(original)).ok()?;
            if (read ^ original) & !mask != 0 {
                return None;
            }
            if read == written {
                kept |= 1 << value;
            } else {
                let reads = u8::try_from((read & mask) >> lsb).ok()?;
                *dropped.entry(reads).or_default() |= 1 << value;
            }
        }
        if kept.count_ones() > 1 || !dropped.is_empty() {
            let dropped = dropped.into_iter();
            let dropped = dropped.map(|(reads, values)| DroppedValues { reads, values });
            accepted.push(AcceptedField::new(msb, lsb, kept, dropped.collect())?);
        }
    }
    Some(accepted)
}

/// Returns the most and least significant bit of each field to try, ascending. The fields cover all
/// bits of the register.
///
/// Wide fields and the bits of no field are divided.
pub(super) fn fields(id: RegisterId) -> Vec<(u8, u8)> {
    let bits = u8::try_from(id.size_bytes().unwrap_or(8).min(8) * 8).unwrap_or(64);
    let named = id.fields().iter().filter(|field| {
        !field.is_alternative() && field.width() <= MAX_FIELD_WIDTH && field.msb() < bits
    });
    let mut ends: BTreeMap<u8, u8> = named.map(|field| (field.lsb(), field.msb())).collect();
    let mut fields = Vec::new();
    let mut lsb = 0;
    while lsb < bits {
        let msb = ends.remove(&lsb).unwrap_or_else(|| {
            let step = lsb - lsb % UNNAMED_FIELD_WIDTH + UNNAMED_FIELD_WIDTH - 1;
            let next = ends.keys().find(|next| **next > lsb);
            let last = next.map_or(bits - 1, |next| next - 1);
            step.min(last)
        });
        fields.push((msb, lsb));
        lsb = msb + 1;
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn all_bits_are_tried() {
        assert_eq!(
            fields(RegisterId::ID_AA64MMFR3_EL1)[..3],
            [(3, 0), (7, 4), (11, 8)]
        );
        let ctr = fields(RegisterId::CTR_EL0);
        for field in [(3, 0), (15, 14), (19, 16), (28, 28), (29, 29), (37, 32)] {
            assert!(ctr.contains(&field), "{field:?} {ctr:?}");
        }
        let id_registers =
            (0..64).map(|number| RegisterId::sysreg(3, 0, 0, number / 8, number % 8));
        for id in id_registers.chain([RegisterId::CTR_EL0]) {
            let fields = fields(id);
            let mut next = 0;
            for (msb, lsb) in &fields {
                assert_eq!(*lsb, next, "{id}");
                assert!(msb - lsb < MAX_FIELD_WIDTH, "{id}");
                next = msb + 1;
            }
            assert_eq!(usize::from(next), id.size_bytes().unwrap_or(8).min(8) * 8);
        }
    }

    /// MPAM is outside the writable mask. KVM accepts the CPU's value 1, which then reads as 0.
    #[test]
    fn dropped_values_are_found() {
        let dropped = DroppedValues {
            reads: 0,
            values: 1 << 1,
        };
        let mpam = AcceptedField::new(43, 40, 1, vec![dropped]).expect("a field");
        let csv2 = AcceptedField::new(59, 56, 0b11, Vec::new()).expect("a field");
        let id = RegisterId::ID_AA64PFR0_EL1;
        let mut register = testing::register(id, 1 << 56 | 0x11);
        register.fields = Some(vec![mpam, csv2]);
        let ctr = testing::register(RegisterId::CTR_EL0, 0x8444_c004);
        let host = testing::host(Features::NONE, vec![register.clone(), ctr]);
        let found = probe_fields(&host, Features::NONE).expect("a VM");
        assert_eq!(found.get(&id), register.fields.as_ref());
        assert_eq!(found.get(&RegisterId::CTR_EL0), Some(&Vec::new()));
    }
}
