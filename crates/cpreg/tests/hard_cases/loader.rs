//! Known and unknown behaviour of loaders and destinations.

use cpreg::destination::load;
use cpreg::destination::{Accelerator, Confidence, Destination, Loader, ValueOrigin};
use cpreg::plan::{Action, Consents, PlanOutcome, Verdict};
use cpreg::register::RegisterId;
use cpreg::vm::{Content, Extension, Vm};

use super::fixtures::{check, kvm, plan, set, vm};

/// Under KVM FPCR is not in the list: only the subsection holds its upper bits.
#[test]
fn the_fpcr_subsection_is_not_idle_without_fpcr_in_the_list() {
    let mut vm = vm(&[&[(RegisterId::SCTLR_EL1, 1)]]);
    let mut destination = kvm(&vm);
    destination.loader = Some(Loader::qemu(7, 2));
    vm.vcpus[0].extensions.push(Extension {
        name: "cpu/vfp/fpcr_fpsr".into(),
        content: Content::Bytes(vec![0; 16]),
    });
    let check = check(&vm, &destination, &Consents::default());
    assert_eq!(
        check.verdict,
        Verdict::Refused,
        "{:?}",
        check.plan.extensions()
    );
}

/// The rules of TCG do not apply to Hypervisor.framework.
#[test]
fn the_rules_of_tcg_do_not_predict_missing_registers_under_hvf() {
    let destination = vm(&[&[(RegisterId::SCTLR_EL1, 1), (RegisterId::TPIDR_EL1, 0)]]);
    let mut destination = kvm(&destination);
    destination.accelerator = Some(Accelerator::Hvf);
    let vm = vm(&[&[(RegisterId::SCTLR_EL1, 1)]]);
    let load = load::simulate(Loader::qemu(10, 0), &vm, &destination);
    assert_eq!(load.loads, None);
}

/// The load by an unknown loader cannot be predicted.
#[test]
fn the_verdict_is_unknown_without_a_loader() {
    let vm = vm(&[&[(RegisterId::SCTLR_EL1, 1)]]);
    let mut destination = kvm(&vm);
    destination.accelerator = None;
    destination.loader = None;
    assert_eq!(
        check(&vm, &destination, &Consents::default()).verdict,
        Verdict::Unknown
    );
}

/// Only loads by 5.2, 7.2, 10.0 and 11.1 were observed.
#[test]
fn loads_by_unobserved_loaders_are_inferred() {
    let vm = vm(&[&[(RegisterId::SCTLR_EL1, 1)]]);
    let destination = kvm(&vm);
    let confidence =
        |major, minor| load::simulate(Loader::qemu(major, minor), &vm, &destination).confidence;
    assert_eq!(confidence(10, 0), Confidence::Proven);
    for (major, minor) in [(8, 2), (9, 1), (10, 1), (10, 2), (11, 0), (12, 0)] {
        assert_eq!(
            confidence(major, minor),
            Confidence::Inferred,
            "{major}.{minor}"
        );
    }
}

/// CLIDR_EL1 must not promise coherence of instructions that CTR_EL0.IDC excludes (7af0c2534f4c).
#[test]
fn cache_levels_must_agree_with_the_cache_type() {
    let slots = (0u64..14).map(|slot| (RegisterId::from_raw(0x6020_0000_0011_0000 + slot), 2));
    let mut destination: Vec<_> = slots.collect();
    destination.push((RegisterId::CTR_EL0, 0x8444_c004));
    destination.push((RegisterId::CLIDR_EL1, 0x0a20_0023));
    let mut vm = destination.clone();
    vm.last_mut().expect("has registers").1 = 0xc300_0123;
    let destination = kvm(&self::vm(&[&destination]));
    assert_eq!(
        plan(&self::vm(&[&vm]), &destination, &Consents::default()).outcome(),
        PlanOutcome::Refused
    );
}

/// A register of 32 bits gets a value of 33 bits.
#[test]
fn a_value_wider_than_its_register_is_unknown() {
    let slot = RegisterId::from_raw(0x6020_0000_0011_0000);
    let mut destination: Vec<_> = (0u64..14)
        .map(|slot| (RegisterId::from_raw(0x6020_0000_0011_0000 + slot), 2))
        .collect();
    destination.push((RegisterId::CTR_EL0, 0x8444_c004));
    let mut vm = destination.clone();
    vm[0] = (slot, 0x1_0000_0007);
    let destination = kvm(&self::vm(&[&destination]));
    let check = check(&self::vm(&[&vm]), &destination, &Consents::default());
    assert_eq!(check.verdict, Verdict::Unknown);
}

/// QEMU from 11.0 on does not list ID_AA64ISAR0_EL1, so a list with it is from an older version.
#[test]
fn a_list_of_10_0_cannot_be_from_11_1() {
    let ids = [
        RegisterId::DBGDTR_EL0,
        RegisterId::ID_AA64ISAR0_EL1,
        RegisterId::ID_AA64ISAR1_EL1,
    ];
    let mut destination = kvm(&vm(&[&ids.map(|id| (id, 0))]));
    destination.accelerator = Some(Accelerator::Tcg);
    destination.loader = None;
    assert!(load::is_plausible(Loader::qemu(10, 0), &destination));
    assert!(!load::is_plausible(Loader::qemu(11, 1), &destination));
}

