//! [`decide`] and [`load`]: whether a VM's registers can be loaded on this host, and how: the calls into cpreg on the way in.
//!
//! 1. [`cpreg_kvm::probe::destination`]: what this host has for a VM with these features;
//! 2. [`cpreg_kvm::ask::decide_unknown`]: what that does not tell, whether the host takes a value, is tried;
//! 3. [`Plan::new`]: a decision for every register;
//! 4. [`cpreg_kvm::attempt()`]: the plan loaded into a VM that is thrown away, since only the kernel knows what it takes;
//! 5. [`cpreg_kvm::load()`]: the plan, made again for the final registers, loaded into the VM itself.
//!
//! Works with a recorded host as it does with KVM.

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

/// What this host is called in what is said about it.
const HOST_NAME: &str = "this host";

/// What was found out about a VM before it comes.
#[derive(Clone, Debug)]
pub struct LoadDecision {
    /// What this host has, and what was tried on it. It does not change while the VM is on its way.
    pub destination: Destination,
    /// What the guest could notice, for people.
    pub notes: Vec<String>,
    /// What KVM takes without an error and does not hold as it was; it is in the notes.
    pub changed_bits: Vec<LostBits>,
}

/// Bits of a register that KVM does not hold as they were written: of which vCPU (`None`: of the VM), which register, which bits.
pub type LostBits = (Option<usize>, RegisterId, Option<u64>);

fn lost_bits(difference: &Mismatch) -> LostBits {
    let bits = match (&difference.written_value, &difference.current_value) {
        (Value::U64(wrote), Value::U64(holds)) => Some(wrote ^ holds),
        _ => None,
    };
    (difference.vcpu, difference.register, bits)
}

/// Plans the load of these registers into a VM with these features, and tries it. Nothing that is to stay is touched.
///
/// # Errors
/// Every reason why it cannot be done.
pub fn decide(
    host: &impl Host,
    features: Features,
    vm: &Vm,
    consents: &Consents,
) -> Result<LoadDecision, Refusal> {
    let mut destination = probe_destination(host, features, vm.vcpus.len(), HOST_NAME)
        .map_err(|error| Failure::new("cannot tell what this host has", error))?;
    let tolerances = Tolerances::default();
    decide_unknown(host, features, vm, &mut destination, &tolerances, consents)
        .map_err(|error| Failure::new("cannot try values on this host", error))?;
    let plan = Plan::new(vm, &destination, &tolerances, consents);
    let plan = require_ready(plan, &tolerances)?;
    let attempt = cpreg_kvm::dry_run(host, features, &plan)
        .map_err(|error| Failure::new("cannot try the load", error.to_string_with_hint()))?;
    if !attempt.is_success() {
        let refused = attempt.refused_writes.iter();
        return Err(Refusal(refused.map(ToString::to_string).collect()));
    }
    let mut notes = notes(&plan);
    let differences = attempt.summary.mismatches;
    notes.extend(differences.iter().map(ToString::to_string));
    Ok(LoadDecision {
        destination,
        notes,
        changed_bits: differences.iter().map(lost_bits).collect(),
    })
}

/// Plans again, for the final registers, and carries that out on the VM's own vCPUs. Whatever goes wrong, none of them may run.
///
/// # Errors
/// What stands in the way now, what KVM refused, and what it took and does not hold of which [`decide`] had not said so.
pub fn load(
    decided: &LoadDecision,
    vm: &Vm,
    consents: &Consents,
    vcpus: &[impl Vcpu],
) -> Result<(), Refusal> {
    let tolerances = Tolerances::default();
    let plan = Plan::new(vm, &decided.destination, &tolerances, consents);
    let plan = require_ready(plan, &tolerances)?;
    let loaded = cpreg_kvm::load(&plan, vcpus).map_err(Failure::from)?;
    let differences = loaded.mismatches.iter();
    let news: Vec<_> = differences
        .filter(|it| !decided.changed_bits.contains(&lost_bits(it)))
        .map(ToString::to_string)
        .collect();
    if news.is_empty() {
        Ok(())
    } else {
        Err(Refusal(news))
    }
}

fn require_ready(plan: Plan, tolerances: &Tolerances) -> Result<Plan, Refusal> {
    match plan.outcome() {
        PlanOutcome::Ready => Ok(plan),
        _ => Err(Refusal(reasons(&plan, tolerances))),
    }
}

/// Every register that stands in the way, and what could be done.
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
            let _ = write!(reason, ", here {value}");
        }
        let _ = write!(reason, ": {}", decision.reason.display(tolerances));
        if let Some(remedy) = decision.remedy(tolerances) {
            let _ = write!(reason, "; {remedy}");
        }
        reasons.push(reason);
    }
    for proposed in &plan.proposed_adjustments {
        reasons.push(format!(
            "with --accept {} on the receiver {:#x} would become {:#x}, which the guest can see \
             ({})",
            proposed.register, proposed.from, proposed.to, proposed.severity
        ));
    }
    if !plan.proposed_adjustments.is_empty() && plan.outcome_with_proposed != PlanOutcome::Ready {
        reasons.push("even with all of that it could not be loaded".to_owned());
    }
    reasons
}

/// What the guest could notice.
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
