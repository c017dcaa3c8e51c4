//! Changes that the guest could notice.

use cpreg::destination::{
    AcceptedField, AcceptedFields, AcceptedValues, DestinationRegister, DestinationVcpu,
    DroppedValues, Loader,
};
use cpreg::plan::{Action, Check, Consents, Plan, PlanOutcome, Reason, Verdict};
use cpreg::register::{RegisterId, Value};
use cpreg::severity::{self, GuestState, Severity};
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Vcpu, Vm};

use super::fixtures::{kvm, plan, vcpu, vm};

/// Kernels before v6.4 save neither; there is one change for the timer, and one for the counter.
#[test]
fn losing_an_unsaved_physical_timer_is_visible() {
    let timer = [
        (RegisterId::PTIMER_CNT, 0x1234),
        (RegisterId::PTIMER_CTL, 4),
        (RegisterId::PTIMER_CVAL, 0),
    ];
    let destination = vm(&[&timer]);
    for loader in [Loader::qemu(10, 0), Loader::qemu(11, 1), Loader::CPREG] {
        let mut destination = kvm(&destination);
        destination.loader = Some(loader);
        let old_kernel = vm(&[&[(RegisterId::SCTLR_EL1, 1)], &[(RegisterId::SCTLR_EL1, 1)]]);
        destination.vcpus[0] = DestinationVcpu::from_vcpu(&vcpu(&[
            (RegisterId::SCTLR_EL1, 1),
            timer[0],
            timer[1],
            timer[2],
        ]));
        let plan = plan(&old_kernel, &destination, &Consents::default());
        assert_eq!(plan.outcome(), PlanOutcome::Ready);
        let changes: Vec<_> = plan
            .visible_changes
            .iter()
            .map(|change| (change.register, change.severity, change.vcpus.to_string()))
            .collect();
        assert_eq!(
            changes,
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

/// Returns vCPUs of a kernel before v6.3 and of a later one that list this CLIDR_EL1 and CTR_EL0.
fn caches(clidr: u64, ctr: u64) -> [Vcpu; 2] {
    let mut pairs = vec![(RegisterId::CLIDR_EL1, clidr), (RegisterId::CTR_EL0, ctr)];
    let slot = |slot: u64| RegisterId::from_raw(0x6020_0000_0011_0000 | slot);
    let old_kernel = vcpu(&[&pairs[..], &[(slot(0), 0x701f_e01a)]].concat());
    pairs.extend((0..14).map(|counter_count| (slot(counter_count), 0x701f_e01a)));
    [old_kernel, vcpu(&pairs)]
}

/// Up to v6.2 a guest reads the CPU's own CTR_EL0, which may differ from the listed value.
#[test]
fn a_cache_type_that_was_not_trapped_may_differ() {
    let changes = |from: &Vcpu, to: &Vcpu| {
        let destination = kvm(&Vm {
            vcpus: vec![to.clone()],
            ..Vm::default()
        });
        let vm = Vm {
            vcpus: vec![from.clone()],
            ..Vm::default()
        };
        let plan = plan(&vm, &destination, &Consents::default());
        let mut visible = plan.visible_changes.into_iter();
        visible.any(|change| change.register == Some(RegisterId::CTR_EL0))
    };
    // Neoverse N1: no level of unification, so Linux sets IDC.
    let [old_kernel, new_kernel] = caches(0x8200_0023, 0x9444_c004);
    assert!(changes(&old_kernel, &new_kernel));
    assert!(changes(&new_kernel, &old_kernel));
    assert!(!changes(&old_kernel, &old_kernel));
    assert!(!changes(&new_kernel, &new_kernel));
    // The CPU itself sets IDC, since CLIDR_EL1 does not imply it; and IDC is not set.
    let [old_kernel, new_kernel] = caches(0x0a20_0023, 0x9444_c004);
    assert!(!changes(&old_kernel, &new_kernel));
    let [old_kernel, new_kernel] = caches(0x0a20_0023, 0x8444_c004);
    assert!(!changes(&old_kernel, &new_kernel));
}

/// Kernels since v6.7 accept PMCR_EL0 and keep few of its bits.
#[test]
fn losing_bits_of_pmcr_is_visible() {
    let id = RegisterId::PMCR_EL0;
    let newer = [
        (id, 0x3000),
        (RegisterId::PTIMER_CTL, 0),
        (RegisterId::VENDOR_HYP_BMAP_2, 0),
    ];
    let changes = |pmcr, destination: &[(RegisterId, u64)]| {
        let vm = vm(&[&[(id, pmcr)]]);
        let plan = plan(&vm, &kvm(&self::vm(&[destination])), &Consents::default());
        assert_eq!(plan.outcome(), PlanOutcome::Ready);
        let visible = plan.visible_changes.into_iter();
        visible
            .filter(|change| change.register == Some(id))
            .map(|change| (change.field, change.from, change.to, change.severity))
            .collect::<Vec<_>>()
    };
    let whole_register = |from, to| (None, Some(from), Some(to), Severity::Low);
    let counter_count = (Some("N".into()), Some(8), Some(6), Severity::Medium);
    assert_eq!(changes(0x3001, &newer), []);
    assert_eq!(changes(0x2001, &newer), []);
    assert_eq!(
        changes(0x410c_30ac, &newer),
        [whole_register(0x410c_30ac, 0x30ac)]
    );
    assert_eq!(
        changes(0x410c_4000, &newer),
        [counter_count.clone(), whole_register(0x410c_4000, 0x4000)]
    );
    // Before v6.4 the list has no physical timer, and the kernel keeps all bits.
    assert_eq!(changes(0x410c_4000, &newer[..1]), []);
    assert_eq!(changes(0x4000, &[(id, 0x410c_3000), newer[1]]), []);
    // Between v6.4 and v6.14 the list alone does not show the behaviour.
    assert_eq!(changes(0x4000, &newer[..2]), [counter_count]);
}

/// KVM silently ignores more counters than the host has.
#[test]
fn losing_event_counters_is_visible() {
    // Older kernels, without the physical timer in the list, keep every written bit.
    let pmcr = |counters: u64| {
        [
            (RegisterId::PMCR_EL0, counters << 11),
            (RegisterId::PTIMER_CTL, 0),
        ]
    };
    let destination = kvm(&vm(&[&pmcr(4)]));
    let lost = plan(&vm(&[&pmcr(6)]), &destination, &Consents::default());
    assert!(
        lost.visible_changes
            .iter()
            .any(|change| change.register == Some(RegisterId::PMCR_EL0))
    );
    let kept = plan(&vm(&[&pmcr(4)]), &destination, &Consents::default());
    assert!(kept.visible_changes.is_empty());
}

#[test]
fn unsaved_psci_version_and_services_are_visible() {
    let mut destination = kvm(&vm(&[&[
        (RegisterId::SCTLR_EL1, 1),
        (RegisterId::PSCI_VERSION, 0x1_0001),
    ]]));
    destination.vcpus[0] = DestinationVcpu::new(
        destination.vcpus[0].registers().iter().cloned().chain([
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
        &destination,
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

/// A guest that found a PMU at boot executes UNDEFINED instructions without one.
#[test]
fn removing_the_pmu_is_not_low() {
    let with = 0x1030_5408;
    let without = with & !0xf00;
    assert_eq!(
        severity::rate_change(
            RegisterId::ID_AA64DFR0_EL1,
            with,
            without,
            &GuestState::UNKNOWN
        ),
        Severity::Medium
    );
    let destination = kvm(&vm(&[&[(RegisterId::ID_AA64DFR0_EL1, without)]]));
    let low = Consents {
        accept_up_to: Some(Severity::Low),
        ..Consents::default()
    };
    let plan = plan(
        &vm(&[&[(RegisterId::ID_AA64DFR0_EL1, with)]]),
        &destination,
        &low,
    );
    assert_ne!(plan.outcome(), PlanOutcome::Ready);
    // Versions of the debug architecture differ between kernels on the same CPU.
    assert_eq!(
        severity::rate_change(
            RegisterId::ID_AA64DFR0_EL1,
            0x1030_5408,
            0x1030_5406,
            &GuestState::UNKNOWN
        ),
        Severity::Low
    );
}

/// Linux 7.3 removes S1PIE from a guest without ATS1A, after it accepted all writes.
#[test]
fn features_lost_at_the_first_run_are_visible() {
    let (mmfr3, isar2) = (RegisterId::ID_AA64MMFR3_EL1, RegisterId::ID_AA64ISAR2_EL1);
    let changes = |ats1a: u64, pmmir: bool| {
        let registers = [(mmfr3, 0x111), (isar2, ats1a << 60)];
        let mut listed = registers.to_vec();
        listed.push((RegisterId::PMCR_EL0, 0));
        if pmmir {
            listed.push((RegisterId::PMMIR_EL1, 0));
        }
        let plan = plan(
            &vm(&[&registers]),
            &kvm(&vm(&[&listed])),
            &Consents::default(),
        );
        let visible = plan.visible_changes.iter();
        visible
            .filter(|change| change.register == Some(mmfr3))
            .count()
    };
    assert_eq!(changes(0, true), 1);
    assert_eq!(changes(1, true), 0);
    assert_eq!(changes(0, false), 0);
}

/// Plans at Linux 7.3 with a VM that has S1PIE. The host's CPU has ATS1A, or the VM's value.
fn plan_at_linux_7_3(
    loader: Option<Loader>,
    host_ats1a: u64,
    [ats1a, permissions, tcr2]: [u64; 3],
    consents: &Consents,
) -> Plan {
    let (mmfr3, isar2) = (RegisterId::ID_AA64MMFR3_EL1, RegisterId::ID_AA64ISAR2_EL1);
    let with_ats1a = |ats1a: u64| {
        [
            (mmfr3, 0x111),
            (isar2, ats1a << 60),
            (RegisterId::PIR_EL1, permissions),
            (RegisterId::TCR2_EL1, tcr2),
        ]
    };
    let mut listed = with_ats1a(host_ats1a).to_vec();
    listed.push((RegisterId::PMMIR_EL1, 0));
    let mut host = kvm(&vm(&[&listed]));
    host.loader = loader;
    plan(&vm(&[&with_ats1a(ats1a)]), &host, consents)
}

/// A guest that uses S1PIE would lose its registers on Linux 7.3, unless it has ATS1A.
#[test]
fn a_feature_in_use_is_not_lost_at_the_first_run() {
    let outcome = |guest: [u64; 3]| {
        let loader = Some(Loader::firecracker(1, 16));
        plan_at_linux_7_3(loader, guest[0], guest, &Consents::default()).outcome()
    };
    assert_eq!(outcome([0, 0, 0]), PlanOutcome::Ready);
    assert_eq!(outcome([0, 0x1234, 0]), PlanOutcome::Refused);
    assert_eq!(outcome([0, 0, 2]), PlanOutcome::Refused);
    assert_eq!(outcome([1, 0x1234, 2]), PlanOutcome::Ready);
    // A guest that lost ATS1A on an older kernel gets it back, with the user's consent.
    let low = Consents {
        accept_up_to: Some(Severity::Low),
        ..Consents::default()
    };
    let loader = Some(Loader::qemu(10, 0));
    let plan = |consents: &Consents| plan_at_linux_7_3(loader, 1, [0, 0x1234, 2], consents);
    let refused = plan(&Consents::default());
    assert_eq!(refused.outcome(), PlanOutcome::Refused);
    assert_eq!(refused.outcome_with_proposed, PlanOutcome::Ready);
    assert_eq!(plan(&low).outcome(), PlanOutcome::Ready);
}

/// QEMU fails to read the registers that KVM removes. If the loader is not known, it may be QEMU.
#[test]
fn a_vm_that_may_not_be_saved_again_has_no_verdict_without_the_loader() {
    let verdict = |loader, ats1a: u64| {
        let registers = [
            (RegisterId::ID_AA64MMFR3_EL1, 0x111),
            (RegisterId::ID_AA64ISAR2_EL1, ats1a << 60),
        ];
        let mut listed = registers.to_vec();
        listed.push((RegisterId::PMMIR_EL1, 0));
        let mut host = kvm(&vm(&[&listed]));
        host.loader = loader;
        let (tolerances, consents) = (Tolerances::default(), Consents::default());
        Check::new(&vm(&[&registers]), &host, &tolerances, &consents).verdict
    };
    assert_eq!(verdict(None, 0), Verdict::Unknown);
    assert_ne!(verdict(None, 1), Verdict::Unknown);
    assert_eq!(verdict(Some(Loader::qemu(10, 0)), 0), Verdict::Refused);
    assert_eq!(verdict(Some(Loader::CPREG), 0), Verdict::Loads);
}

/// QEMU fails to read the registers that KVM removes, and can then not save the VM.
#[test]
fn a_vm_that_qemu_cannot_save_again_is_refused() {
    let low = Consents {
        accept_up_to: Some(Severity::Low),
        ..Consents::default()
    };
    for loader in [Loader::qemu(10, 0), Loader::qemu(11, 1)].map(Some) {
        let plan =
            |ats1a, consents: &Consents| plan_at_linux_7_3(loader, 1, [ats1a, 0, 0], consents);
        assert_eq!(plan(1, &Consents::default()).outcome(), PlanOutcome::Ready);
        let refused = plan(0, &Consents::default());
        let mut decisions = refused.vcpus[0].decisions.iter();
        let refusal = decisions.find(|decision| decision.action == Action::Refuse);
        let refusal = refusal.expect("a refusal");
        assert_eq!(refusal.register, RegisterId::ID_AA64MMFR3_EL1);
        assert_eq!(refusal.reason, Reason::RemovedAtFirstRun);
        // With ATS1A, KVM removes nothing.
        assert_eq!(refused.outcome_with_proposed, PlanOutcome::Ready);
        let [proposed] = &refused.proposed_adjustments[..] else {
            panic!("{:?}", refused.proposed_adjustments);
        };
        assert_eq!(
            (proposed.register, proposed.to, proposed.severity),
            (RegisterId::ID_AA64ISAR2_EL1, 1 << 60, Severity::Low)
        );
        assert_eq!(plan(0, &low).outcome(), PlanOutcome::Ready);
    }
}

/// KVM accepts the MPAM field that older kernels showed by mistake, and shows the guest zero.
#[test]
fn replaced_fields_are_visible_and_no_deviation() {
    let pfr0 = RegisterId::ID_AA64PFR0_EL1;
    let mut destination = kvm(&vm(&[&[(pfr0, 0x11)]]));
    let dropped = vec![DroppedValues {
        reads: 0,
        values: 1 << 1,
    }];
    let field = AcceptedField::new(43, 40, 1, dropped).expect("a field");
    let fields = AcceptedFields::new(None, vec![field]).expect("one field");
    destination.vcpus[0] = DestinationVcpu::new(
        [DestinationRegister {
            id: pfr0,
            value: Some(Value::U64(0x11)),
            accepted_values: AcceptedValues::Fields(Box::new(fields)),
        }],
        Vec::new(),
    );
    let source = vm(&[&[(pfr0, 0x11 | 1 << 40)]]);
    let plan = plan(&source, &destination, &Consents::default());
    assert_eq!(plan.outcome(), PlanOutcome::Ready);
    let changes: Vec<_> = plan
        .visible_changes
        .iter()
        .map(|change| {
            (
                change.register,
                change.field.as_deref(),
                change.from,
                change.to,
            )
        })
        .collect();
    assert_eq!(changes, [(Some(pfr0), Some("MPAM"), Some(1), Some(0))]);
    assert!(plan.deviations(&vm(&[&[(pfr0, 0x11)]])).is_empty());
    assert_eq!(plan.deviations(&source).len(), 1);
}
