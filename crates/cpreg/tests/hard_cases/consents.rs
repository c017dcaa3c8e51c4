//! What the user sets, accepts and hides.

use cpreg::destination::ValueOrigin;
use cpreg::plan::{Action, Consents, PlanOutcome, Reason, SetConsent, Verdict};
use cpreg::register::RegisterId;

use super::fixtures::{check, kvm, plan, set, vm};

/// The table's reason is about what VMs hold, and the VM's own value is nothing that it could be changed to.
#[test]
fn a_value_that_the_user_set_and_that_is_not_taken_is_said_to_be_that() {
    let id = RegisterId::PSCI_VERSION;
    let mut there = kvm(&vm(&[&[(id, 0x1_0003)]]));
    there.value_origin = ValueOrigin::EmulatedHost;
    let consents = Consents {
        set: vec![set(id, 0x1_0009)],
        ..Consents::default()
    };
    for held in [0x1_0003, 0x1_0001] {
        let plan = plan(&vm(&[&[(id, held)]]), &there, &consents);
        let decision = &plan.vcpus[0].decisions[0];
        assert_eq!(decision.action, Action::Refuse);
        assert_eq!(decision.reason, Reason::SetNotTaken);
        assert_eq!(plan.proposed_adjustments, []);
    }
    // Where only the destination has it, too.
    let without = plan(&vm(&[&[(RegisterId::SCTLR_EL1, 0)]]), &there, &consents);
    let mut decisions = without.vcpus[0].decisions.iter();
    assert!(decisions.any(|it| it.register == id && it.reason == Reason::SetNotTaken));
    // Where nothing tells whether it is taken, the VM's own value is no change either.
    there.value_origin = ValueOrigin::Guest;
    let undecided = plan(&vm(&[&[(id, 0x1_0003)]]), &there, &consents);
    assert_eq!(undecided.outcome(), PlanOutcome::Unknown);
    assert_eq!(undecided.proposed_adjustments, []);
}

/// The user may give a value to what only the destination has: services that a newer kernel would offer.
#[test]
fn a_register_that_only_the_destination_has_can_be_set() {
    let there = kvm(&vm(&[&[
        (RegisterId::SCTLR_EL1, 1),
        (RegisterId::VENDOR_HYP_BMAP, 3),
        (RegisterId::PSCI_VERSION, 0x1_0003),
    ]]));
    let vm = vm(&[&[(RegisterId::SCTLR_EL1, 1)]]);
    let set = |register, value| Consents {
        set: vec![SetConsent {
            register,
            mask: u64::MAX,
            value,
        }],
        ..Consents::default()
    };
    let fewer = check(&vm, &there, &set(RegisterId::VENDOR_HYP_BMAP, 1));
    assert_eq!(fewer.verdict, Verdict::Converts);
    let result = fewer.plan.apply(&vm);
    assert_eq!(
        result.vcpus[0]
            .registers
            .get_u64(RegisterId::VENDOR_HYP_BMAP),
        Some(1)
    );
    assert!(
        fewer
            .plan
            .visible_changes
            .iter()
            .any(
                |change| change.register == Some(RegisterId::VENDOR_HYP_BMAP)
                    && change.to == Some(1)
            )
    );
    // What the destination is not known to take does not become takeable by being asked for.
    let more = check(&vm, &there, &set(RegisterId::VENDOR_HYP_BMAP, 0x10));
    assert_eq!(more.verdict, Verdict::Unknown);
}

/// Services that the VM had not got are not given to it to make it fit.
#[test]
fn adjusting_a_bitmap_only_takes_services_away() {
    let there = kvm(&vm(&[&[(RegisterId::VENDOR_HYP_BMAP, 1)]]));
    let vm = vm(&[&[(RegisterId::VENDOR_HYP_BMAP, 2)]]);
    let plan = plan(&vm, &there, &Consents::default());
    assert_eq!(plan.proposed_adjustments.len(), 1);
    assert_eq!(plan.proposed_adjustments[0].to, 0);
}

/// Hiding a register does not stop QEMU from writing its own value to one that KVM no longer has.
#[test]
fn a_hidden_register_cannot_be_left_out_by_the_user() {
    let there = kvm(&vm(&[&[
        (RegisterId::ID_AA64MMFR3_EL1, 0x11),
        (RegisterId::SCTLR2_EL1, 0),
    ]]));
    let vm = vm(&[&[
        (RegisterId::ID_AA64MMFR3_EL1, 0x1),
        (RegisterId::SCTLR2_EL1, 0),
    ]]);
    let hide = Consents {
        drop_registers: vec![RegisterId::SCTLR2_EL1],
        accept: vec![],
        ..Consents::default()
    };
    let plan = plan(&vm, &there, &hide);
    let decision = plan.vcpus[0]
        .decisions
        .iter()
        .find(|decision| decision.register == RegisterId::SCTLR2_EL1)
        .expect("decided");
    assert_eq!(decision.action, Action::Refuse);
}

/// No list tells that the feature is absent, so nothing says that TCR2_EL1 can go.
#[test]
fn a_feature_is_not_absent_because_nothing_tells_of_it() {
    let there = kvm(&vm(&[&[(RegisterId::SCTLR_EL1, 1)]]));
    let vm = vm(&[&[(RegisterId::SCTLR_EL1, 1), (RegisterId::TCR2_EL1, 2)]]);
    assert_eq!(
        plan(&vm, &there, &Consents::default()).outcome(),
        PlanOutcome::Refused
    );
}
