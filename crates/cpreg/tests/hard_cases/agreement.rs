//! VM-wide registers on which vCPUs agree or not.

use cpreg::destination::Accelerator;
use cpreg::plan::{Consents, PlanOutcome, Reason, SetConsent, Verdict};
use cpreg::register::RegisterId;

use super::fixtures::{check, kvm, plan, set, vm};

#[test]
fn vcpus_disagree_though_the_first_has_not_got_the_register() {
    let psci = |version| {
        [
            (RegisterId::SCTLR_EL1, 1),
            (RegisterId::PSCI_VERSION, version),
        ]
    };
    let vm = vm(&[&psci(0)[..1], &psci(0x1_0001), &psci(0x1_0000)]);
    let there = kvm(&self::vm(&[&psci(0x1_0001)]));
    assert_eq!(
        plan(&vm, &there, &Consents::default()).outcome(),
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
    let there = kvm(&vm(&[&[
        (RegisterId::SCTLR_EL1, 1),
        (RegisterId::PSCI_VERSION, 0x1_0001),
    ]]));
    let vm = vm(&[&psci, &psci[..1]]);
    assert_eq!(
        plan(&vm, &there, &Consents::default()).outcome(),
        PlanOutcome::Refused
    );
}

#[test]
fn vcpus_that_the_user_makes_agree_do() {
    let psci = |version| [(RegisterId::PSCI_VERSION, version)];
    let vm = vm(&[&psci(0x1_0001), &psci(0x1_0000)]);
    let there = kvm(&self::vm(&[&psci(0x1_0001)]));
    assert_eq!(
        plan(&vm, &there, &Consents::default()).outcome(),
        PlanOutcome::Refused
    );
    let consents = Consents {
        set: vec![set(RegisterId::PSCI_VERSION, 0x1_0000)],
        ..Consents::default()
    };
    assert_eq!(plan(&vm, &there, &consents).outcome(), PlanOutcome::Ready);
}

#[test]
fn vcpus_that_disagree_on_the_number_of_counters_are_refused_where_the_vm_has_one() {
    let id = RegisterId::PMCR_EL0;
    let vm = vm(&[&[(id, 0x3001)], &[(id, 0x2000)]]);
    let newer = [
        (id, 0x3000),
        (RegisterId::PTIMER_CTL, 0),
        (RegisterId::VENDOR_HYP_BMAP_2, 0),
    ];
    let there = kvm(&self::vm(&[&newer]));
    let refused = plan(&vm, &there, &Consents::default());
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
    assert_eq!(plan(&vm, &there, &consents).outcome(), PlanOutcome::Ready);
    // The controls are each vCPU's own, and an older kernel has them hold all.
    let controls = self::vm(&[&[(id, 0x3001)], &[(id, 0x3000)]]);
    assert_eq!(
        plan(&controls, &there, &Consents::default()).outcome(),
        PlanOutcome::Ready
    );
    let older = kvm(&self::vm(&[&newer[..1]]));
    assert_eq!(
        plan(&vm, &older, &Consents::default()).outcome(),
        PlanOutcome::Ready
    );
}

/// An emulated machine may have two kinds of CPU; each keeps its own ID registers.
#[test]
fn emulated_cpus_of_two_kinds_do_not_disagree() {
    let a53 = [(RegisterId::ID_AA64MMFR0_EL1, 0x1122)];
    let a72 = [(RegisterId::ID_AA64MMFR0_EL1, 0x1124)];
    let vm = vm(&[&a53, &a72]);
    let mut there = kvm(&vm);
    there.accelerator = Some(Accelerator::Tcg);
    assert_eq!(
        check(&vm, &there, &Consents::default()).verdict,
        Verdict::Loads
    );
}
