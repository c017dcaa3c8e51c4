//! Cases in which a careless decision would lose state, promise too much, or never end.

use cpreg::destination::load;
use cpreg::destination::{Accelerator, Destination, HostVcpu, Knowledge, Loader, ValuesAre};
use cpreg::plan::{Action, Check, Consents, Ignore, Outcome, Plan, Reason, Set, Verdict};
use cpreg::register::{RegisterId, Value};
use cpreg::severity::{self, Severity};
use cpreg::shape::{Device, RamBlock, Shape};
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Content, Extension, Registers, Vcpu, Vm};
use std::time::{Duration, Instant};

fn vcpu(pairs: &[(RegisterId, u64)]) -> Vcpu {
    let pairs = pairs.iter().map(|(id, value)| (*id, Value::Small(*value)));
    Vcpu {
        registers: Registers::from_pairs(pairs).expect("no id twice"),
        extensions: Vec::new(),
    }
}

fn vm(vcpus: &[&[(RegisterId, u64)]]) -> Vm {
    Vm {
        vcpus: vcpus.iter().map(|pairs| vcpu(pairs)).collect(),
    }
}

fn kvm(there: &Vm) -> Destination {
    Destination {
        name: "there".to_owned(),
        accelerator: Some(Accelerator::Kvm),
        loader: Some(Loader::qemu(10, 0)),
        values: ValuesAre::AtReset,
        vcpus: there.vcpus.iter().map(HostVcpu::of).collect(),
        shape: None,
    }
}

fn check(vm: &Vm, destination: &Destination, consents: &Consents) -> Check {
    Check::new(vm, destination, &Tolerances::default(), consents)
}

fn plan(vm: &Vm, destination: &Destination, consents: &Consents) -> Plan {
    check(vm, destination, consents).plan
}

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
    let load = load::play(Loader::qemu(10, 0), &vm, &destination);
    assert_eq!(load.loads, None);
}

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
        Outcome::Refused
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
        Outcome::Refused
    );
}

#[test]
fn vcpus_that_the_user_makes_agree_do() {
    let psci = |version| [(RegisterId::PSCI_VERSION, version)];
    let vm = vm(&[&psci(0x1_0001), &psci(0x1_0000)]);
    let there = kvm(&self::vm(&[&psci(0x1_0001)]));
    assert_eq!(
        plan(&vm, &there, &Consents::default()).outcome(),
        Outcome::Refused
    );
    let consents = Consents {
        set: vec![set(RegisterId::PSCI_VERSION, 0x1_0000)],
        ..Consents::default()
    };
    assert_eq!(plan(&vm, &there, &consents).outcome(), Outcome::Ready);
}

fn set(register: RegisterId, value: u64) -> Set {
    Set {
        register,
        mask: u64::MAX,
        value,
    }
}

