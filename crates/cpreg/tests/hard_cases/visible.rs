//! What the guest could notice.

use cpreg::destination::{DestinationVcpu, Loader};
use cpreg::plan::{Consents, PlanOutcome};
use cpreg::register::RegisterId;
use cpreg::severity::{self, Severity};
use cpreg::vm::{Vcpu, Vm};

use super::fixtures::{kvm, plan, vcpu, vm};

/// What kernels before v6.4 do not save; said once for the timer, and once for the counter.
#[test]
fn a_physical_timer_that_was_not_saved_is_lost_and_that_is_said() {
    let timer = [
        (RegisterId::PTIMER_CNT, 0x1234),
        (RegisterId::PTIMER_CTL, 4),
        (RegisterId::PTIMER_CVAL, 0),
    ];
    let there = vm(&[&timer]);
    for loader in [Loader::qemu(10, 0), Loader::qemu(11, 1), Loader::CPREG] {
        let mut destination = kvm(&there);
        destination.loader = Some(loader);
        let old = vm(&[&[(RegisterId::SCTLR_EL1, 1)], &[(RegisterId::SCTLR_EL1, 1)]]);
        destination.vcpus[0] = DestinationVcpu::from_vcpu(&vcpu(&[
            (RegisterId::SCTLR_EL1, 1),
            timer[0],
            timer[1],
            timer[2],
        ]));
        let plan = plan(&old, &destination, &Consents::default());
        assert_eq!(plan.outcome(), PlanOutcome::Ready);
        let told: Vec<_> = plan
            .visible_changes
            .iter()
            .map(|it| (it.register, it.severity, it.vcpus.to_string()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    Some(RegisterId::PTIMER_CNT),
                    Severity::High,
                    "0-1".to_owned()
                ),
                (
                    Some(RegisterId::PTIMER_CTL),
                    Severity::High,
                    "0-1".to_owned()
                ),
            ]
        );
        assert!(
            plan.visible_changes[1]
                .description
                .contains("CNTP_CVAL_EL0")
        );
    }
}

/// A kernel before v6.3 that lists this CLIDR_EL1 and CTR_EL0, and a later one.
fn caches(clidr: u64, ctr: u64) -> [Vcpu; 2] {
    let mut pairs = vec![(RegisterId::CLIDR_EL1, clidr), (RegisterId::CTR_EL0, ctr)];
    let slot = |slot: u64| RegisterId::from_raw(0x6020_0000_0011_0000 | slot);
    let old = vcpu(&[&pairs[..], &[(slot(0), 0x701f_e01a)]].concat());
    pairs.extend((0..14).map(|number| (slot(number), 0x701f_e01a)));
    [old, vcpu(&pairs)]
}

/// A guest reads the CPU's own CTR_EL0 up to v6.2, whatever is listed.
#[test]
fn a_cache_type_that_was_not_trapped_may_be_another() {
    let told = |from: &Vcpu, to: &Vcpu| {
        let there = kvm(&Vm {
            vcpus: vec![to.clone()],
        });
        let vm = Vm {
            vcpus: vec![from.clone()],
        };
        let plan = plan(&vm, &there, &Consents::default());
        let mut visible = plan.visible_changes.into_iter();
        visible.any(|it| it.register == Some(RegisterId::CTR_EL0))
    };
    // Neoverse N1: no level of unification, and IDC is Linux's word.
    let [old, new] = caches(0x8200_0023, 0x9444_c004);
    assert!(told(&old, &new));
    assert!(told(&new, &old));
    assert!(!told(&old, &old));
    assert!(!told(&new, &new));
    // The CPU's own word, since CLIDR_EL1 does not say so; and no word at all.
    let [old, new] = caches(0x0a20_0023, 0x9444_c004);
    assert!(!told(&old, &new));
    let [old, new] = caches(0x0a20_0023, 0x8444_c004);
    assert!(!told(&old, &new));
}

