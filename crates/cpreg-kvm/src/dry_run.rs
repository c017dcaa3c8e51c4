//! [`dry_run`]: a plan loaded into a temporary VM on this host.
//!
//! A dry run shows if KVM accepts the writes in cpreg's order ([`mod@crate::load`]), in a VM that
//! [`Host::create_vm`] creates. Another VMM may create its VM and order its writes differently.

use cpreg::destination::Features;
use cpreg::plan::Plan;

use crate::error::{Error, RefusedWrite};
use crate::host::{Host, Vm};
use crate::load::{LoadSummary, execute_plan};

/// Result of a dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DryRun {
    /// Summary of the load, with the values that KVM accepted but does not hold.
    pub summary: LoadSummary,
    /// Every write that KVM refused: unlike a load, a dry run continues after a refusal.
    pub refused_writes: Vec<RefusedWrite>,
}

impl DryRun {
    /// Returns `true` if a load would have succeeded.
    pub const fn is_success(&self) -> bool {
        self.refused_writes.is_empty()
    }
}

/// Loads a plan into a temporary VM of this host with these features and the plan's number of
/// vCPUs.
///
/// # Errors
/// Returns an error if the VM cannot be created, or if the load fails without a refused write.
/// Refused writes are part of the result.
///
/// # Examples
///
/// ```
/// use cpreg::destination::Features;
/// use cpreg::plan::{Consents, Plan};
/// use cpreg::tolerance::Tolerances;
/// use cpreg_kvm::probe::probe_destination;
/// use cpreg_kvm::{Host as _, RecordedHost, Vm as _, dry_run, save};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let index = cpreg_hosts::HostIndex::built_in()?;
/// let host = RecordedHost::new(index.resolve("linux-6.16.12/neoverse-n1")?.host.record());
/// let saved = save(host.create_vm(Features::PMU, 1)?.vcpus())?;
/// let destination = probe_destination(&host, Features::PMU, 1, "this host")?;
/// let plan = Plan::new(&saved, &destination, &Tolerances::default(), &Consents::default());
/// assert!(dry_run(&host, Features::PMU, &plan)?.is_success());
/// # Ok(())
/// # }
/// ```
pub fn dry_run(host: &impl Host, features: Features, plan: &Plan) -> Result<DryRun, Error> {
    let vm = host.create_vm(features, plan.vcpus.len())?;
    let mut refused_writes = Vec::new();
    let result = execute_plan(plan, vm.vcpus(), |write| {
        refused_writes.push(write);
        Ok(())
    });
    match result {
        Ok(summary) => Ok(DryRun {
            summary,
            refused_writes,
        }),
        // An earlier refused write causes the failure to finalize a vCPU or read a register back.
        Err(_) if !refused_writes.is_empty() => Ok(DryRun {
            summary: LoadSummary::default(),
            refused_writes,
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