/// The register's kind implies that no guest can change it, which is an inference.
#[test]
fn the_reset_value_of_a_constant_in_a_guest_is_inferred() {
    let constant = RegisterId::ID_AA64MMFR0_EL1;
    let mut destination = kvm(&vm(&[&[(constant, 0x1122)]]));
    destination.accelerator = Some(Accelerator::Tcg);
    let confidence = |destination: &Destination| {
        plan(&vm(&[&[]]), destination, &Consents::default()).vcpus[0].decisions[0].confidence
    };
    assert_eq!(confidence(&destination), Confidence::Proven);
    destination.value_origin = ValueOrigin::Guest;
    assert_eq!(confidence(&destination), Confidence::Inferred);
}

/// A loader that carries out plans needs no conversion; a blocked plan still blocks the load.
#[test]
fn a_vmm_with_cpreg_loads_by_the_plan() {
    let identification = (RegisterId::ID_AA64MMFR3_EL1, 0);
    let incoming = |midr| {
        vm(&[&[
            identification,
            (RegisterId::MIDR_EL1, midr),
            (RegisterId::TCR2_EL1, 0),
        ]])
    };
    let mut destination = kvm(&vm(&[&[identification, (RegisterId::MIDR_EL1, 0)]]));
    let verdict =
        |vm: &Vm, destination: &Destination| check(vm, destination, &Consents::default()).verdict;
    assert_eq!(verdict(&incoming(0), &destination), Verdict::Converts);
    destination.loader = Some(Loader::CPREG);
    let loads = check(&incoming(0), &destination, &Consents::default());
    assert_eq!(loads.verdict, Verdict::Loads);
    assert!(loads.loaders.is_empty());
    assert_eq!(verdict(&incoming(1), &destination), Verdict::Refused);
    // This loader exists only for KVM.
    destination.accelerator = Some(Accelerator::Tcg);
    assert_ne!(verdict(&incoming(0), &destination), Verdict::Loads);
}

/// KVM hides PIR_EL1 from a VM without S1PIE. QEMU would fail to write it.
#[test]
fn a_vmm_with_cpreg_leaves_out_hidden_registers() {
    const S1PIE: u64 = 1 << 8;
    let features = |value| (RegisterId::ID_AA64MMFR3_EL1, value);
    let indirection = (RegisterId::PIR_EL1, 0x1234);
    let host = vm(&[&[
        features(S1PIE),
        indirection,
        (RegisterId::VENDOR_HYP_BMAP_2, 0),
    ]]);
    let mut destination = kvm(&host);
    let action = |incoming: &Vm, destination: &Destination, consents: &Consents| {
        let plan = plan(incoming, destination, consents);
        let mut decisions = plan.vcpus[0].decisions.iter();
        let decision = decisions.find(|decision| decision.register == RegisterId::PIR_EL1);
        decision.expect("decided").action.clone()
    };
    let consents = Consents::default();
    for (incoming, expected) in [
        (vm(&[&[features(0), indirection]]), Action::Ignore),
        (
            vm(&[&[features(0), (RegisterId::PIR_EL1, 0x5678)]]),
            Action::Ignore,
        ),
        (vm(&[&[features(0)]]), Action::KeepAtReset),
    ] {
        destination.loader = Some(Loader::qemu(10, 0));
        assert_eq!(action(&incoming, &destination, &consents), Action::Refuse);
        destination.loader = Some(Loader::CPREG);
        assert_eq!(action(&incoming, &destination, &consents), expected);
    }
    // A value for a register that the guest does not have.
    let consents = Consents {
        set: vec![set(RegisterId::PIR_EL1, 0)],
        ..Consents::default()
    };
    let incoming = vm(&[&[features(0)]]);
    assert_eq!(action(&incoming, &destination, &consents), Action::Refuse);
}

/// A register's kind implies that it accepts any value; the kernel's acceptance proves it.
#[test]
fn values_of_an_executed_plan_are_proven() {
    let register = (RegisterId::SCTLR_EL1, 1);
    let destination = kvm(&vm(&[&[(RegisterId::SCTLR_EL1, 0)]]));
    let mut plan = plan(&vm(&[&[register]]), &destination, &Consents::default());
    assert_eq!(plan.confidence(), Confidence::Inferred);
    plan.mark_proven();
    assert_eq!(plan.confidence(), Confidence::Proven);
}

/// Cloud Hypervisor compares the frequency since v53, after the registers.
#[test]
fn cloud_hypervisor_refuses_another_counter_frequency() {
    let mut vm = vm(&[&[(RegisterId::SCTLR_EL1, 1)]]);
    vm.source_hardware.counter_frequency = Some(62_500_000);
    let mut destination = kvm(&vm);
    let loads = |destination: &Destination, loader: &str| {
        let loader: Loader = loader.parse().expect("a loader");
        let load = load::simulate(loader, &vm, destination);
        (load.loads, load.events)
    };
    destination.hardware.counter_frequency = Some(1_000_000_000);
    let event = load::LoadEvent::CounterFrequency {
        saved: 62_500_000,
        host: 1_000_000_000,
    };
    let refused = (Some(false), vec![event]);
    assert_eq!(loads(&destination, "cloud-hypervisor-53"), refused);
    let loaded = (Some(true), Vec::new());
    assert_eq!(loads(&destination, "firecracker-1.16"), loaded);
    destination.hardware.counter_frequency = Some(62_500_000);
    assert_eq!(loads(&destination, "cloud-hypervisor-53"), loaded);
    destination.hardware.counter_frequency = None;
    assert_eq!(loads(&destination, "cloud-hypervisor-53"), loaded);
}
