//! The value that a destination takes and that is nearest to the VM's.

use super::kvm::lowers;
use super::tcg;
use crate::destination::kernel::Kind;
use crate::destination::{Accelerator, Accepts, Destination, HostRegister, HostVcpu};
use crate::register::{Value, differing_fields};

/// The value nearest to the VM's that the destination is known to take, if that is another one.
pub(crate) fn nearest(
    destination: &Destination,
    host: &HostVcpu,
    register: &HostRegister,
    planned: Option<u64>,
) -> Option<u64> {
    let planned = planned?;
    if destination.accelerator == Some(Accelerator::Tcg) {
        return tcg::nearest(destination.acceptor(), host, register, planned)
            .filter(|to| *to != planned);
    }
    let own = register.value.as_ref().and_then(Value::as_u64)?;
    let to = match (Kind::of(register.id), &register.accepts) {
        (Kind::Identification, Accepts::Writable(mask)) => {
            // A field that may differ keeps the VM's value where that is the lower one.
            let fields = differing_fields(register.id, own, planned);
            fields.fold(own, |to, it| {
                let bits = it.field.mask();
                if lowers(&it) && bits & !mask == 0 {
                    to & !bits | planned & bits
                } else {
                    to
                }
            })
        }
        (Kind::Services(_), Accepts::ByKind) => planned & own,
        (_, Accepts::Subset(bits)) => planned & bits,
        (_, Accepts::OneOf(values)) => values
            .iter()
            .copied()
            .filter(|value| *value <= planned)
            .max()
            .unwrap_or(own),
        _ => own,
    };
    (to != planned).then_some(to)
}
