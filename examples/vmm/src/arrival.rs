//! [`decide`] and [`load`]: whether a VM's registers can be loaded on this host, and how: the calls into cpreg on the way in.
//!
//! 1. [`cpreg_kvm::probe::destination`]: what this host has for a VM with these features;
//! 2. [`cpreg_kvm::ask::teach`]: what that does not tell, whether the host takes a value, is tried;
//! 3. [`Plan::new`]: a decision for every register;
//! 4. [`cpreg_kvm::attempt()`]: the plan loaded into a VM that is thrown away, since only the kernel knows what it takes;
//! 5. [`cpreg_kvm::load()`]: the plan, made again for the final registers, loaded into the VM itself.
//!
//! Works with a recorded host as it does with KVM.

use std::fmt::Write as _;

use cpreg::destination::{Destination, Features};
use cpreg::plan::{Action, Consents, Outcome, Plan};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_kvm::ask::teach;
use cpreg_kvm::load::Difference;
use cpreg_kvm::probe::destination;
use cpreg_kvm::{Host, Vcpu};

use crate::migrate::{Failure, Refusal};

/// What this host is called in what is said about it.
const HERE: &str = "this host";

/// What was found out about a VM before it comes.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What this host has, and what was tried on it. It does not change while the VM is on its way.
    pub destination: Destination,
    /// What the guest could notice, for people.
    pub notes: Vec<String>,
    /// What KVM takes without an error and does not hold as it was; it is in the notes.
    pub differ: Vec<Lost>,
}

/// Bits of a register that KVM does not hold as they were written: of which vCPU (`None`: of the VM), which register, which bits.
pub type Lost = (Option<usize>, RegisterId, Option<u64>);

fn lost(difference: &Difference) -> Lost {
    let bits = match (&difference.wrote, &difference.holds) {
        (Value::Small(wrote), Value::Small(holds)) => Some(wrote ^ holds),
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
) -> Result<Decided, Refusal> {
    let mut destination = destination(host, features, vm.vcpus.len(), HERE)
        .map_err(|error| Failure::new("cannot tell what this host has", error))?;
    let tolerances = Tolerances::default();
    teach(host, features, vm, &mut destination, &tolerances, consents)
        .map_err(|error| Failure::new("cannot try values on this host", error))?;
    let plan = Plan::new(vm, &destination, &tolerances, consents);
    let plan = ready(plan, &tolerances)?;
    let attempt = cpreg_kvm::attempt(host, features, &plan)
        .map_err(|error| Failure::new("cannot try the load", error.with_hint()))?;
    if !attempt.succeeded() {
        let refused = attempt.refused.iter();
        return Err(Refusal(refused.map(ToString::to_string).collect()));
    }
    let mut notes = notes(&plan);
    let differences = attempt.loaded.differences;
    notes.extend(differences.iter().map(ToString::to_string));
    Ok(Decided {
        destination,
        notes,
        differ: differences.iter().map(lost).collect(),
    })
}

/// Plans again, for the final registers, and carries that out on the VM's own vCPUs. Whatever goes wrong, none of them may run.
///
/// # Errors
/// What stands in the way now, what KVM refused, and what it took and does not hold of which [`decide`] had not said so.
pub fn load(
    decided: &Decided,
    vm: &Vm,
    consents: &Consents,
    vcpus: &[impl Vcpu],
) -> Result<(), Refusal> {
    let tolerances = Tolerances::default();
    let plan = Plan::new(vm, &decided.destination, &tolerances, consents);
    let plan = ready(plan, &tolerances)?;
    let loaded = cpreg_kvm::load(&plan, vcpus).map_err(Failure::from)?;
    let differences = loaded.differences.iter();
    let news: Vec<_> = differences
        .filter(|it| !decided.differ.contains(&lost(it)))
        .map(ToString::to_string)
        .collect();
    if news.is_empty() {
        Ok(())
    } else {
        Err(Refusal(news))
    }
}

fn ready(plan: Plan, tolerances: &Tolerances) -> Result<Plan, Refusal> {
    match plan.outcome() {
        Outcome::Ready => Ok(plan),
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
        if let Some(value) = &decision.host
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
    for proposed in &plan.proposed {
        reasons.push(format!(
            "with --accept {} on the receiver {:#x} would become {:#x}, which the guest can see \
             ({})",
            proposed.register, proposed.from, proposed.to, proposed.severity
        ));
    }
    if !plan.proposed.is_empty() && plan.with_proposed != Outcome::Ready {
        reasons.push("even with all of that it could not be loaded".to_owned());
    }
    reasons
}

/// What the guest could notice.
fn notes(plan: &Plan) -> Vec<String> {
    let visible = plan.visible.iter();
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
            if !change.what.is_empty() {
                let _ = write!(note, ": {}", change.what);
            }
            note
        })
        .collect()
}
