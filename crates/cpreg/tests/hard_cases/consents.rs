//! Consents: values that the user sets, adjustments that the user accepts, dropped registers.

use cpreg::destination::ValueOrigin;
use cpreg::plan::{Action, Consents, PlanOutcome, Reason, SetConsent, Verdict};
use cpreg::register::RegisterId;

use super::fixtures::{check, kvm, plan, set, vm};

/// The reason in the table of registers is about values of VMs, not about one that the user sets.
/// Setting the value that the VM already has changes nothing.
#[test]
fn a_refused_user_value_has_its_own_reason() {
    let id = RegisterId::PSCI_VERSION;
    let mut destination = kvm(&vm(&[&[(id, 0x1_0003)]]));
    destination.value_origin = ValueOrigin::EmulatedHost;
    let consents = Consents {
        set: vec![set(id, 0x1_0009)],
        ..Consents::default()
    };
    for source in [0x1_0003, 0x1_0001] {
        let plan = plan(&vm(&[&[(id, source)]]), &destination, &consents);
        let decision = &plan.vcpus[0].decisions[0];
        assert_eq!(decision.action, Action::Refuse);
        assert_eq!(decision.reason, Reason::SetNotAccepted);
        assert_eq!(plan.proposed_adjustments, []);
    }
    // The same for a register that only the destination has.
    let without = plan(
        &vm(&[&[(RegisterId::SCTLR_EL1, 0)]]),
        &destination,
        &consents,
    );
    let mut decisions = without.vcpus[0].decisions.iter();
    assert!(
        decisions
            .any(|decision| decision.register == id && decision.reason == Reason::SetNotAccepted)
    );
    // The same if it is not known whether the value is accepted.
    destination.value_origin = ValueOrigin::Guest;
    let undecided = plan(&vm(&[&[(id, 0x1_0003)]]), &destination, &consents);
    assert_eq!(undecided.outcome(), PlanOutcome::Unknown);
    assert_eq!(undecided.proposed_adjustments, []);
}

/// The user may set a register that only the destination has: services of a newer kernel.
#[test]
fn a_register_that_only_the_destination_has_can_be_set() {
    let destination = kvm(&vm(&[&[
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
    let fewer = check(&vm, &destination, &set(RegisterId::VENDOR_HYP_BMAP, 1));
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
    // A value that the user asks for may still be refused by the destination.
    let more = check(&vm, &destination, &set(RegisterId::VENDOR_HYP_BMAP, 0x10));
    assert_eq!(more.verdict, Verdict::Unknown);
}

/// An adjustment does not add services that the VM did not have.
#[test]
fn adjusting_a_bitmap_only_removes_services() {
    let destination = kvm(&vm(&[&[(RegisterId::VENDOR_HYP_BMAP, 1)]]));
    let vm = vm(&[&[(RegisterId::VENDOR_HYP_BMAP, 2)]]);
    let plan = plan(&vm, &destination, &Consents::default());
    assert_eq!(plan.proposed_adjustments.len(), 1);
    assert_eq!(plan.proposed_adjustments[0].to, 0);
}

/// QEMU still writes its own value to a dropped register, even if KVM hides it.
#[test]
fn the_user_cannot_drop_a_hidden_register() {
    let destination = kvm(&vm(&[&[
        (RegisterId::ID_AA64MMFR3_EL1, 0x11),
        (RegisterId::SCTLR2_EL1, 0),
    ]]));
    let vm = vm(&[&[
        (RegisterId::ID_AA64MMFR3_EL1, 0x1),
        (RegisterId::SCTLR2_EL1, 0),
    ]]);
    let consents = Consents {
        drop_registers: vec![RegisterId::SCTLR2_EL1],
        accept: vec![],
        ..Consents::default()
    };
    let plan = plan(&vm, &destination, &consents);
    let decision = plan.vcpus[0]
        .decisions
        .iter()
        .find(|decision| decision.register == RegisterId::SCTLR2_EL1)
        .expect("decided");
    assert_eq!(decision.action, Action::Refuse);
}

/// No list shows that the feature is absent, so TCR2_EL1 cannot be ignored.
#[test]
fn a_feature_without_evidence_is_not_absent() {
    let destination = kvm(&vm(&[&[(RegisterId::SCTLR_EL1, 1)]]));
    let vm = vm(&[&[(RegisterId::SCTLR_EL1, 1), (RegisterId::TCR2_EL1, 2)]]);
    assert_eq!(
        plan(&vm, &destination, &Consents::default()).outcome(),
        PlanOutcome::Refused
    );
}
