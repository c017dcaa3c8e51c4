//! [`decide_unknown`]: trial writes of the values that a plan cannot decide, each in a temporary
//! VM.
//!
//! Kernels report the bits of an ID register that may change ([`crate::Vm::writable_masks`]), but
//! decide about each field within these bits. Older kernels report no bits. A trial on the host
//! itself shows the decision.
//!
//! [`crate::dry_run()`] tests a whole plan, in the plan's order of writes.

use std::collections::BTreeMap;

use cpreg::destination::{AcceptedValues, Destination, DestinationVcpu, Features};
use cpreg::plan::{Action, Consents, Plan};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm as SavedVm;

use crate::error::Error;
use crate::host::{Host, Vcpu, Vm};
use crate::value;

/// Trial write of a value on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteProbe {
    /// Register that was written.
    pub register: RegisterId,
    /// Value that was written.
    pub value: u64,
    /// `true` if the write succeeded and the value was read back.
    pub is_accepted: bool,
}

/// Maximum number of trials for one VM, so that external input cannot cause endless trials.
const MAX_PROBES: usize = 512;

/// Decides the undecided registers of a VM's plan by trial writes.
///
/// `destination` must be that of `host` ([`crate::probe::probe_destination`]). Each round updates
/// the destination with the trials and plans again, until no new value is undecided. The plan then
/// treats accepted values as proven. Returns the trials in the order in which they ran. After 512
/// trials, further values remain undecided.
///
/// # Errors
/// Returns an error if no VM can be created for a trial.
pub fn decide_unknown(
    host: &impl Host,
    features: Features,
    vm: &SavedVm,
    destination: &mut Destination,
    tolerances: &Tolerances,
    consents: &Consents,
) -> Result<Vec<WriteProbe>, Error> {
    let mut probes: Vec<WriteProbe> = Vec::new();
    loop {
        let plan = Plan::new(vm, destination, tolerances, consents);
        let mut undecided = undecided_values(&plan);
        undecided.retain(|(register, value)| {
            let is_same = |probe: &WriteProbe| (probe.register, probe.value) == (*register, *value);
            !probes.iter().any(is_same)
        });
        undecided.truncate(MAX_PROBES - probes.len());
        if undecided.is_empty() {
            return Ok(probes);
        }
        for (register, value) in undecided {
            probes.push(WriteProbe {
                register,
                value,
                is_accepted: is_accepted(host, features, register, value)?,
            });
        }
        apply_probes(destination, &probes);
    }
}

/// Returns the values that the plan cannot decide.
fn undecided_values(plan: &Plan) -> Vec<(RegisterId, u64)> {
    let mut values = Vec::new();
    for (vcpus, decision) in plan.decisions() {
        if decision.action != Action::Undecided || !decision.is_listed {
            continue;
        }
        let id = decision.register;
        let mut adjustments = plan.accepted_adjustments.iter();
        let adjustment = adjustments.find(|adjustment| {
            let has_vcpu = |vcpu| vcpus.iter().any(|other| other == vcpu);
            adjustment.register == id && adjustment.vcpus.iter().any(has_vcpu)
        });
        let value = match adjustment {
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
    value: u64,
) -> Result<bool, Error> {
    let vm = host.create_vm(features, 1)?;
    let value = Value::U64(value);
    Ok(vm.vcpus().first().is_some_and(|vcpu| {
        if features.contains(Features::SVE) && vcpu.finalize_sve().is_err() {
            return false;
        }
        value::write(vcpu, id, &value).is_ok()
            && value::read(vcpu, id).is_ok_and(|current| current == value)
    }))
}

/// Updates the destination with the result of the trials.
///
/// Afterwards a tried register accepts the values of successful trials, and its value at reset, to
/// which a plan may adjust it. The destination refuses any other value.
fn apply_probes(destination: &mut Destination, probes: &[WriteProbe]) {
    let mut accepted: BTreeMap<RegisterId, Vec<u64>> = BTreeMap::new();
    for probe in probes {
        let values = accepted.entry(probe.register).or_default();
        values.extend(probe.is_accepted.then_some(probe.value));
    }
    for vcpu in &mut destination.vcpus {
        let registers = vcpu.registers().iter().map(|register| {
            let mut register = register.clone();
            if let Some(values) = accepted.get(&register.id) {
                let reset_value = register.value.as_ref().and_then(Value::as_u64);
                let reset_value = reset_value.filter(|value| !values.contains(value));
                register.accepted_values =
                    AcceptedValues::OneOf(values.iter().copied().chain(reset_value).collect());
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
    const HOST_VALUE: u64 = 0x1;
    const LOWERED_VALUE: u64 = 0x0;

    /// Decides a VM whose ID_AA64ISAR2_EL1 is lower than the host's, on a kernel that reports no
    /// masks.
    fn decide(is_accepted: bool) -> (Vec<WriteProbe>, PlanOutcome) {
        let trial = if is_accepted {
            (LOWERED_VALUE, 0, LOWERED_VALUE)
        } else {
            (LOWERED_VALUE, 22, HOST_VALUE)
        };
        let features = Features::NONE;
        let host = testing::host(
            features,
            vec![register_with_trials(ISAR2, HOST_VALUE, &[trial])],
        );
        let vm = host.create_vm(features, 1).expect("it was recorded");
        let mut state = save(vm.vcpus()).expect("a saved VM");
        state.vcpus[0]
            .registers
            .insert(ISAR2, Value::U64(LOWERED_VALUE));
        // A probed destination has trials of every field, which leave nothing to decide. Replace it
        // by the record without them.
        let mut destination = probe_destination(&host, features, 1, "host").expect("a destination");
        destination.vcpus = vec![host.record().guests[&features].to_destination_vcpu()];
        let (tolerances, consents) = (Tolerances::default(), Consents::default());
        let outcome = |destination: &Destination| {
            Plan::new(&state, destination, &tolerances, &consents).outcome()
        };
        assert_eq!(outcome(&destination), PlanOutcome::Unknown);
        let probes = decide_unknown(
            &host,
            features,
            &state,
            &mut destination,
            &tolerances,
            &consents,
        );
        (probes.expect("a VM"), outcome(&destination))
    }

    #[test]
    fn trials_decide_unknown_values() {
        for (is_accepted, expected_outcome) in
            [(true, PlanOutcome::Ready), (false, PlanOutcome::Refused)]
        {
            let (probes, outcome) = decide(is_accepted);
            let expected = WriteProbe {
                register: ISAR2,
                value: LOWERED_VALUE,
                is_accepted,
            };
            assert_eq!(probes, [expected]);
            assert_eq!(outcome, expected_outcome);
        }
    }
}