/// The table's reason is about what VMs hold, and the VM's own value is nothing that it could be changed to.
#[test]
fn a_value_that_the_user_set_and_that_is_not_taken_is_said_to_be_that() {
    let id = RegisterId::PSCI_VERSION;
    let mut there = kvm(&vm(&[&[(id, 0x1_0003)]]));
    there.values = ValuesAre::OfAnEmulatedHost;
    let consents = Consents {
        set: vec![set(id, 0x1_0009)],
        ..Consents::default()
    };
    for held in [0x1_0003, 0x1_0001] {
        let plan = plan(&vm(&[&[(id, held)]]), &there, &consents);
        let decision = &plan.vcpus[0].decisions[0];
        assert_eq!(decision.action, Action::Refuse);
        assert_eq!(decision.reason, Reason::SetNotTaken);
        assert_eq!(plan.proposed, []);
    }
    // Where only the destination has it, too.
    let without = plan(&vm(&[&[(RegisterId::SCTLR_EL1, 0)]]), &there, &consents);
    let mut decisions = without.vcpus[0].decisions.iter();
    assert!(decisions.any(|it| it.register == id && it.reason == Reason::SetNotTaken));
    // Where nothing tells whether it is taken, the VM's own value is no change either.
    there.values = ValuesAre::OfAGuest;
    let undecided = plan(&vm(&[&[(id, 0x1_0003)]]), &there, &consents);
    assert_eq!(undecided.outcome(), Outcome::Unknown);
    assert_eq!(undecided.proposed, []);
}

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
        destination.vcpus[0] = HostVcpu::of(&vcpu(&[
            (RegisterId::SCTLR_EL1, 1),
            timer[0],
            timer[1],
            timer[2],
        ]));
        let plan = plan(&old, &destination, &Consents::default());
        assert_eq!(plan.outcome(), Outcome::Ready);
        let told: Vec<_> = plan
            .visible
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
        assert!(plan.visible[1].what.contains("CNTP_CVAL_EL0"));
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
        let mut visible = plan.visible.into_iter();
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
        assert_eq!(plan.outcome(), Outcome::Ready);
        let visible = plan.visible.into_iter();
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
    assert_eq!(refused.outcome(), Outcome::Refused);
    assert_eq!(
        refused.vcpus[1].decisions[0].reason,
        Reason::FieldDisagreement("N")
    );
    let consents = Consents {
        set: vec![Set {
            register: id,
            mask: 0x1f << 11,
            value: 0x2000,
        }],
        ..Consents::default()
    };
    assert_eq!(plan(&vm, &there, &consents).outcome(), Outcome::Ready);
    // The controls are each vCPU's own, and an older kernel has them hold all.
    let controls = self::vm(&[&[(id, 0x3001)], &[(id, 0x3000)]]);
    assert_eq!(
        plan(&controls, &there, &Consents::default()).outcome(),
        Outcome::Ready
    );
    let older = kvm(&self::vm(&[&newer[..1]]));
    assert_eq!(
        plan(&vm, &older, &Consents::default()).outcome(),
        Outcome::Ready
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
        set: vec![Set {
            register,
            mask: u64::MAX,
            value,
        }],
        ..Consents::default()
    };
    let fewer = check(&vm, &there, &set(RegisterId::VENDOR_HYP_BMAP, 1));
    assert_eq!(fewer.verdict, Verdict::Converts);
    let result = fewer.plan.result(&vm);
    assert_eq!(
        result.vcpus[0]
            .registers
            .get_u64(RegisterId::VENDOR_HYP_BMAP),
        Some(1)
    );
    assert!(fewer.plan.visible.iter().any(|change| change.register
        == Some(RegisterId::VENDOR_HYP_BMAP)
        && change.to == Some(1)));
    // What the destination is not known to take does not become takeable by being asked for.
    let more = check(&vm, &there, &set(RegisterId::VENDOR_HYP_BMAP, 0x10));
    assert_eq!(more.verdict, Verdict::Unknown);
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
        lost.visible
            .iter()
            .any(|change| change.register == Some(RegisterId::PMCR_EL0))
    );
    let kept = plan(&vm(&[&pmcr(4)]), &there, &Consents::default());
    assert!(kept.visible.is_empty());
}

