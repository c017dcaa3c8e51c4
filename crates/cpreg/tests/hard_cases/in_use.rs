//! State that the guest has in use and the destination lacks.

use std::borrow::Cow;

use cpreg::destination::{Accelerator, DestinationVcpu, Loader};
use cpreg::plan::{
    Action, Consents, ExtensionAction, IncrementalPlan, Reason, SetConsent, Verdict,
};
use cpreg::register::RegisterId;
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Content, Extension, Vm};

use super::fixtures::{check, kvm, vm};

/// Returns a VM whose vCPU has a timer for WFIT with this expiry.
fn with_timer(expiry: u64) -> Vm {
    let mut vm = vm(&[&[(RegisterId::SCTLR_EL1, 1)]]);
    vm.vcpus[0].extensions.push(Extension {
        name: Cow::Borrowed(Extension::WFXT_TIMER),
        content: Content::Number(expiry),
    });
    vm
}

/// The architecture lets WFIT and WFET return at any time.
#[test]
fn a_vcpu_whose_timer_is_lost_is_woken() {
    let mut destination = kvm(&vm(&[&[(RegisterId::SCTLR_EL1, 0)]]));
    destination.accelerator = Some(Accelerator::Tcg);
    let source = with_timer(1000);
    for loader in [Loader::qemu(7, 2), Loader::qemu(10, 0)] {
        destination.loader = Some(loader);
        for drop in [Vec::new(), vec![Extension::WFXT_TIMER.to_owned()]] {
            let consents = Consents {
                drop_extensions: drop,
                ..Consents::default()
            };
            let check = check(&source, &destination, &consents);
            assert_eq!(check.verdict, Verdict::Converts, "{loader}");
            let planned = check.plan.apply(&source);
            assert_eq!(planned.vcpus[0].is_halted, Some(false));
            assert!(planned.vcpus[0].extensions.is_empty());
            // The relay must not send the vCPU before the section that wakes it is changed.
            let tolerances = Tolerances::default();
            let mut early = IncrementalPlan::new(&destination, &tolerances, &consents);
            assert_eq!(early.add(&source.vcpus[0]), None);
        }
        let idle = with_timer(u64::MAX);
        let idle_plan = check(&idle, &destination, &Consents::default()).plan;
        assert_eq!(idle_plan.apply(&idle).vcpus[0].is_halted, None);
    }
    // QEMU 11.1 has the timer for every CPU.
    destination.loader = Some(Loader::qemu(11, 1));
    let plan = check(&source, &destination, &Consents::default()).plan;
    assert_eq!(plan.vcpus[0].extensions[0].action, ExtensionAction::Copy);
}

const FIFTH_COUNTER: (RegisterId, u64) = (RegisterId::PMCNTENSET_EL0, 1 << 4);

fn pmcr(count: u64) -> (RegisterId, u64) {
    (RegisterId::PMCR_EL0, count << 11)
}

#[test]
fn a_counter_in_use_is_not_taken_from_the_guest() {
    let timer = (RegisterId::PTIMER_CTL, 0);
    let mask = (RegisterId::VENDOR_HYP_BMAP_2, 0);
    let host = vm(&[&[pmcr(4), (RegisterId::PMCNTENSET_EL0, 0), timer, mask]]);
    let destination = kvm(&host);
    let guest = |enabled| vm(&[&[pmcr(6), (FIFTH_COUNTER.0, enabled), timer, mask]]);
    let idle = check(&guest(0b1111), &destination, &Consents::default());
    assert_eq!(idle.verdict, Verdict::Loads);
    let source = guest(FIFTH_COUNTER.1);
    let check_with = |consents: &Consents| check(&source, &destination, consents);
    let refused = check_with(&Consents::default());
    assert_eq!(refused.verdict, Verdict::Refused);
    assert_eq!(refused.plan.proposed_adjustments, []);
    let mut decisions = refused.plan.vcpus[0].decisions.iter();
    let decision = decisions.find(|decision| decision.action == Action::Refuse);
    let decision = decision.expect("a reason to refuse");
    assert!(matches!(decision.reason, Reason::CounterInUse(lost) if lost.counter == 4));
    let text = decision.reason.display(&Tolerances::default()).to_string();
    assert!(
        text.contains("4 event counters") && text.contains("counter 4"),
        "{text}"
    );
    let blanket = Consents {
        accept_up_to: Some(cpreg::severity::Severity::Medium),
        ..Consents::default()
    };
    assert_eq!(check_with(&blanket).verdict, Verdict::Refused);
    let set = Consents {
        set: vec![SetConsent {
            register: RegisterId::PMCR_EL0,
            mask: 0x1f << 11,
            value: 4 << 11,
        }],
        ..Consents::default()
    };
    assert_eq!(check_with(&set).verdict, Verdict::Converts);
    // The number of counters is that of the host, whatever the loader is.
    let same = DestinationVcpu::from_vcpu(&vm(&[&[pmcr(6), timer, mask, FIFTH_COUNTER]]).vcpus[0]);
    let mut bigger = destination.clone();
    bigger.vcpus = vec![same];
    assert_eq!(
        check(&source, &bigger, &Consents::default()).verdict,
        Verdict::Loads
    );
}
