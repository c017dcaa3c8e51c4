//! Loads of VMs whose ID registers hide registers that QEMU has listed.

mod common;

use cpreg::destination::Features;
use cpreg::plan::SetConsent;
use cpreg::register::{RegisterId, Value};
use cpreg::vm::Vm;
use cpreg_hosts::HostIndex;
use cpreg_kvm::recorded::RecordedHost;
use cpreg_kvm::{Errno, Vcpu as _, Vm as _};
use cpreg_vcpu_filter::{Event, Policy, VcpuUse};

use common::{Outcome, Qemu, bytes};

const HOST: &str = "linux-7.3.4/max";
const FEATURES: Features = Features::PMU;
/// Registers that the settings hide.
const HIDDEN: [RegisterId; 3] = [
    RegisterId::SCTLR2_EL1,
    RegisterId::PIR_EL1,
    RegisterId::PIRE0_EL1,
];

/// Settings with ID_AA64MMFR3_EL1.SCTLRX and S1PIE 0.
fn settings() -> Vec<SetConsent> {
    vec![SetConsent {
        register: RegisterId::ID_AA64MMFR3_EL1,
        mask: 0xff0,
        value: 0,
    }]
}

/// Returns a VM that QEMU saved, and whose ID registers hide registers since its birth.
fn born_movable(host: &RecordedHost, vcpus: usize) -> Vm {
    let policy = Policy {
        born_with: settings(),
        ..Policy::default()
    };
    let qemu = Qemu::start(host, FEATURES, vcpus, policy);
    let listed: Vec<_> = qemu.list(0).collect();
    assert!(HIDDEN.iter().all(|id| !listed.contains(id)));
    qemu.saved_vm()
}

fn receiver(vcpus: usize) -> (RecordedHost, Qemu) {
    let index = HostIndex::built_in().expect("the built-in index");
    let host = common::recorded_host(&index, HOST);
    let policy = common::receiving_policy(&index, &host, FEATURES);
    let qemu = Qemu::start(&host, FEATURES, vcpus, policy);
    (host, qemu)
}

/// Makes KVM's own call, without the filter.
fn is_hidden_by_kernel(qemu: &Qemu, id: RegisterId) -> bool {
    let mut bytes = [0; 8];
    qemu.vm.vcpus()[0].get(id, &mut bytes) == Err(Errno::ENOENT)
}

fn write(qemu: &mut Qemu, id: RegisterId, value: u64) -> Result<(), Errno> {
    let vcpu = &qemu.vm.vcpus()[0];
    qemu.filter.set(0, vcpu, id, &bytes(id, &Value::U64(value)))
}

/// QEMU reads and writes every register of its list again when it saves or resets the VM.
#[test]
fn a_vm_that_hides_registers_loads_and_qemu_keeps_its_list() {
    let (host, mut qemu) = receiver(2);
    let own = HIDDEN.map(|id| qemu.read(0, id).expect("a listed register"));
    assert_eq!(qemu.load(&born_movable(&host, 2)), Outcome::Runs);
    for (id, own) in HIDDEN.into_iter().zip(own) {
        assert!(is_hidden_by_kernel(&qemu, id), "{id}");
        assert!(!qemu.filter.passes(0, id), "{id}");
        assert_eq!(qemu.read(0, id), Some(own), "{id}");
        assert_eq!(write(&mut qemu, id, 7), Ok(()), "{id}");
        assert_eq!(qemu.read(0, id), Some(7), "{id}");
    }
    let listed = qemu.filter.take_events().into_iter().rev();
    let mut remembered = listed.filter_map(|event| match event {
        Event::Listed { remembered, .. } => Some(remembered),
        _ => None,
    });
    let remembered = remembered.next().expect("a list");
    assert!(HIDDEN.iter().all(|id| remembered.contains(id)));
    // The guest restarts.
    let vcpu = &qemu.vm.vcpus()[0];
    let initialized = qemu.filter.initialize(0, VcpuUse::Guest, vcpu);
    assert_eq!(initialized, Ok(()));
    for (id, own) in HIDDEN.into_iter().zip(own) {
        assert_eq!(qemu.read(0, id), Some(own), "{id}");
        assert_eq!(write(&mut qemu, id, own), Ok(()), "{id}");
    }
    let vcpu = &qemu.vm.vcpus()[0];
    assert_eq!(qemu.filter.check_run(0, vcpu), Ok(()));
}

/// Kernels before 6.13 list PIR_EL1 for every guest.
#[test]
fn a_hidden_value_of_the_vm_is_ignored_and_leaves_with_the_vm() {
    let (host, mut qemu) = receiver(1);
    let mut vm = born_movable(&host, 1);
    let registers = &mut vm.vcpus[0].registers;
    registers.insert(RegisterId::PIR_EL1, Value::U64(0x1234));
    assert_eq!(qemu.load(&vm), Outcome::Runs);
    assert_eq!(qemu.read(0, RegisterId::PIR_EL1), Some(0x1234));
    let events = qemu.filter.take_events().into_iter();
    let mut ignored = events.filter_map(|event| match event {
        Event::Loaded { ignored, .. } => Some(ignored),
        _ => None,
    });
    let expected = vec![(RegisterId::PIR_EL1, Value::U64(0x1234))];
    assert_eq!(ignored.next(), Some(expected));
}

#[test]
fn a_register_that_stays_listed_is_the_kernels() {
    let (host, mut qemu) = receiver(1);
    let vm = Qemu::start(&host, FEATURES, 1, Policy::default()).saved_vm();
    assert_eq!(qemu.load(&vm), Outcome::Runs);
    for id in HIDDEN {
        assert!(qemu.filter.passes(0, id), "{id}");
    }
}
