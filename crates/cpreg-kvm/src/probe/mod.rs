//! [`probe`]: recording of a host with KVM. The probe throws away every VM. It runs one vCPU, which
//! reads hardware facts, for some hundred instructions.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | probes of a whole host, and of the host as the destination of one VM |
//! | `sets.rs` | the sets of vCPU features that are probed |
//! | `guest.rs` | one set of features: registers, values, masks |
//! | `event.rs` | progress and missing parts |
//! | `facts.rs` | hardware facts |
//! | `trials.rs` | trial writes of other values |
//! | `fields.rs` | trials of every value of every field of the ID registers |
//! | `vm.rs` | VMs of a probe |
//!
//! [`cpreg_hosts::record`] defines the file format of a record.

mod event;
mod facts;
mod fields;
mod guest;
mod sets;
mod trials;
mod vm;

use std::collections::BTreeMap;

use cpreg::destination::kernel::RegisterKind;
use cpreg::destination::{Accelerator, Destination, Features, ValueOrigin, Version};
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::record::{AtReset, GuestRecord, HostRecord, RegisterRecord};

use crate::errno::Errno;
use crate::error::Error;
use crate::host::{Host, Vcpu};
use crate::value;
use trials::TrialScope;

pub use event::ProbeEvent;
pub use sets::available_features;

/// Records a guest for each set of features that the host claims. Reports progress to `on_event`.
///
/// # Errors
/// Returns an error if a guest without features cannot be created and read.
pub fn probe(host: &impl Host, mut on_event: impl FnMut(ProbeEvent)) -> Result<HostRecord, Error> {
    let capabilities = host.capabilities();
    let all_features = sets::all_features(&capabilities);
    let mut guests = BTreeMap::new();
    for features in sets::feature_sets(&capabilities) {
        on_event(ProbeEvent::GuestProbeStarted(features));
        let scope = if features == all_features {
            TrialScope::AllRegisters
        } else {
            TrialScope::FirmwareOnly
        };
        match guest::probe_guest(host, features, scope) {
            Ok(guest) => {
                guests.insert(features, guest);
            }
            Err(error) if features.is_empty() => return Err(error),
            Err(error) => on_event(ProbeEvent::GuestProbeFailed(error)),
        }
    }
    Ok(HostRecord {
        identity: host.identity(),
        capabilities,
        hardware: facts::read(host, guests.values(), &mut on_event)?,
        guests,
    })
}

/// Returns this host as the destination of a VM with `vcpus` vCPUs and these features.
///
/// The destination has the values of each fresh vCPU and the results of the trial writes. Its
/// loader is unknown, and the caller sets it.
///
/// # Errors
/// Returns an error if such a VM cannot be created or read.
pub fn probe_destination(
    host: &impl Host,
    features: Features,
    vcpus: usize,
    name: &str,
) -> Result<Destination, Error> {
    let guests = guest::probe_each_vcpu(host, features, vcpus)?;
    Ok(Destination {
        name: name.to_owned(),
        accelerator: Some(Accelerator::Kvm),
        loader: None,
        value_origin: ValueOrigin::Reset,
        vcpus: guests
            .iter()
            .map(GuestRecord::to_destination_vcpu)
            .collect(),
        kernel_version: Version::from_kernel_release(&host.identity().release),
        hardware: facts::read(host, &guests, |_| {})?,
        shape: None,
    })
}

/// Returns `true` if [`probe_register`] finds the accepted values of the register.
///
/// These registers are VM-wide.
pub fn can_probe(id: RegisterId) -> bool {
    matches!(
        RegisterKind::from_id(id),
        RegisterKind::Identification
            | RegisterKind::CacheType
            | RegisterKind::PsciVersion
            | RegisterKind::FirmwareBitmap(_)
    )
}

/// Records one register of a vCPU that has not run, by trial writes. The value in the register
/// counts as its value at reset.
///
/// The trials cover all values of the PSCI version, the bits of firmware bitmaps, and the fields of
/// ID registers. The register holds the same value afterwards.
///
/// # Errors
/// Returns the errno of the read, or of the write that restores the value.
pub fn probe_register(vcpu: &impl Vcpu, id: RegisterId) -> Result<RegisterRecord, Errno> {
    let original = value::read(vcpu, id)?;
    let trials = trials::try_register(vcpu, id, TrialScope::FirmwareOnly);
    let fields = match (&original, fields::has_fields(id)) {
        (Value::U64(number), true) => fields::try_register(vcpu, id, *number),
        _ => None,
    };
    if value::read(vcpu, id)? != original {
        value::write(vcpu, id, &original)?;
    }
    Ok(RegisterRecord {
        id,
        at_reset: AtReset::Value(original),
        differs_by_vcpu: false,
        write_back: 0,
        trials,
        fields,
    })
}

#[cfg(test)]
mod tests;
