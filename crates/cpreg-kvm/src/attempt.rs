//! [`attempt`]: a plan loaded into a VM that is made for it on this host, and thrown away.
//!
//! It shows what KVM takes in cpreg's order ([`crate::load`]) from a VM made as [`Host::create`] makes it. What another VMM would do with its own VM
//! in its own order it does not show.

use std::fmt;

use cpreg::destination::Features;
use cpreg::plan::Plan;

use crate::host::{CreateError, Host, Vm};
use crate::load::{LoadError, Loaded, Refused, carry_out};

/// What KVM did with a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// What was written, and what KVM took and does not hold.
    pub loaded: Loaded,
    /// Every write that KVM refused: unlike a load, an attempt goes on after a refusal.
    pub refused: Vec<Refused>,
}

impl Attempt {
    /// Whether a load would have succeeded.
    pub const fn succeeded(&self) -> bool {
        self.refused.is_empty()
    }
}

/// Loads a plan into a throwaway VM of this host with these features, and as many vCPUs as the plan has.
///
/// # Errors
/// If the VM cannot be made, or the plan cannot be loaded at all. Refused writes are no error but the answer.
pub fn attempt(host: &impl Host, features: Features, plan: &Plan) -> Result<Attempt, AttemptError> {
    let vm = host
        .create(features, plan.vcpus.len())
        .map_err(AttemptError::Create)?;
    let mut refused = Vec::new();
    let loaded = carry_out(plan, vm.vcpus(), |write| {
        refused.push(write);
        Ok(())
    });
    match loaded {
        Ok(loaded) => Ok(Attempt { loaded, refused }),
        // What was refused before is why the vCPU could not be finalized or read again.
        Err(_) if !refused.is_empty() => Ok(Attempt {
            loaded: Loaded::default(),
            refused,
        }),
        Err(error) => Err(AttemptError::Load(error)),
    }
}

/// A plan could not be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptError {
    /// No VM could be made for it.
    Create(CreateError),
    /// The plan can be loaded into no VM as it is.
    Load(LoadError),
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(error) => error.fmt(f),
            Self::Load(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AttemptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Create(error) => Some(error),
            Self::Load(error) => Some(error),
        }
    }
}
