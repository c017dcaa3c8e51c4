//! [`decide`] and [`load`]: the calls into cpreg on the way into this host.
//!
//! 1. [`probe_destination`] reads the facts of this host for a VM with these features.
//! 2. [`decide_unknown`] tries the values that these facts leave undecided.
//! 3. [`Plan::new`] decides on every register.
//! 4. [`cpreg_kvm::dry_run()`] loads the plan into a throwaway VM, since only the kernel knows what
//!    it accepts.
//! 5. [`cpreg_kvm::load()`] loads a plan for the final registers into the VM itself.
//!
//! `host` is KVM, or in tests a recorded host.

use std::fmt::Write as _;

use cpreg::destination::{Destination, Features};
use cpreg::plan::{Action, Consents, Plan, PlanOutcome};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_kvm::load::Mismatch;
use cpreg_kvm::probe::probe_destination;
use cpreg_kvm::write_probe::decide_unknown;
use cpreg_kvm::{Host, Vcpu};

use crate::migrate::{Failure, Refusal};

/// Name of this host in reports.
const HOST_NAME: &str = "this host";

/// Result of the checks before a VM arrives.
#[derive(Clone, Debug)]
pub struct LoadDecision {
    /// Facts of this host, and the values tried on it. They do not change during the migration.
    pub destination: Destination,
    /// Changes that the guest could notice, as text.
    pub notes: Vec<String>,
    /// Bits that KVM accepts without an error and does not keep. The notes list them too.
    pub changed_bits: Vec<LostBits>,
}

/// Bits of a register that KVM does not keep: the vCPU (`None` for the VM), the register, the bits.
pub type LostBits = (Option<usize>, RegisterId, Option<u64>);

fn lost_bits(difference: &Mismatch) -> LostBits {
    let bits = match (&difference.written_value, &difference.current_value) {
        (Value::U64(written), Value::U64(current)) => Some(written ^ current),
        _ => None,
    };
    (difference.vcpu, difference.register, bits)
}

/// Plans the load of these registers into a VM with these features, and makes a dry run. Touches
/// only throwaway VMs.
///
/// # Errors
/// Returns every reason why this host cannot load the VM.
pub fn decide(
    host: &impl Host,
    features: Features,
    vm: &Vm,
    consents: &Consents,
) -> Result<LoadDecision, Refusal> {
    let mut destination = probe_destination(host, features, vm.vcpus.len(), HOST_NAME)
        .map_err(|error| Failure::new("cannot read the facts of this host", error))?;
    let tolerances = Tolerances::default();
    decide_unknown(host, features, vm, &mut destination, &tolerances, consents)
        .map_err(|error| Failure::new("cannot try values on this host", error))?;
    let plan = Plan::new(vm, &destination, &tolerances, consents);
    let plan = require_ready(plan, &tolerances)?;
    let dry_run = cpreg_kvm::dry_run(host, features, &plan).map_err(|error| {
        Failure::new(
            "cannot make a dry run of the load",
            error.to_string_with_hint(),
        )
    })?;
    if !dry_run.is_success() {
        let refused = dry_run.refused_writes.iter();
        return Err(Refusal(refused.map(ToString::to_string).collect()));
    }
    let mut notes = notes(&plan);
    let differences = dry_run.summary.mismatches;
    notes.extend(differences.iter().map(ToString::to_string));
    Ok(LoadDecision {
        destination,
        notes,
        changed_bits: differences.iter().map(lost_bits).collect(),
    })
}

/// Plans the load of the final registers, and carries it out on the VM's own vCPUs. After an error,
/// none of them may run.
///
/// # Errors
/// Returns every blocking register, every write that KVM refused, and every lost bit that
/// [`decide`] did not report.
pub fn load(
    decision: &LoadDecision,
    vm: &Vm,
    consents: &Consents,
    vcpus: &[impl Vcpu],
) -> Result<(), Refusal> {
    let tolerances = Tolerances::default();
    let plan = Plan::new(vm, &decision.destination, &tolerances, consents);
    let plan = require_ready(plan, &tolerances)?;
    let loaded = cpreg_kvm::load(&plan, vcpus).map_err(Failure::from)?;
    let differences = loaded.mismatches.iter();
    let unreported: Vec<_> = differences
        .filter(|mismatch| !decision.changed_bits.contains(&lost_bits(mismatch)))
        .map(ToString::to_string)
        .collect();
    if unreported.is_empty() {
        Ok(())
    } else {
        Err(Refusal(unreported))
    }
}

fn require_ready(plan: Plan, tolerances: &Tolerances) -> Result<Plan, Refusal> {
    match plan.outcome() {
        PlanOutcome::Ready => Ok(plan),
        _ => Err(Refusal(reasons(&plan, tolerances))),
    }
}

/// Returns every blocking register, with its remedy.
fn reasons(plan: &Plan, tolerances: &Tolerances) -> Vec<String> {
    let mut reasons = Vec::new();
    for (vcpus, decision) in plan.decisions() {
        if !matches!(decision.action, Action::Refuse | Action::Undecided) {
            continue;
        }
        let mut reason = format!("vCPU {vcpus}: {}", decision.register);
        if let Some(value) = &decision.source
            && !decision.register.is_secret()
        {
            let _ = write!(reason, " is {value}");
        }
        if let Some(value) = &decision.destination
            && !decision.register.is_secret()
        {
            let _ = write!(reason, ", this host has {value}");
        }
        let _ = write!(reason, ": {}", decision.reason.display(tolerances));
        if let Some(remedy) = decision.remedy(tolerances) {
            let _ = write!(reason, "; {remedy}");
        }
        reasons.push(reason);
    }
    for proposed in &plan.proposed_adjustments {
        reasons.push(format!(
            "`--accept {}` on the receiver changes {:#x} to {:#x}, which the guest can see ({})",
            proposed.register, proposed.from, proposed.to, proposed.severity
        ));
    }
    if !plan.proposed_adjustments.is_empty() && plan.outcome_with_proposed != PlanOutcome::Ready {
        reasons.push("all of these changes together do not unblock the load".to_owned());
    }
    reasons
}

/// Returns the changes that the guest could notice.
fn notes(plan: &Plan) -> Vec<String> {
    let visible = plan.visible_changes.iter();
    visible
        .map(|change| {
            let mut note = String::new();
            if let Some(register) = change.register {
                note += &register.to_string();
            }
            if let Some(field) = &change.field {
                let _ = write!(note, ".{field}");
            }
            if let (Some(from), Some(to)) = (change.from, change.to) {
                let _ = write!(note, " was {from:#x}, becomes {to:#x}");
            }
            let _ = write!(note, " ({})", change.severity);
            if !change.description.is_empty() {
                let _ = write!(note, ": {}", change.description);
            }
            note
        })
        .collect()
}
