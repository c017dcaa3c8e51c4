//! Agreement of vCPUs on VM-wide registers.

use cpreg::destination::Accelerator;
use cpreg::plan::{Consents, PlanOutcome, Reason, SetConsent, Verdict};
use cpreg::register::RegisterId;

use super::fixtures::{check, kvm, plan, set, vm};

#[test]
fn vcpus_disagree_even_if_the_first_lacks_the_register() {
    let psci = |version| {
        [
            (RegisterId::SCTLR_EL1, 1),
            (RegisterId::PSCI_VERSION, version),
        ]
    };
    let vm = vm(&[&psci(0)[..1], &psci(0x1_0001), &psci(0x1_0000)]);
    let destination = kvm(&self::vm(&[&psci(0x1_0001)]));
    assert_eq!(
        plan(&vm, &destination, &Consents::default()).outcome(),
        PlanOutcome::Refused
    );
}

/// QEMU writes its own default for the vCPU that lacks the register, after the other's value.
#[test]
fn a_register_of_the_vm_that_only_some_vcpus_have_is_a_disagreement() {
    let psci = [
        (RegisterId::SCTLR_EL1, 1),
        (RegisterId::PSCI_VERSION, 0x1_0000),
    ];
    let destination = kvm(&vm(&[&[
        (RegisterId::SCTLR_EL1, 1),
        (RegisterId::PSCI_VERSION, 0x1_0001),
    ]]));
    let vm = vm(&[&psci, &psci[..1]]);
    assert_eq!(
        plan(&vm, &destination, &Consents::default()).outcome(),
        PlanOutcome::Refused
    );
}

#[test]
fn the_user_can_make_vcpus_agree() {
    let psci = |version| [(RegisterId::PSCI_VERSION, version)];
    let vm = vm(&[&psci(0x1_0001), &psci(0x1_0000)]);
    let destination = kvm(&self::vm(&[&psci(0x1_0001)]));
    assert_eq!(
        plan(&vm, &destination, &Consents::default()).outcome(),
        PlanOutcome::Refused
    );
    let consents = Consents {
        set: vec![set(RegisterId::PSCI_VERSION, 0x1_0000)],
        ..Consents::default()
    };
    assert_eq!(
        plan(&vm, &destination, &consents).outcome(),
        PlanOutcome::Ready
    );
}

#[test]
fn vcpus_must_agree_on_a_vm_wide_number_of_counters() {
    let id = RegisterId::PMCR_EL0;
    let vm = vm(&[&[(id, 0x3001)], &[(id, 0x2000)]]);
    let newer = [
        (id, 0x3000),
        (RegisterId::PTIMER_CTL, 0),
        (RegisterId::VENDOR_HYP_BMAP_2, 0),
    ];
    let destination = kvm(&self::vm(&[&newer]));
    let refused = plan(&vm, &destination, &Consents::default());
    assert_eq!(refused.outcome(), PlanOutcome::Refused);
    assert_eq!(
        refused.vcpus[1].decisions[0].reason,
        Reason::FieldDisagreement("N")
    );
    let consents = Consents {
        set: vec![SetConsent {
            register: id,
            mask: 0x1f << 11,
            value: 0x2000,
        }],
        ..Consents::default()
    };
    assert_eq!(
        plan(&vm, &destination, &consents).outcome(),
        PlanOutcome::Ready
    );
    // The control bits are per vCPU, and on an older kernel the whole register is.
    let controls = self::vm(&[&[(id, 0x3001)], &[(id, 0x3000)]]);
    assert_eq!(
        plan(&controls, &destination, &Consents::default()).outcome(),
        PlanOutcome::Ready
    );
    let older = kvm(&self::vm(&[&newer[..1]]));
    assert_eq!(
        plan(&vm, &older, &Consents::default()).outcome(),
        PlanOutcome::Ready
    );
}

/// An emulated machine may have two CPU models; each keeps its own ID registers.
#[test]
fn emulated_cpus_of_two_models_do_not_disagree() {
    let a53 = [(RegisterId::ID_AA64MMFR0_EL1, 0x1122)];
    let a72 = [(RegisterId::ID_AA64MMFR0_EL1, 0x1124)];
    let vm = vm(&[&a53, &a72]);
    let mut destination = kvm(&vm);
    destination.accelerator = Some(Accelerator::Tcg);
    assert_eq!(
        check(&vm, &destination, &Consents::default()).verdict,
        Verdict::Loads
    );
}
