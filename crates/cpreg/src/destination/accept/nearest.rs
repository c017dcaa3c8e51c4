//! The accepted value nearest to the VM's.

use super::id_register;
use super::kvm::has_order;
use super::tcg;
use crate::destination::kernel::RegisterKind;
use crate::destination::{
    Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu,
};
use crate::register::{Value, differing_fields};

/// Returns the value nearest to the VM's that the destination is known to accept, if it differs
/// from the VM's.
pub(crate) fn nearest_value(
    destination: &Destination,
    destination_vcpu: &DestinationVcpu,
    register: &DestinationRegister,
    planned: Option<u64>,
) -> Option<u64> {
    let planned = planned?;
    if destination.accelerator == Some(Accelerator::Tcg) {
        return tcg::nearest_value(destination.acceptor(), destination_vcpu, register, planned)
            .filter(|to| *to != planned);
    }
    let own = register.value.as_ref().and_then(Value::as_u64)?;
    let to = match (
        RegisterKind::from_id(register.id),
        &register.accepted_values,
    ) {
        (RegisterKind::Identification | RegisterKind::CacheType, AcceptedValues::Writable(_)) => {
            // A field keeps the VM's value if the host accepts that value.
            let fields = differing_fields(register.id, own, planned);
            fields.fold(own, |to, difference| {
                let bits = difference.field.mask();
                let with_field = to & !bits | planned & bits;
                let acceptance = id_register::evaluate(
                    destination.acceptor(),
                    destination_vcpu,
                    register,
                    own,
                    with_field,
                );
                if acceptance.as_bool() == Some(true) {
                    with_field
                } else {
                    to
                }
            })
        }
        (_, AcceptedValues::Fields(fields)) => fields.nearest(own, planned, |msb, lsb, value| {
            let mut named = register.id.fields().iter();
            let field = named.find(|field| (field.msb(), field.lsb()) == (msb, lsb));
            match field {
                Some(field) => has_order(*field).then(|| field.rank(value)),
                None => Some(value),
            }
        }),
        (RegisterKind::FirmwareBitmap(_), AcceptedValues::ByKind) => planned & own,
        (_, AcceptedValues::Subset(bits)) => planned & bits,
        (_, AcceptedValues::OneOf(values)) => values
            .iter()
            .copied()
            .filter(|value| *value <= planned)
            .max()
            .unwrap_or(own),
        _ => own,
    };
    (to != planned).then_some(to)
}
