//! [`probe`]: what a host with KVM gives to guests, found out by asking it. Nothing is ever run, and every VM is thrown away.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | a whole host, and what it is as the destination of one VM |
//! | `sets.rs` | which sets of vCPU features are asked about |
//! | `guest.rs` | one set of features: registers, values, masks |
//! | `trials.rs` | which other values are tried |
//!
//! How a record is written down lives in [`cpreg_hosts::record`].

mod guest;
mod sets;
mod trials;

use std::collections::BTreeMap;

use cpreg::destination::{Accelerator, Destination, Features, ValueOrigin};
use cpreg_hosts::record::{GuestRecord, HostRecord};

use crate::error::Error;
use crate::host::Host;
use trials::TrialScope;

/// What happens while a host is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeEvent {
    /// A guest with these features is looked at.
    GuestStarted(Features),
    /// The host says that it can do these features, and it cannot: they are not in the record.
    GuestFailed(Error),
}

/// Records a host: a guest with each set of features that it says it can do. `on_event` is told how it goes.
///
/// # Errors
/// If not even a guest without features can be made and read.
pub fn probe(host: &impl Host, mut on_event: impl FnMut(ProbeEvent)) -> Result<HostRecord, Error> {
    let capabilities = host.capabilities();
    let everything = sets::all_features(&capabilities);
    let mut guests = BTreeMap::new();
    for features in sets::feature_sets(&capabilities) {
        on_event(ProbeEvent::GuestStarted(features));
        let trials = if features == everything {
            TrialScope::AllRegisters
        } else {
            TrialScope::FirmwareOnly
        };
        match guest::probe_guest(host, features, trials) {
            Ok(guest) => {
                guests.insert(features, guest);
            }
            Err(error) if features.is_empty() => return Err(error),
            Err(error) => on_event(ProbeEvent::GuestFailed(error)),
        }
    }
    Ok(HostRecord {
        identity: host.identity(),
        capabilities,
        guests,
    })
}

/// What this very host is for a VM of so many vCPUs with these features, loaded by cpreg: the values of fresh vCPUs, each its own, and what was
/// tried.
///
/// # Errors
/// If such a VM cannot be made or read.
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
        shape: None,
    })
}

#[cfg(test)]
mod tests;
