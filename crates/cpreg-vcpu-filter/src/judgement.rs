//! [`Judgement`]: the plan for the incoming values of a VM.

use std::collections::BTreeMap;

use cpreg::destination::kernel::{RegisterKind, Scope};
use cpreg::destination::{
    Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu, Loader,
    ValueOrigin,
};
use cpreg::plan::{Plan, PlanOutcome, VcpuPlan};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};

use crate::policy::Policy;
use crate::vcpu::{VcpuFilter, is_judged};

/// Plan for the vCPUs with incoming values.
#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    /// Numbers of the vCPUs, in the order of the plan.
    pub(crate) numbers: Vec<usize>,
    pub(crate) plan: Plan,
    /// Outcome of the plan. Each vCPU asks for it, and its calculation visits all vCPUs.
    pub(crate) is_ready: bool,
}

impl Judgement {
    /// Returns the plan for one vCPU.
    pub(crate) fn vcpu_plan(&self, number: usize) -> Option<&VcpuPlan> {
        let index = self.numbers.iter().position(|other| *other == number)?;
        self.plan.vcpus.get(index)
    }
}

/// Makes the plan for those of the VM's vCPUs that have incoming values.
pub(crate) fn judge<'a>(
    policy: &Policy,
    tolerances: &Tolerances,
    vcpus: impl IntoIterator<Item = (usize, &'a VcpuFilter)>,
    accepted_values: &BTreeMap<RegisterId, AcceptedValues>,
) -> Judgement {
    let mut numbers = Vec::new();
    let mut vm = Vm {
        source_hardware: policy.source_hardware,
        ..Vm::default()
    };
    let vcpus: Vec<_> = vcpus.into_iter().collect();
    let mut shared = SharedValues::default();
    for (_, vcpu) in &vcpus {
        shared.add(vcpu);
    }
    shared.accepted.extend(accepted_values.clone());
    let mut destination_vcpus = Vec::new();
    let with_incoming = vcpus
        .into_iter()
        .filter(|(_, vcpu)| vcpu.phase.has_incoming_values());
    for (number, vcpu) in with_incoming {
        numbers.push(number);
        vm.vcpus.push(incoming_vcpu(vcpu, &shared.incoming));
        destination_vcpus.push(destination_vcpu(vcpu, &shared));
    }
    let hardware = policy.host.hardware;
    let destination = Destination {
        name: "this host".to_owned(),
        accelerator: Some(Accelerator::Kvm),
        loader: Some(Loader::CPREG),
        value_origin: if hardware.is_emulated {
            ValueOrigin::EmulatedHost
        } else {
            ValueOrigin::Reset
        },
        vcpus: destination_vcpus,
        kernel_version: policy.host.kernel_version(),
        hardware,
        shape: None,
    };
    let plan = Plan::new(&vm, &destination, tolerances, &policy.consents);
    Judgement {
        numbers,
        is_ready: plan.outcome() == PlanOutcome::Ready,
        plan,
    }
}

/// Values of VM-wide registers, from the first vCPU that knows them.
#[derive(Default)]
struct SharedValues {
    own: Registers,
    incoming: Registers,
    accepted: BTreeMap<RegisterId, AcceptedValues>,
}

impl SharedValues {
    fn add(&mut self, vcpu: &VcpuFilter) {
        let add = |values: &mut Registers, id, value: &Value| {
            let is_shared = RegisterKind::from_id(id).scope() == Scope::Vm;
            if is_shared && values.get(id).is_none() {
                values.insert(id, value.clone());
            }
        };
        for (id, value) in vcpu.own.iter() {
            add(&mut self.own, id, value);
        }
        for (id, value) in vcpu.incoming.iter().chain(vcpu.own.iter()) {
            add(&mut self.incoming, id, value);
        }
        for (id, _) in vcpu.incoming.iter() {
            if RegisterKind::from_id(id).scope() == Scope::Vm {
                let observed = observed_values(vcpu, id);
                match (self.accepted.get_mut(&id), observed) {
                    (Some(AcceptedValues::OneOf(known)), AcceptedValues::OneOf(more)) => {
                        known.extend(more);
                    }
                    (Some(_), _) => {}
                    (None, observed) => {
                        self.accepted.insert(id, observed);
                    }
                }
            }
        }
    }
}

/// Returns the vCPU as it arrived.
///
/// A register of the host that the VMM only read and wrote back holds its own value. A VM-wide
/// register that the VMM did not touch on this vCPU holds the value of another vCPU.
///
/// A register that the host lacks and whose value is still the first one may be part of the VM or
/// not: the VMM makes the same calls. The plan has it, so the VM loads only if it loads in both
/// cases.
fn incoming_vcpu(vcpu: &VcpuFilter, shared: &Registers) -> Vcpu {
    let mut registers = Registers::new();
    let shared = shared.iter().filter(|(id, _)| vcpu.is_listed(*id));
    for (id, value) in shared.chain(vcpu.own.iter()).chain(vcpu.incoming.iter()) {
        if is_judged(id) {
            registers.insert(id, value.clone());
        }
    }
    for (id, remembered) in &vcpu.remembered {
        if registers.get(*id).is_none() {
            registers.insert(*id, Value::U64(remembered.initial));
        }
    }
    Vcpu {
        registers,
        pstate: vcpu.pstate,
        ..Vcpu::default()
    }
}

/// Returns the vCPU as the kernel created it, with the values that its registers accept.
fn destination_vcpu(vcpu: &VcpuFilter, shared: &SharedValues) -> DestinationVcpu {
    let listed = vcpu.listed.as_deref().unwrap_or_default();
    let registers = listed.iter().filter(|id| is_judged(**id)).map(|id| {
        let accepted = shared.accepted.get(id).cloned();
        let own = vcpu.own.get(*id).or_else(|| shared.own.get(*id));
        DestinationRegister {
            id: *id,
            value: own.cloned(),
            accepted_values: accepted.unwrap_or_else(|| observed_values(vcpu, *id)),
        }
    });
    DestinationVcpu::new(registers, Vec::new())
}

/// Returns the values that the kernel accepted, if the VMM wrote one that differs from its own.
fn observed_values(vcpu: &VcpuFilter, id: RegisterId) -> AcceptedValues {
    let number = |registers: &Registers| registers.get(id).and_then(Value::as_u64);
    let Some(incoming) = number(&vcpu.incoming) else {
        return AcceptedValues::ByKind;
    };
    let own = number(&vcpu.own);
    if vcpu.refused_writes.contains_key(&id) {
        return AcceptedValues::OneOf(own.into_iter().collect());
    }
    AcceptedValues::OneOf(own.into_iter().chain([incoming]).collect())
}
