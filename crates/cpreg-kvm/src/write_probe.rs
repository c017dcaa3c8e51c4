//! [`decide_unknown`]: what a plan could not know of this host is tried on it, one value at a time, each in a VM that is thrown away.
//!
//! Kernels tell which bits of an ID register may change ([`crate::Vm::writable_masks`]), and decide field by field within them; older ones tell
//! nothing. On the very host there is no need to guess.
//!
//! Whether the whole plan is taken, in its order, [`crate::dry_run()`] finds out.

use std::collections::BTreeMap;

use cpreg::destination::{AcceptedValues, Destination, DestinationVcpu, Features};
use cpreg::plan::{Action, Consents, Plan};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm as State;

use crate::error::Error;
use crate::host::{Host, Vcpu, Vm};
use crate::value;

/// A value that was tried on a host, and whether it was taken and stayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteProbe {
    /// Of which register.
    pub register: RegisterId,
    /// Which value.
    pub value: u64,
    /// Whether it was taken and stayed.
    pub is_accepted: bool,
}

/// The most values that are tried for one VM: what came from elsewhere must not make a host try without end.
const MAX_PROBES: usize = 512;

/// Has the destination, which must be this host's ([`crate::probe::destination`]), know what stands undecided in the plan for a VM, again and
/// again until nothing new does. What it then takes is proven. Returns what was tried, in that order; what is left after 512 values stays
/// undecided.
///
/// # Errors
/// If no VM can be made to try it in.
pub fn decide_unknown(
    host: &impl Host,
    features: Features,
    vm: &State,
    destination: &mut Destination,
    tolerances: &Tolerances,
    consents: &Consents,
) -> Result<Vec<WriteProbe>, Error> {
    let mut tried: Vec<WriteProbe> = Vec::new();
    loop {
        let plan = Plan::new(vm, destination, tolerances, consents);
        let mut new = undecided_values(&plan);
        new.retain(|(register, value)| {
            let is_it = |it: &WriteProbe| (it.register, it.value) == (*register, *value);
            !tried.iter().any(is_it)
        });
        new.truncate(MAX_PROBES - tried.len());
        if new.is_empty() {
            return Ok(tried);
        }
        for (register, value) in new {
            tried.push(WriteProbe {
                register,
                value,
                is_accepted: is_accepted(host, features, register, value)?,
            });
        }
        apply_probes(destination, &tried);
    }
}

/// The values of which the plan does not know whether they are taken.
fn undecided_values(plan: &Plan) -> Vec<(RegisterId, u64)> {
    let mut values = Vec::new();
    for (vcpus, decision) in plan.decisions() {
        if decision.action != Action::Undecided || !decision.is_listed {
            continue;
        }
        let id = decision.register;
        let adjusted = plan.accepted_adjustments.iter();
        let mut adjusted = adjusted.filter(|it| {
            it.register == id && it.vcpus.iter().any(|own| vcpus.iter().any(|it| it == own))
        });
        let value = match adjusted.next() {
            Some(adjustment) => Some(adjustment.to),
            None => decision.source.as_ref().and_then(Value::as_u64),
        };
        if let Some(value) = value
            && !values.contains(&(id, value))
        {
            values.push((id, value));
        }
    }
    values
}

fn is_accepted(
    host: &impl Host,
    features: Features,
    id: RegisterId,
    tried: u64,
) -> Result<bool, Error> {
    let vm = host.create_vm(features, 1)?;
    let tried = Value::U64(tried);
    Ok(vm.vcpus().first().is_some_and(|vcpu| {
        if features.contains(Features::SVE) && vcpu.finalize_sve().is_err() {
            return false;
        }
        value::write(vcpu, id, &tried).is_ok()
            && value::read(vcpu, id).is_ok_and(|holds| holds == tried)
    }))
}

/// Writes down what was taken: of a register that was tried nothing else is believed to be, but its own value, which stays among those that an
/// adjustment may choose from.
fn apply_probes(destination: &mut Destination, tried: &[WriteProbe]) {
    let mut taken: BTreeMap<RegisterId, Vec<u64>> = BTreeMap::new();
    for it in tried {
        let values = taken.entry(it.register).or_default();
        values.extend(it.is_accepted.then_some(it.value));
    }
    for vcpu in &mut destination.vcpus {
        let registers = vcpu.registers().iter().map(|register| {
            let mut register = register.clone();
            if let Some(values) = taken.get(&register.id) {
                let own = register.value.as_ref().and_then(Value::as_u64);
                let own = own.filter(|own| !values.contains(own));
                register.accepted_values =
                    AcceptedValues::OneOf(values.iter().copied().chain(own).collect());
            }
            register
        });
        *vcpu = DestinationVcpu::new(registers.collect::<Vec<_>>(), vcpu.extensions.clone());
    }
}

#[cfg(test)]
mod tests {
    use cpreg::plan::PlanOutcome;

    use super::*;
    use crate::probe::probe_destination;
    use crate::save::save;
    use crate::testing::{self, register_with_trials};

    const ISAR2: RegisterId = RegisterId::ID_AA64ISAR2_EL1;
    const MORE: u64 = 0x1;

    /// What becomes of a VM whose ID_AA64ISAR2_EL1 has more than the host's, on an old kernel, which does not tell what may be written.
    fn arrives(is_taken: bool) -> (Vec<WriteProbe>, PlanOutcome) {
        let trial = if is_taken {
            (MORE, 0, MORE)
        } else {
            (MORE, 22, 0)
        };
        let features = Features::NONE;
        let host = testing::host(features, vec![register_with_trials(ISAR2, 0, &[trial])]);
        let vm = host.create_vm(features, 1).expect("it was recorded");
        let mut state = save(vm.vcpus()).expect("a saved VM");
        state.vcpus[0].registers.insert(ISAR2, Value::U64(MORE));
        let mut there = probe_destination(&host, features, 1, "there").expect("it was recorded");
        let (tolerances, consents) = (Tolerances::default(), Consents::default());
        let plan = |there: &Destination| Plan::new(&state, there, &tolerances, &consents).outcome();
        assert_eq!(plan(&there), PlanOutcome::Unknown);
        let tried = decide_unknown(&host, features, &state, &mut there, &tolerances, &consents);
        (tried.expect("a VM to try it in"), plan(&there))
    }

    #[test]
    fn what_is_not_known_is_tried() {
        for (is_taken, outcome) in [(true, PlanOutcome::Ready), (false, PlanOutcome::Refused)] {
            let (tried, now) = arrives(is_taken);
            let expected = WriteProbe {
                register: ISAR2,
                value: MORE,
                is_accepted: is_taken,
            };
            assert_eq!(tried, [expected]);
            assert_eq!(now, outcome);
        }
    }
}
