//! Synthetic VMs and destinations, and plans for them.

use cpreg::destination::{Accelerator, Destination, DestinationVcpu, Loader, ValueOrigin};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Check, Consents, Plan, SetConsent};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};

pub(crate) fn vcpu(pairs: &[(RegisterId, u64)]) -> Vcpu {
    let pairs = pairs.iter().map(|(id, value)| (*id, Value::U64(*value)));
    Vcpu {
        registers: Registers::from_pairs(pairs).expect("no id twice"),
        ..Vcpu::default()
    }
}

pub(crate) fn vm(vcpus: &[&[(RegisterId, u64)]]) -> Vm {
    Vm {
        vcpus: vcpus.iter().map(|pairs| vcpu(pairs)).collect(),
        ..Vm::default()
    }
}

pub(crate) fn kvm(host: &Vm) -> Destination {
    Destination {
        name: "destination".to_owned(),
        accelerator: Some(Accelerator::Kvm),
        loader: Some(Loader::qemu(10, 0)),
        value_origin: ValueOrigin::Reset,
        vcpus: host.vcpus.iter().map(DestinationVcpu::from_vcpu).collect(),
        kernel_version: None,
        hardware: HardwareFacts::UNKNOWN,
        shape: None,
    }
}

pub(crate) fn check(vm: &Vm, destination: &Destination, consents: &Consents) -> Check {
    Check::new(vm, destination, &Tolerances::default(), consents)
}

pub(crate) fn plan(vm: &Vm, destination: &Destination, consents: &Consents) -> Plan {
    check(vm, destination, consents).plan
}

pub(crate) fn set(register: RegisterId, value: u64) -> SetConsent {
    SetConsent {
        register,
        mask: u64::MAX,
        value,
    }
}
