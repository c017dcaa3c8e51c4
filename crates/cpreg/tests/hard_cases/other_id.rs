//! Registers that the VM and the destination list under different ids, in lists of QEMU under HVF
//! that were made up from QEMU's source.

use cpreg::destination::{Accelerator, Destination, DestinationVcpu, Loader};
use cpreg::plan::{Action, Check, Consents, Decision, PlanOutcome, Reason, Verdict};
use cpreg::register::{RegisterId, Value};
use cpreg::vm::{Content, Extension, Vm};

use super::fixtures::{check, kvm, set, vm};

const WRONG: RegisterId = RegisterId::ID_AA64PFR2_EL1;
const RIGHT: RegisterId = RegisterId::ID_AA64PFR1_EL1;
const VALUE: u64 = 0x21;

/// Returns a VM of HVF with these registers.
fn hvf_vm(id_registers: &[(RegisterId, u64)]) -> Vm {
    let others = [
        (RegisterId::sysreg(2, 0, 0, 2, 2), 0),
        (RegisterId::SCTLR_EL1, 1),
        (RegisterId::sysreg(3, 0, 4, 0, 0), 0),
        (RegisterId::sysreg(3, 0, 4, 0, 1), 0),
        (RegisterId::sysreg(3, 0, 4, 1, 0), 0),
        (RegisterId::sysreg(3, 4, 4, 1, 0), 0),
    ];
    vm(&[&[id_registers, &others].concat()])
}

fn hvf(host: &Vm) -> Destination {
    Destination {
        accelerator: Some(Accelerator::Hvf),
        ..kvm(host)
    }
}

fn decision(check: &Check, id: RegisterId) -> &Decision {
    let decisions = &check.plan.vcpus[0].decisions;
    decisions.find(id).expect("a decision")
}

/// Checks with and without the plan, and compares the converted VM.
fn assert_renamed(from: RegisterId, to: RegisterId) {
    let (source, host) = (hvf_vm(&[(from, VALUE)]), hvf_vm(&[(to, VALUE)]));
    let destination = hvf(&host);
    let check = check(&source, &destination, &Consents::default());
    assert_eq!(check.verdict, Verdict::Converts, "{:?}", check.plan);
    assert_eq!(check.loaders[0].load.loads, Some(false));
    let listed_as = decision(&check, from);
    assert_eq!(listed_as.action, Action::Ignore);
    assert!(matches!(listed_as.reason, Reason::ListedAs(_, id) if id == to));
    let recorded_under = decision(&check, to);
    assert_eq!(recorded_under.action, Action::Set(Value::U64(VALUE)));
    assert!(matches!(recorded_under.reason, Reason::RecordedUnder(_, id) if id == from));
    assert!(check.plan.visible_changes.is_empty());
    assert_eq!(check.plan.apply(&source), host);
}

#[test]
fn the_register_gets_the_destinations_id_in_both_directions() {
    assert_renamed(WRONG, RIGHT);
    assert_renamed(RIGHT, WRONG);
}

/// QEMU before the correction gave the guest 0, and compares the value with its own.
#[test]
fn another_value_needs_a_consent_under_the_destinations_id() {
    let (source, host) = (hvf_vm(&[(WRONG, 0)]), hvf_vm(&[(RIGHT, VALUE)]));
    let destination = hvf(&host);
    let refused = check(&source, &destination, &Consents::default());
    assert_eq!(refused.verdict, Verdict::Refused);
    let proposed = &refused.plan.proposed_adjustments;
    assert_eq!(proposed.len(), 1, "{proposed:?}");
    assert_eq!((proposed[0].register, proposed[0].to), (RIGHT, VALUE));
    let consents = Consents {
        accept: vec![RIGHT],
        ..Consents::default()
    };
    let accepted = check(&source, &destination, &consents);
    assert_eq!(accepted.verdict, Verdict::Converts, "{:?}", accepted.plan);
    assert_eq!(accepted.plan.apply(&source), host);
    let consents = Consents {
        set: vec![set(RIGHT, VALUE)],
        ..Consents::default()
    };
    let verdict = check(&source, &destination, &consents).verdict;
    assert_eq!(verdict, Verdict::Converts);
}

