//! What is known of loaders and destinations, and what is not.

use cpreg::destination::load;
use cpreg::destination::{Accelerator, Confidence, Destination, Loader, ValueOrigin};
use cpreg::plan::{Consents, PlanOutcome, Verdict};
use cpreg::register::RegisterId;
use cpreg::vm::{Content, Extension, Vm};

use super::fixtures::{check, kvm, plan, vm};

/// Under KVM FPCR is no register of the list: its upper bits are in the subsection and nowhere else.
#[test]
fn the_subsection_with_fpcr_is_not_idle_where_the_list_has_no_fpcr() {
    let mut vm = vm(&[&[(RegisterId::SCTLR_EL1, 1)]]);
    let mut there = kvm(&vm);
    there.loader = Some(Loader::qemu(7, 2));
    vm.vcpus[0].extensions.push(Extension {
        name: "cpu/vfp/fpcr_fpsr".into(),
        content: Content::Bytes(vec![0; 16]),
    });
    let check = check(&vm, &there, &Consents::default());
    assert_eq!(
        check.verdict,
        Verdict::Refused,
        "{:?}",
        check.plan.extensions()
    );
}

/// The rules of TCG say nothing about Hypervisor.framework.
#[test]
fn a_register_that_is_missing_under_hvf_is_not_foretold_by_the_rules_of_tcg() {
    let there = vm(&[&[(RegisterId::SCTLR_EL1, 1), (RegisterId::TPIDR_EL1, 0)]]);
    let mut destination = kvm(&there);
    destination.accelerator = Some(Accelerator::Hvf);
    let vm = vm(&[&[(RegisterId::SCTLR_EL1, 1)]]);
    let load = load::simulate(Loader::qemu(10, 0), &vm, &destination);
    assert_eq!(load.loads, None);
}

/// With nothing known of the loader nothing is known of the load.
#[test]
fn no_loader_is_no_yes() {
    let vm = vm(&[&[(RegisterId::SCTLR_EL1, 1)]]);
    let mut there = kvm(&vm);
    there.accelerator = None;
    there.loader = None;
    assert_eq!(
        check(&vm, &there, &Consents::default()).verdict,
        Verdict::Unknown
    );
}

/// Only 5.2, 7.2, 10.0 and 11.1 were seen loading.
#[test]
fn nothing_is_proven_about_a_loader_that_was_never_tried() {
    let vm = vm(&[&[(RegisterId::SCTLR_EL1, 1)]]);
    let there = kvm(&vm);
    let knowledge =
        |major, minor| load::simulate(Loader::qemu(major, minor), &vm, &there).confidence;
    assert_eq!(knowledge(10, 0), Confidence::Proven);
    for (major, minor) in [(8, 2), (9, 1), (10, 1), (10, 2), (11, 0), (12, 0)] {
        assert_eq!(
            knowledge(major, minor),
            Confidence::Inferred,
            "{major}.{minor}"
        );
    }
}

/// CLIDR_EL1 must not promise coherence of instructions that CTR_EL0.IDC denies (7af0c2534f4c).
#[test]
fn cache_levels_must_agree_with_the_cache_type() {
    let slots = (0u64..14).map(|slot| (RegisterId::from_raw(0x6020_0000_0011_0000 + slot), 2));
    let mut there: Vec<_> = slots.collect();
    there.push((RegisterId::CTR_EL0, 0x8444_c004));
    there.push((RegisterId::CLIDR_EL1, 0x0a20_0023));
    let mut vm = there.clone();
    vm.last_mut().expect("has registers").1 = 0xc300_0123;
    let there = kvm(&self::vm(&[&there]));
    assert_eq!(
        plan(&self::vm(&[&vm]), &there, &Consents::default()).outcome(),
        PlanOutcome::Refused
    );
}

/// A register of 32 bits is given 33.
#[test]
fn a_value_wider_than_its_register_is_not_taken() {
    let slot = RegisterId::from_raw(0x6020_0000_0011_0000);
    let mut there: Vec<_> = (0u64..14)
        .map(|slot| (RegisterId::from_raw(0x6020_0000_0011_0000 + slot), 2))
        .collect();
    there.push((RegisterId::CTR_EL0, 0x8444_c004));
    let mut vm = there.clone();
    vm[0] = (slot, 0x1_0000_0007);
    let there = kvm(&self::vm(&[&there]));
    let check = check(&self::vm(&[&vm]), &there, &Consents::default());
    assert_eq!(check.verdict, Verdict::Unknown);
}

/// QEMU from 11.0 on does not list ID_AA64ISAR0_EL1, so a list with it is an older one's.
#[test]
fn a_list_of_10_0_is_not_11_1s() {
    let ids = [
        RegisterId::DBGDTR_EL0,
        RegisterId::ID_AA64ISAR0_EL1,
        RegisterId::ID_AA64ISAR1_EL1,
    ];
    let mut there = kvm(&vm(&[&ids.map(|id| (id, 0))]));
    there.accelerator = Some(Accelerator::Tcg);
    there.loader = None;
    assert!(load::is_plausible(Loader::qemu(10, 0), &there));
    assert!(!load::is_plausible(Loader::qemu(11, 1), &there));
}

/// That no guest can change a register is concluded from its kind, not seen.
#[test]
fn a_constant_that_a_guest_left_behind_is_no_proven_reset_value() {
    let constant = RegisterId::ID_AA64MMFR0_EL1;
    let mut there = kvm(&vm(&[&[(constant, 0x1122)]]));
    there.accelerator = Some(Accelerator::Tcg);
    let knowledge = |there: &Destination| {
        plan(&vm(&[&[]]), there, &Consents::default()).vcpus[0].decisions[0].confidence
    };
    assert_eq!(knowledge(&there), Confidence::Proven);
    there.value_origin = ValueOrigin::Guest;
    assert_eq!(knowledge(&there), Confidence::Inferred);
}

/// Whoever carries plans out needs no conversion, but what stands in the plan's way stands in its way too.
#[test]
fn a_vmm_with_cpreg_loads_by_the_plan() {
    let identification = (RegisterId::ID_AA64MMFR3_EL1, 0);
    let arrives = |midr| {
        vm(&[&[
            identification,
            (RegisterId::MIDR_EL1, midr),
            (RegisterId::TCR2_EL1, 0),
        ]])
    };
    let mut there = kvm(&vm(&[&[identification, (RegisterId::MIDR_EL1, 0)]]));
    let verdict = |vm: &Vm, there: &Destination| check(vm, there, &Consents::default()).verdict;
    assert_eq!(verdict(&arrives(0), &there), Verdict::Converts);
    there.loader = Some(Loader::CPREG);
    let loads = check(&arrives(0), &there, &Consents::default());
    assert_eq!(loads.verdict, Verdict::Loads);
    assert!(loads.loaders.is_empty());
    assert_eq!(verdict(&arrives(1), &there), Verdict::Refused);
    // It is a library for KVM.
    there.accelerator = Some(Accelerator::Tcg);
    assert_ne!(verdict(&arrives(0), &there), Verdict::Loads);
}

/// That a register takes any value is concluded from its kind, until the kernel took this one.
#[test]
fn what_was_carried_out_is_proven() {
    let register = (RegisterId::SCTLR_EL1, 1);
    let there = kvm(&vm(&[&[(RegisterId::SCTLR_EL1, 0)]]));
    let mut plan = plan(&vm(&[&[register]]), &there, &Consents::default());
    assert_eq!(plan.confidence(), Confidence::Inferred);
    plan.mark_proven();
    assert_eq!(plan.confidence(), Confidence::Proven);
}
