//! The loaders that can be a destination's loader.

use super::{Accelerator, Destination, Loader, Version, accept};
use crate::vm::Extension;

/// Returns `true` if the loader can be the destination's loader.
///
/// A version of QEMU lacks the machine types of later versions. Under an emulator the list of
/// registers identifies the program. Without a known accelerator no loader is plausible.
pub fn is_plausible(loader: Loader, destination: &Destination) -> bool {
    if !loader.is_qemu() {
        return destination.accelerator == Some(Accelerator::Kvm);
    }
    let machine = destination
        .shape
        .as_ref()
        .and_then(|shape| shape.machine.as_deref());
    if machine
        .and_then(Version::from_machine_type)
        .is_some_and(|needed| loader.version < needed)
    {
        return false;
    }
    match (destination.accelerator, destination.vcpu(0)) {
        (Some(Accelerator::Tcg | Accelerator::Hvf), _) if destination.loader.is_some() => {
            destination.loader == Some(loader)
        }
        (Some(Accelerator::Tcg), Some(destination_vcpu)) => accept::tcg::can_list(
            loader,
            |id| destination_vcpu.get(id).is_some(),
            destination_vcpu.extension(Extension::FEATURES).is_some(),
        ),
        (accelerator, _) => accelerator.is_some(),
    }
}

/// Returns the modelled loaders that can be the destination's loader, oldest first.
pub fn candidates(destination: &Destination) -> impl Iterator<Item = Loader> + '_ {
    Loader::MODELLED
        .into_iter()
        .filter(|loader| is_plausible(*loader, destination))
}