#[test]
fn a_psci_version_and_services_out_of_nowhere_are_visible() {
    let mut there = kvm(&vm(&[&[
        (RegisterId::SCTLR_EL1, 1),
        (RegisterId::PSCI_VERSION, 0x1_0001),
    ]]));
    there.vcpus[0] = HostVcpu::new(
        there.vcpus[0]
            .registers()
            .iter()
            .cloned()
            .chain([cpreg::destination::HostRegister {
                id: RegisterId::STD_BMAP,
                value: None,
                accepts: cpreg::destination::Accepts::ByKind,
            }]),
        Vec::new(),
    );
    let plan = plan(
        &vm(&[&[(RegisterId::SCTLR_EL1, 1)]]),
        &there,
        &Consents::default(),
    );
    for id in [RegisterId::PSCI_VERSION, RegisterId::STD_BMAP] {
        assert!(
            plan.visible
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
        severity::of_change(RegisterId::ID_AA64DFR0_EL1, with, without),
        Severity::Medium
    );
    let there = kvm(&vm(&[&[(RegisterId::ID_AA64DFR0_EL1, without)]]));
    let low = Consents {
        accept_up_to: Some(Severity::Low),
        ..Consents::default()
    };
    let plan = plan(&vm(&[&[(RegisterId::ID_AA64DFR0_EL1, with)]]), &there, &low);
    assert_ne!(plan.outcome(), Outcome::Ready);
    // Versions of the debug architecture differ between kernels on the same CPU.
    assert_eq!(
        severity::of_change(RegisterId::ID_AA64DFR0_EL1, 0x1030_5408, 0x1030_5406),
        Severity::Low
    );
}

/// No list tells that the feature is absent, so nothing says that TCR2_EL1 can go.
#[test]
fn a_feature_is_not_absent_because_nothing_tells_of_it() {
    let there = kvm(&vm(&[&[(RegisterId::SCTLR_EL1, 1)]]));
    let vm = vm(&[&[(RegisterId::SCTLR_EL1, 1), (RegisterId::TCR2_EL1, 2)]]);
    assert_eq!(
        plan(&vm, &there, &Consents::default()).outcome(),
        Outcome::Refused
    );
}

/// Services that the VM had not got are not given to it to make it fit.
#[test]
fn adjusting_a_bitmap_only_takes_services_away() {
    let there = kvm(&vm(&[&[(RegisterId::VENDOR_HYP_BMAP, 1)]]));
    let vm = vm(&[&[(RegisterId::VENDOR_HYP_BMAP, 2)]]);
    let plan = plan(&vm, &there, &Consents::default());
    assert_eq!(plan.proposed.len(), 1);
    assert_eq!(plan.proposed[0].to, 0);
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
        hide: vec![RegisterId::SCTLR2_EL1],
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

/// Only 5.2, 7.2, 10.0 and 11.1 were seen loading.
#[test]
fn nothing_is_proven_about_a_loader_that_was_never_tried() {
    let vm = vm(&[&[(RegisterId::SCTLR_EL1, 1)]]);
    let there = kvm(&vm);
    let knowledge = |major, minor| load::play(Loader::qemu(major, minor), &vm, &there).knowledge;
    assert_eq!(knowledge(10, 0), Knowledge::Proven);
    for (major, minor) in [(8, 2), (9, 1), (10, 1), (10, 2), (11, 0), (12, 0)] {
        assert_eq!(
            knowledge(major, minor),
            Knowledge::Inferred,
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
        Outcome::Refused
    );
}

/// Each of many vCPUs differs from all others in everything.
#[test]
fn many_vcpus_that_agree_on_nothing_take_no_more_than_linear_time() {
    let ids: Vec<_> = (0..8)
        .flat_map(|op1| (0..16).flat_map(move |crm| (0..8).map(move |op2| (op1, crm, op2))))
        .map(|(op1, crm, op2)| RegisterId::sysreg(3, op1, 15, crm, op2))
        .collect();
    let of = |number: u64| -> Vec<_> { ids.iter().map(|id| (*id, number)).collect() };
    let there = vm(&[&of(0)]);
    let mut destination = kvm(&there);
    destination.accelerator = Some(Accelerator::Tcg);
    let vcpus: Vec<_> = (1..=64).map(of).collect();
    let vm = Vm {
        vcpus: vcpus.iter().map(|pairs| vcpu(pairs)).collect(),
    };
    let start = Instant::now();
    let all = Consents {
        accept_up_to: Some(Severity::High),
        ignore: vec![Ignore {
            register: ids[0],
            only_if: None,
        }],
        ..Consents::default()
    };
    let plan = plan(&vm, &destination, &all);
    assert_eq!(plan.decisions().len(), 64 * ids.len());
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn many_devices_and_blocks_take_no_more_than_linear_time() {
    let shape = Shape {
        ram: (0..100_000)
            .map(|number| RamBlock {
                name: format!("block{number}"),
                length: 1,
            })
            .collect(),
        devices: (0..100_000)
            .map(|number| Device {
                name: format!("device{number}"),
                instance: 0,
                version: 1,
            })
            .collect(),
        ..Shape::default()
    };
    let start = Instant::now();
    assert_eq!(shape.differences(&shape.clone()), []);
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
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
    assert!(load::could_be(Loader::qemu(10, 0), &there));
    assert!(!load::could_be(Loader::qemu(11, 1), &there));
}

/// That no guest can change a register is concluded from its kind, not seen.
#[test]
fn a_constant_that_a_guest_left_behind_is_no_proven_reset_value() {
    let constant = RegisterId::ID_AA64MMFR0_EL1;
    let mut there = kvm(&vm(&[&[(constant, 0x1122)]]));
    there.accelerator = Some(Accelerator::Tcg);
    let knowledge = |there: &Destination| {
        plan(&vm(&[&[]]), there, &Consents::default()).vcpus[0].decisions[0].knowledge
    };
    assert_eq!(knowledge(&there), Knowledge::Proven);
    there.values = ValuesAre::OfAGuest;
    assert_eq!(knowledge(&there), Knowledge::Inferred);
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
    assert_eq!(plan.knowledge(), Knowledge::Inferred);
    plan.was_carried_out();
    assert_eq!(plan.knowledge(), Knowledge::Proven);
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
        let visible = plan.visible.iter();
        visible.filter(|it| it.register == Some(mmfr3)).count()
    };
    assert_eq!(told(0, true), 1);
    assert_eq!(told(1, true), 0);
    assert_eq!(told(0, false), 0);
}
