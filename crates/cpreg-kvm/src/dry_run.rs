//! [`dry_run`]: a plan loaded into a VM that is made for it on this host, and thrown away.
//!
//! It shows what KVM takes in cpreg's order ([`crate::load`]) from a VM made as [`Host::create_vm`] makes it. What another VMM would do with its own VM
//! in its own order it does not show.

use cpreg::destination::Features;
use cpreg::plan::Plan;

use crate::error::{Error, RefusedWrite};
use crate::host::{Host, Vm};
use crate::load::{LoadSummary, execute_plan};

/// What KVM did with a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DryRun {
    /// What was written, and what KVM took and does not hold.
    pub summary: LoadSummary,
    /// Every write that KVM refused: unlike a load, an attempt goes on after a refusal.
    pub refused_writes: Vec<RefusedWrite>,
}

impl DryRun {
    /// Whether a load would have succeeded.
    pub const fn is_success(&self) -> bool {
        self.refused_writes.is_empty()
    }
}

/// Loads a plan into a throwaway VM of this host with these features, and as many vCPUs as the plan has.
///
/// # Errors
/// If the VM cannot be made, or the plan cannot be loaded at all. Refused writes are no error but the answer.
pub fn dry_run(host: &impl Host, features: Features, plan: &Plan) -> Result<DryRun, Error> {
    let vm = host.create_vm(features, plan.vcpus.len())?;
    let mut refused = Vec::new();
    let loaded = execute_plan(plan, vm.vcpus(), |write| {
        refused.push(write);
        Ok(())
    });
    match loaded {
        Ok(loaded) => Ok(DryRun {
            summary: loaded,
            refused_writes: refused,
        }),
        // What was refused before is why the vCPU could not be finalized or read again.
        Err(_) if !refused.is_empty() => Ok(DryRun {
            summary: LoadSummary::default(),
            refused_writes: refused,
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