/// The id is that of a real register too. In a list with both ids, each means itself.
#[test]
fn a_list_with_both_ids_uses_both() {
    let both = hvf_vm(&[(RIGHT, VALUE), (WRONG, 7)]);
    let destination = hvf(&both);
    let same = check(&both, &destination, &Consents::default());
    assert_eq!(same.verdict, Verdict::Loads);

    // The destination's own ID_AA64PFR2_EL1 does not get the value of ID_AA64PFR1_EL1.
    let old = hvf_vm(&[(WRONG, VALUE)]);
    let check_of_old = check(&old, &destination, &Consents::default());
    assert_eq!(check_of_old.verdict, Verdict::Converts);
    let converted = check_of_old.plan.apply(&old);
    let value = |id| converted.vcpus[0].registers.get_u64(id);
    assert_eq!((value(RIGHT), value(WRONG)), (Some(VALUE), Some(7)));

    // A destination with the wrong id only has no place for ID_AA64PFR2_EL1.
    let destination = hvf(&hvf_vm(&[(WRONG, VALUE)]));
    let conflict = check(&both, &destination, &Consents::default());
    assert_eq!(conflict.verdict, Verdict::Refused);
    let reason = &decision(&conflict, RIGHT).reason;
    assert_eq!(*reason, Reason::OtherValueUnder(WRONG));
    let equal = hvf_vm(&[(RIGHT, VALUE), (WRONG, VALUE)]);
    let equal_check = check(&equal, &destination, &Consents::default());
    assert_eq!(equal_check.verdict, Verdict::Converts);
    assert_eq!(decision(&equal_check, RIGHT).action, Action::Ignore);
}

/// Under KVM the id is that of ID_AA64PFR2_EL1.
#[test]
fn the_rule_needs_proof_of_hvf_on_both_sides() {
    let (source, host) = (hvf_vm(&[(WRONG, VALUE)]), hvf_vm(&[(RIGHT, VALUE)]));
    let under = |accelerator| Destination {
        accelerator,
        ..kvm(&host)
    };
    let check_of = |vm: &Vm, accelerator| check(vm, &under(accelerator), &Consents::default());
    let kvm_check = check_of(&source, Some(Accelerator::Kvm));
    assert_eq!(decision(&kvm_check, WRONG).reason, Reason::SourceOnly);

    let unknown = check_of(&source, None);
    assert_eq!(unknown.verdict, Verdict::Unknown);
    assert_eq!(unknown.plan.outcome(), PlanOutcome::Unknown);

    // An edited list does not prove which program wrote it.
    let mut edited = source.clone();
    edited.vcpus[0]
        .registers
        .remove(RegisterId::sysreg(3, 4, 4, 1, 0));
    let unproven = check_of(&edited, Some(Accelerator::Hvf));
    assert_eq!(unproven.verdict, Verdict::Unknown);
    let reason = &decision(&unproven, WRONG).reason;
    assert!(matches!(reason, Reason::PerhapsListedAs(_, id) if *id == RIGHT));
}

#[test]
fn the_users_decision_comes_first() {
    let (source, host) = (hvf_vm(&[(WRONG, VALUE)]), hvf_vm(&[(RIGHT, VALUE)]));
    let consents = Consents {
        drop_registers: vec![WRONG],
        ..Consents::default()
    };
    let check = check(&source, &hvf(&host), &consents);
    assert_eq!(decision(&check, WRONG).reason, Reason::UserDrops);
}

/// QEMU up to 10.1 lists MDSCR_EL1 out of order, and loads only a list in that order.
#[test]
fn the_list_gets_the_destinations_order() {
    let order = || Extension {
        name: Extension::HVF_ORDER.into(),
        content: Content::Number(1),
    };
    let sorted = hvf_vm(&[(RIGHT, VALUE)]);
    let mut unsorted = sorted.clone();
    unsorted.vcpus[0].extensions.push(order());
    for (source, host) in [(&sorted, &unsorted), (&unsorted, &sorted)] {
        let mut destination = hvf(host);
        destination.vcpus = host.vcpus.iter().map(DestinationVcpu::from_vcpu).collect();
        destination.loader = Some(Loader::qemu(10, 0));
        let check_of = |vm: &Vm| check(vm, &destination, &Consents::default());
        assert_eq!(check_of(host).verdict, Verdict::Loads);
        let converted = check_of(source);
        assert_eq!(converted.verdict, Verdict::Converts);
        assert_eq!(converted.loaders[0].load.loads, Some(false));
        assert_eq!(converted.plan.apply(source), *host);
    }
}
