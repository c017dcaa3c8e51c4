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

use cpreg::destination::{Accelerator, Destination, Features, ValuesAre};
use cpreg_hosts::record::{Guest, HostRecord};

use crate::error::Error;
use crate::host::Host;
use trials::Trials;

/// What happens while a host is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A guest with these features is looked at.
    Begins(Features),
    /// The host says that it can do these features, and it cannot: they are not in the record.
    CannotBeMade(Error),
}

/// Records a host: a guest with each set of features that it says it can do. `on_event` is told how it goes.
///
/// # Errors
/// If not even a guest without features can be made and read.
pub fn probe(host: &impl Host, mut on_event: impl FnMut(Event)) -> Result<HostRecord, Error> {
    let capabilities = host.capabilities();
    let everything = sets::everything(&capabilities);
    let mut guests = BTreeMap::new();
    for features in sets::of(&capabilities) {
        on_event(Event::Begins(features));
        let trials = if features == everything {
            Trials::Every
        } else {
            Trials::Services
        };
        match guest::guest(host, features, trials) {
            Ok(guest) => {
                guests.insert(features, guest);
            }
            Err(error) if features.is_empty() => return Err(error),
            Err(error) => on_event(Event::CannotBeMade(error)),
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
pub fn destination(
    host: &impl Host,
    features: Features,
    vcpus: usize,
    name: &str,
) -> Result<Destination, Error> {
    let guests = guest::each_vcpu(host, features, vcpus)?;
    Ok(Destination {
        name: name.to_owned(),
        accelerator: Some(Accelerator::Kvm),
        loader: None,
        values: ValuesAre::AtReset,
        vcpus: guests.iter().map(Guest::to_host_vcpu).collect(),
        shape: None,
    })
}

#[cfg(test)]
mod tests;
