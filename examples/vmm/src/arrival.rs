//! [`decide`]: whether a VM's registers can be loaded on this host, and how: the three calls into cpreg on the way in.
//!
//! 1. [`cpreg_kvm::probe::destination`]: what this host has for a VM with these features;
//! 2. [`Plan::new`]: a decision for every register;
//! 3. [`cpreg_kvm::attempt()`]: the plan loaded into a VM that is thrown away, since only the kernel knows what it takes.
//!
//! Works with a recorded host as it does with KVM.

use cpreg::destination::Features;
use cpreg::plan::{Action, Consents, Outcome, Plan};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_kvm::Host;
use cpreg_kvm::probe::destination;

use crate::migrate::{Failure, Refusal};

/// What this host is called in what is said about it.
const HERE: &str = "this host";

/// Plans the load of these registers into a VM with these features, and tries it. Nothing that is to stay is touched.
///
/// # Errors
/// Every reason why it cannot be done.
pub fn decide(
    host: &impl Host,
    features: Features,
    vm: &Vm,
    consents: &Consents,
) -> Result<Plan, Refusal> {
    let plan = plan(host, features, vm, consents)?;
    let attempt = cpreg_kvm::attempt(host, features, &plan)
        .map_err(|error| Failure::new("cannot try the load", error))?;
    if attempt.succeeded() {
        return Ok(plan);
    }
    let refused = attempt.refused.iter();
    Err(Refusal(refused.map(ToString::to_string).collect()))
}

/// The plan alone.
///
/// # Errors
/// Every reason why there is none that can be carried out.
pub fn plan(
    host: &impl Host,
    features: Features,
    vm: &Vm,
    consents: &Consents,
) -> Result<Plan, Refusal> {
    let destination = destination(host, features, vm.vcpus.len(), HERE)
        .map_err(|error| Failure::new("cannot tell what this host has", error))?;
    let tolerances = Tolerances::default();
    let plan = Plan::new(vm, &destination, &tolerances, consents);
    match plan.outcome() {
        Outcome::Ready => Ok(plan),
        _ => Err(Refusal(reasons(&plan, &tolerances))),
    }
}

/// Every register that stands in the way, and what could be done.
fn reasons(plan: &Plan, tolerances: &Tolerances) -> Vec<String> {
    let mut reasons = Vec::new();
    for (vcpus, decision) in plan.decisions() {
        if !matches!(decision.action, Action::Refuse | Action::Undecided) {
            continue;
        }
        let mut reason = format!("{} ({vcpus})", decision.register);
        if let Some(value) = &decision.source
            && !decision.register.is_secret()
        {
            reason += &format!(" is {value}");
        }
        if let Some(value) = &decision.host
            && !decision.register.is_secret()
        {
            reason += &format!(", here {value}");
        }
        reason += &format!(": {}", decision.reason.display(tolerances));
        if let Some(advice) = decision.reason.advice(tolerances) {
            reason += &format!("; {advice}");
        }
        reasons.push(reason);
    }
    for proposed in &plan.proposed {
        reasons.push(format!(
            "with --accept {} on the receiver {:#x} would become {:#x}, which the guest can see ({})",
            proposed.register, proposed.from, proposed.to, proposed.severity
        ));
    }
    if !plan.proposed.is_empty() && plan.with_proposed != Outcome::Ready {
        reasons.push("even with all of that it could not be loaded".to_owned());
    }
    reasons
}

/// What the guest could notice.
pub fn notes(plan: &Plan) -> Vec<String> {
    let visible = plan.visible.iter();
    visible
        .map(|change| {
            let mut note = String::new();
            if let Some(register) = change.register {
                note += &register.to_string();
            }
            if let Some(field) = &change.field {
                note += &format!(".{field}");
            }
            if let (Some(from), Some(to)) = (change.from, change.to) {
                note += &format!(" was {from:#x}, becomes {to:#x}");
            }
            note + &format!(" ({}): {}", change.severity, change.what)
        })
        .collect()
}