/// Kernels since v6.7 take PMCR_EL0 and keep little of it.
#[test]
fn what_kvm_drops_of_the_monitors_control_is_foretold() {
    let id = RegisterId::PMCR_EL0;
    let newer = [
        (id, 0x3000),
        (RegisterId::PTIMER_CTL, 0),
        (RegisterId::VENDOR_HYP_BMAP_2, 0),
    ];
    let told = |pmcr, there: &[(RegisterId, u64)]| {
        let vm = vm(&[&[(id, pmcr)]]);
        let plan = plan(&vm, &kvm(&self::vm(&[there])), &Consents::default());
        assert_eq!(plan.outcome(), PlanOutcome::Ready);
        let visible = plan.visible_changes.into_iter();
        visible
            .filter(|it| it.register == Some(id))
            .map(|it| (it.field, it.from, it.to, it.severity))
            .collect::<Vec<_>>()
    };
    let whole = |from, to| (None, Some(from), Some(to), Severity::Low);
    let number = (Some("N".into()), Some(8), Some(6), Severity::Medium);
    assert_eq!(told(0x3001, &newer), []);
    assert_eq!(told(0x2001, &newer), []);
    assert_eq!(told(0x410c_30ac, &newer), [whole(0x410c_30ac, 0x30ac)]);
    assert_eq!(
        told(0x410c_4000, &newer),
        [number.clone(), whole(0x410c_4000, 0x4000)]
    );
    // Before v6.4 there is no physical timer in the list, and all of it is held.
    assert_eq!(told(0x410c_4000, &newer[..1]), []);
    assert_eq!(told(0x4000, &[(id, 0x410c_3000), newer[1]]), []);
    // Between v6.4 and v6.14 the list alone does not tell.
    assert_eq!(told(0x4000, &newer[..2]), [number]);
}

/// KVM ignores more counters than the host has without a word.
#[test]
fn losing_event_counters_is_visible() {
    // Older kernels, without the physical timer in the list, hold whatever is written.
    let pmcr = |counters: u64| {
        [
            (RegisterId::PMCR_EL0, counters << 11),
            (RegisterId::PTIMER_CTL, 0),
        ]
    };
    let there = kvm(&vm(&[&pmcr(4)]));
    let lost = plan(&vm(&[&pmcr(6)]), &there, &Consents::default());
    assert!(
        lost.visible_changes
            .iter()
            .any(|change| change.register == Some(RegisterId::PMCR_EL0))
    );
    let kept = plan(&vm(&[&pmcr(4)]), &there, &Consents::default());
    assert!(kept.visible_changes.is_empty());
}

#[test]
fn a_psci_version_and_services_out_of_nowhere_are_visible() {
    let mut there = kvm(&vm(&[&[
        (RegisterId::SCTLR_EL1, 1),
        (RegisterId::PSCI_VERSION, 0x1_0001),
    ]]));
    there.vcpus[0] = DestinationVcpu::new(
        there.vcpus[0].registers().iter().cloned().chain([
            cpreg::destination::DestinationRegister {
                id: RegisterId::STD_BMAP,
                value: None,
                accepted_values: cpreg::destination::AcceptedValues::ByKind,
            },
        ]),
        Vec::new(),
    );
    let plan = plan(
        &vm(&[&[(RegisterId::SCTLR_EL1, 1)]]),
        &there,
        &Consents::default(),
    );
    for id in [RegisterId::PSCI_VERSION, RegisterId::STD_BMAP] {
        assert!(
            plan.visible_changes
                .iter()
                .any(|change| change.register == Some(id)),
            "{id}"
        );
    }
}

/// A guest that found a PMU when it started runs into undefined instructions without one.
#[test]
fn taking_the_pmu_away_is_not_low() {
    let with = 0x1030_5408;
    let without = with & !0xf00;
    assert_eq!(
        severity::rate_change(RegisterId::ID_AA64DFR0_EL1, with, without),
        Severity::Medium
    );
    let there = kvm(&vm(&[&[(RegisterId::ID_AA64DFR0_EL1, without)]]));
    let low = Consents {
        accept_up_to: Some(Severity::Low),
        ..Consents::default()
    };
    let plan = plan(&vm(&[&[(RegisterId::ID_AA64DFR0_EL1, with)]]), &there, &low);
    assert_ne!(plan.outcome(), PlanOutcome::Ready);
    // Versions of the debug architecture differ between kernels on the same CPU.
    assert_eq!(
        severity::rate_change(RegisterId::ID_AA64DFR0_EL1, 0x1030_5408, 0x1030_5406),
        Severity::Low
    );
}

/// Linux 7.3 takes S1PIE from a guest without ATS1A, after all was taken.
#[test]
fn what_kvm_takes_away_at_the_first_run_is_told() {
    let (mmfr3, isar2) = (RegisterId::ID_AA64MMFR3_EL1, RegisterId::ID_AA64ISAR2_EL1);
    let told = |ats1a: u64, pmmir: bool| {
        let held = [(mmfr3, 0x111), (isar2, ats1a << 60)];
        let mut listed = held.to_vec();
        listed.push((RegisterId::PMCR_EL0, 0));
        if pmmir {
            listed.push((RegisterId::PMMIR_EL1, 0));
        }
        let plan = plan(&vm(&[&held]), &kvm(&vm(&[&listed])), &Consents::default());
        let visible = plan.visible_changes.iter();
        visible.filter(|it| it.register == Some(mmfr3)).count()
    };
    assert_eq!(told(0, true), 1);
    assert_eq!(told(1, true), 0);
    assert_eq!(told(0, false), 0);
}
