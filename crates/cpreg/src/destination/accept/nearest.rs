//! The value that a destination takes and that is nearest to the VM's.

use super::kvm::is_lowering;
use super::tcg;
use crate::destination::kernel::RegisterKind;
use crate::destination::{
    Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu,
};
use crate::register::{Value, differing_fields};

/// The value nearest to the VM's that the destination is known to take, if that is another one.
pub(crate) fn nearest_value(
    destination: &Destination,
    host: &DestinationVcpu,
    register: &DestinationRegister,
    planned: Option<u64>,
) -> Option<u64> {
    let planned = planned?;
    if destination.accelerator == Some(Accelerator::Tcg) {
        return tcg::nearest_value(destination.acceptor(), host, register, planned)
            .filter(|to| *to != planned);
    }
    let own = register.value.as_ref().and_then(Value::as_u64)?;
    let to = match (
        RegisterKind::from_id(register.id),
        &register.accepted_values,
    ) {
        (RegisterKind::Identification, AcceptedValues::Writable(mask)) => {
            // A field that may differ keeps the VM's value where that is the lower one.
            let fields = differing_fields(register.id, own, planned);
            fields.fold(own, |to, it| {
                let bits = it.field.mask();
                if is_lowering(&it) && bits & !mask == 0 {
                    to & !bits | planned & bits
                } else {
                    to
                }
            })
        }
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
