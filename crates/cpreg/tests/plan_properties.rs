//! Properties of every plan, with any registers.

use std::path::Path;

use cpreg::destination::accept::tcg;
use cpreg::destination::load::{self, IncomingVcpu};
use cpreg::destination::{
    Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu, Loader,
    ValueOrigin,
};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{
    Action, Check, Consents, IgnoreConsent, IncrementalPlan, Plan, PlanOutcome, Verdict,
};
use cpreg::register::{RegisterId, Value};
use cpreg::severity::Severity;
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};
use proptest::prelude::*;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name);
    std::fs::read_to_string(path).expect("the fixture is checked in")
}

/// Returns every id that was ever observed on a real host.
fn observed_ids() -> Vec<RegisterId> {
    let text = fixture("ids/seen-ids.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let digits = line.split(' ').next().expect("a line begins with an id");
            RegisterId::from_raw(u64::from_str_radix(digits, 16).expect("hexadecimal"))
        })
        .collect()
}

/// Returns a recorded vCPU. Each line is `id size value`, as read with `KVM_GET_REG_LIST` and
/// `KVM_GET_ONE_REG`.
fn recorded_host(name: &str) -> Vcpu {
    let text = fixture(name);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        let id = u64::from_str_radix(words[0], 16).expect("hexadecimal");
        let size: usize = words[1].parse().expect("decimal");
        let digits = words[2].strip_prefix("0x").unwrap_or(words[2]);
        let value = if size <= 8 {
            Value::U64(u64::from_str_radix(digits, 16).expect("hexadecimal"))
        } else {
            let digits = format!("{digits:0>width$}", width = 2 * size);
            let bytes = (0..size).map(|index| {
                let end = digits.len() - 2 * index;
                u8::from_str_radix(&digits[end - 2..end], 16).expect("hexadecimal")
            });
            Value::Bytes(bytes.collect())
        };
        (RegisterId::from_raw(id), value)
    });
    Vcpu {
        registers: Registers::from_pairs(pairs).expect("no id twice"),
        ..Vcpu::default()
    }
}

fn destination(accelerator: Accelerator, value_origin: ValueOrigin, vcpus: &[Vcpu]) -> Destination {
    Destination {
        name: "destination".to_owned(),
        accelerator: Some(accelerator),
        loader: None,
        value_origin,
        vcpus: vcpus.iter().map(DestinationVcpu::from_vcpu).collect(),
        kernel_version: None,
        hardware: HardwareFacts::UNKNOWN,
        shape: None,
    }
}

fn interesting_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(8),
        Just(0x1_0001),
        Just(0x1_0003),
        Just(0x1de7_ec7e_dbad_c0de),
        Just(u64::MAX),
        any::<u64>(),
        (0u32..16, 0u64..16).prop_map(|(nibble, field)| field << (4 * nibble)),
    ]
}

/// Returns ID registers with hazards, CTR_EL0 and MIDR_EL1.
fn id_register() -> impl Strategy<Value = RegisterId> {
    proptest::sample::select(vec![
        RegisterId::MIDR_EL1,
        RegisterId::CTR_EL0,
        RegisterId::ID_AA64PFR0_EL1,
        RegisterId::ID_AA64PFR1_EL1,
        RegisterId::ID_AA64ISAR0_EL1,
        RegisterId::ID_AA64ISAR1_EL1,
        RegisterId::ID_AA64ISAR2_EL1,
        RegisterId::ID_AA64MMFR0_EL1,
        RegisterId::ID_AA64MMFR1_EL1,
        RegisterId::ID_AA64MMFR2_EL1,
    ])
}

type Pairs = Vec<(RegisterId, u64)>;

fn registers() -> impl Strategy<Value = Pairs> {
    let ids = proptest::sample::subsequence(observed_ids(), 0..200);
    ids.prop_flat_map(|ids| {
        let values = proptest::collection::vec(interesting_value(), ids.len());
        values.prop_map(move |values| ids.iter().copied().zip(values).collect())
    })
}

fn vm(vcpus: &[Pairs]) -> Vm {
    let vcpu = |pairs: &Pairs| Vcpu {
        registers: Registers::from_pairs(pairs.iter().map(|(id, v)| (*id, Value::U64(*v))))
            .expect("no id twice"),
        ..Vcpu::default()
    };
    Vm {
        vcpus: vcpus.iter().map(vcpu).collect(),
        ..Vm::default()
    }
}

/// Adds ATS1A to a guest with S1PIE.
///
/// No guest of Linux 7.3 runs with S1PIE alone, and such a guest would not load there unchanged
/// (see `plan/first_run.rs`).
fn keep_s1pie(pairs: &mut Pairs) {
    let position = |id| pairs.iter().position(|(other, _)| *other == id);
    let features = position(RegisterId::ID_AA64MMFR3_EL1);
    let instructions = position(RegisterId::ID_AA64ISAR2_EL1);
    if let (Some(features), Some(instructions)) = (features, instructions)
        && pairs[features].1 >> 8 & 0xf != 0
    {
        pairs[instructions].1 |= 1 << 60;
    }
}

fn accelerators() -> impl Strategy<Value = Accelerator> {
    prop_oneof![
        Just(Accelerator::Kvm),
        Just(Accelerator::Tcg),
        Just(Accelerator::Hvf)
    ]
}

fn consents() -> impl Strategy<Value = Consents> {
    let accept = prop_oneof![
        Just(None),
        Just(Some(Severity::Low)),
        Just(Some(Severity::High))
    ];
    let drop_registers = proptest::sample::subsequence(observed_ids(), 0..4);
    (accept, drop_registers).prop_map(|(accept_up_to, drop_registers)| Consents {
        accept_up_to,
        drop_registers,
        ..Consents::default()
    })
}

/// Returns `true` if the plan gives the guest another value of an ID register.
fn changes_id_register(plan: &Plan) -> bool {
    let mut decisions = plan.vcpus.iter().flat_map(|vcpu| &vcpu.decisions);
    decisions.any(|decision| {
        let is_changed = matches!(
            decision.action,
            Action::Set(_) | Action::WriteReset(_) | Action::KeepAtReset
        );
        is_changed && decision.source.is_some() && decision.register.is_id_register()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn only_a_set_field_takes_a_fatal_change(
        pairs in registers(),
        changes in proptest::collection::vec((id_register(), interesting_value()), 1..6),
        is_ignored in any::<bool>(),
        accelerator in accelerators(),
    ) {
        let vm = vm(std::slice::from_ref(&pairs));
        let mut host_pairs = pairs;
        for (register, value) in changes {
            if let Some(pair) = host_pairs.iter_mut().find(|(id, _)| *id == register) {
                pair.1 = value;
            }
        }
        let ids = host_pairs.iter().map(|(id, _)| *id);
        let ignore = ids.clone().map(|register| IgnoreConsent { register, condition: None });
        let consents = Consents {
            accept: ids.collect(),
            ignore: if is_ignored { ignore.collect() } else { Vec::new() },
            accept_up_to: Some(Severity::Fatal),
            ..Consents::default()
        };
        let host = self::vm(&[host_pairs]);
        let destination = destination(accelerator, ValueOrigin::Reset, &host.vcpus);
        let plan = Plan::new(&vm, &destination, &Tolerances::default(), &consents);
        for change in &plan.visible_changes {
            prop_assert!(change.severity < Severity::Fatal, "{change:?}");
        }
        let proposed = plan.proposed_adjustments.iter();
        for adjustment in plan.accepted_adjustments.iter().chain(proposed) {
            prop_assert!(adjustment.severity < Severity::Fatal, "{adjustment:?}");
        }
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(
        pairs in registers(),
        destination_pairs in registers(),
        accelerator in accelerators(),
        seed in any::<u64>(),
    ) {
        let mut shuffled = pairs.clone();
        // The seed selects the permutation.
        shuffled.sort_by_key(|(id, _)| (id.raw() ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let host = vm(&[destination_pairs]);
        let destination = destination(accelerator, ValueOrigin::Reset, &host.vcpus);
        let plan = |pairs: &Pairs| {
            let plan = Plan::new(&vm(std::slice::from_ref(pairs)), &destination, &Tolerances::default(), &Consents::default());
            format!("{plan:?}")
        };
        prop_assert_eq!(plan(&pairs), plan(&shuffled));
    }

    #[test]
    fn writes_only_registers_of_the_destination(
        pairs in registers(),
        destination_pairs in registers(),
        accelerator in accelerators(),
        consents in consents(),
    ) {
        let vm = vm(&[pairs]);
        let host = self::vm(&[destination_pairs]);
        let destination = destination(accelerator, ValueOrigin::Reset, &host.vcpus);
        let plan = Plan::new(&vm, &destination, &Tolerances::default(), &consents);
        let is_listed = |id: &RegisterId| destination.vcpus[0].get(*id).is_some();
        for (id, _) in plan.vcpus[0].writes() {
            prop_assert!(is_listed(&id), "{id} is written");
        }
        if plan.outcome() == PlanOutcome::Ready {
            for (id, _) in plan.apply(&vm).vcpus[0].registers.iter() {
                prop_assert!(is_listed(&id), "{id} is in the result");
            }
        }
    }

    #[test]
    fn one_refusal_refuses_the_plan(
        pairs in registers(),
        accelerator in accelerators(),
        consents in consents(),
    ) {
        // No register has this encoding, so no entry tolerates it.
        let nonexistent = RegisterId::sysreg(3, 7, 9, 15, 7);
        let host = vm(std::slice::from_ref(&pairs));
        let destination = destination(accelerator, ValueOrigin::Reset, &host.vcpus);
        let mut with_nonexistent = pairs;
        with_nonexistent.push((nonexistent, 1));
        let vm = vm(&[with_nonexistent]);
        let plan = Plan::new(&vm, &destination, &Tolerances::default(), &consents);
        prop_assert_eq!(plan.outcome(), PlanOutcome::Refused);
        let refused = plan.vcpus[0].decisions.iter().find(|decision| decision.register == nonexistent);
        prop_assert_eq!(refused.map(|decision| &decision.action), Some(&Action::Refuse));
        let check = Check::new(&vm, &destination, &Tolerances::default(), &consents);
        prop_assert_eq!(check.verdict, Verdict::Refused);
    }

    #[test]
    fn every_vm_loads_on_its_own_host_unchanged(
        pairs in registers(),
        accelerator in prop_oneof![Just(Accelerator::Kvm), Just(Accelerator::Tcg)],
        vcpus in 1usize..4,
    ) {
        let mut pairs = pairs;
        keep_s1pie(&mut pairs);
        let vm = vm(&vec![pairs; vcpus]);
        let mut destination = destination(accelerator, ValueOrigin::Guest, &vm.vcpus);
        // QEMU 5.2 does not accept its own SCR_EL3.
        destination.loader = Some(Loader::qemu(10, 0));
        let check = Check::new(&vm, &destination, &Tolerances::default(), &Consents::default());
        prop_assert_eq!(check.verdict, Verdict::Loads);
        prop_assert_eq!(check.plan.apply(&vm), vm);
        prop_assert!(check.plan.visible_changes.is_empty(), "{:?}", check.plan.visible_changes);
    }

    #[test]
    fn loaders_load_every_ready_plan(
        pairs in registers(),
        destination_pairs in registers(),
        accelerator in prop_oneof![Just(Accelerator::Kvm), Just(Accelerator::Tcg)],
    ) {
        let vm = vm(&[pairs]);
        let host = self::vm(&[destination_pairs]);
        let mut destination = destination(accelerator, ValueOrigin::Reset, &host.vcpus);
        // QEMU up to 7.2 does not accept every SCR_EL3 that it lists.
        destination.loader = Some(Loader::qemu(10, 0));
        let accept_all = Consents { accept_up_to: Some(Severity::High), ..Consents::default() };
        let check = Check::new(&vm, &destination, &Tolerances::default(), &accept_all);
        if check.plan.outcome() == PlanOutcome::Ready {
            prop_assert!(matches!(check.verdict, Verdict::Loads | Verdict::Converts));
            // A second plan for the converted VM changes nothing.
            let converted = check.plan.apply(&vm);
            let second = Plan::new(&converted, &destination, &Tolerances::default(), &Consents::default());
            prop_assert_eq!(second.outcome(), PlanOutcome::Ready);
            prop_assert_eq!(second.apply(&converted), converted);
        }
    }

    /// `simulate` repeats the load of a vCPU for neighbours that differ little; `simulate_lists`
    /// simulates each vCPU.
    #[test]
    fn a_repeated_load_equals_a_simulated_one(
        pairs in registers(),
        destination_pairs in registers(),
        is_own_host in any::<bool>(),
        changes in proptest::collection::vec(
            (0usize..4, any::<bool>(), any::<prop::sample::Index>(), interesting_value()),
            0..8,
        ),
        accelerator in accelerators(),
    ) {
        let destination_pairs = if is_own_host { pairs.clone() } else { destination_pairs };
        let mut incoming = vec![pairs; 4];
        let mut listed = vec![destination_pairs; 4];
        for (vcpu, is_listed, index, value) in changes {
            let list = if is_listed { &mut listed[vcpu] } else { &mut incoming[vcpu] };
            if !list.is_empty() {
                let index = index.index(list.len());
                list[index].1 = value;
            }
        }
        let (vm, host) = (vm(&incoming), vm(&listed));
        let destination = destination(accelerator, ValueOrigin::Reset, &host.vcpus);
        let lists: Vec<Vec<_>> = vm
            .vcpus
            .iter()
            .map(|vcpu| vcpu.registers.iter().collect())
            .collect();
        let vcpus: Vec<_> = lists
            .iter()
            .map(|registers| IncomingVcpu { registers, extensions: &[] })
            .collect();
        for loader in Loader::MODELLED {
            let repeated = load::simulate(loader, &vm, &destination);
            let simulated = load::simulate_lists(loader, &vcpus, &destination);
            prop_assert_eq!(repeated, simulated, "{}", loader);
        }
    }

    #[test]
    fn incremental_plans_agree_with_the_check_of_the_whole_vm(
        pairs in registers(),
        destination_pairs in registers(),
        is_own_host in any::<bool>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), interesting_value()), 0..3),
        destination_vcpus in 1usize..4,
        vcpus in 1usize..5,
        accelerator in prop_oneof![Just(Accelerator::Kvm), Just(Accelerator::Tcg)],
        consents in consents(),
    ) {
        let destination_pairs = if is_own_host { pairs.clone() } else { destination_pairs };
        let mut all = vec![pairs; vcpus];
        for (number, (index, value)) in changes.into_iter().enumerate() {
            if let Some(pair) = all[number % vcpus].get_mut(index.index(200)) {
                pair.1 = value;
            }
        }
        let (vm, host) = (vm(&all), vm(&vec![destination_pairs; destination_vcpus]));
        let mut destination = destination(accelerator, ValueOrigin::Reset, &host.vcpus);
        destination.loader = Some(Loader::qemu(10, 0));
        let tolerances = Tolerances::default();
        let check = Check::new(&vm, &destination, &tolerances, &consents);
        let mut incremental = IncrementalPlan::new(&destination, &tolerances, &consents);
        prop_assert!(!incremental.can_load());
        let loaded_vcpus: Option<Vec<_>> = vm.vcpus.iter().map(|vcpu| incremental.add(vcpu)).collect();
        if incremental.can_load() {
            prop_assert!(matches!(check.verdict, Verdict::Loads | Verdict::Converts));
            prop_assert_eq!(loaded_vcpus, Some(check.plan.apply(&vm).vcpus));
        } else if vcpus == 1 && !changes_id_register(&check.plan) {
            // A single vCPU need not agree with others, so both checks decide alike. Only the whole
            // VM shows whether its guest uses what an ID register loses.
            prop_assert!(matches!(check.verdict, Verdict::Refused | Verdict::Unknown));
        }
    }
}

#[test]
fn incremental_plans_refuse_vcpus_that_disagree() {
    let registers = |psci| {
        vec![
            (RegisterId::PSCI_VERSION, psci),
            (RegisterId::MPIDR_EL1, 0x8000_0000),
        ]
    };
    let tolerances = Tolerances::default();
    let consents = Consents::default();
    for (other, can_load) in [(0x1_0001, true), (0x1_0000, false)] {
        let vm = vm(&[registers(0x1_0001), registers(other), registers(0x1_0001)]);
        let mut destination = destination(Accelerator::Kvm, ValueOrigin::Guest, &vm.vcpus[..1]);
        destination.loader = Some(Loader::qemu(10, 0));
        let mut incremental = IncrementalPlan::new(&destination, &tolerances, &consents);
        for vcpu in &vm.vcpus {
            incremental.add(vcpu);
        }
        assert_eq!(incremental.can_load(), can_load);
    }
}

#[test]
fn recorded_hosts_load_their_own_vms() {
    for name in [
        "hosts/5.10.223-neoverse-n1-all.txt",
        "hosts/6.12.107-max-all.txt",
        "hosts/7.3.4-max-all.txt",
    ] {
        let vcpu = recorded_host(name);
        if name.contains("max") {
            assert!(vcpu.registers.get(RegisterId::SVE_VLS).is_some(), "{name}");
        }
        let vm = Vm {
            vcpus: vec![vcpu.clone(), vcpu],
            ..Vm::default()
        };
        let destination = destination(Accelerator::Kvm, ValueOrigin::Reset, &vm.vcpus);
        let check = Check::new(
            &vm,
            &destination,
            &Tolerances::default(),
            &Consents::default(),
        );
        assert_eq!(check.verdict, Verdict::Loads, "{name}");
        assert_eq!(check.plan.apply(&vm), vm, "{name}");
        assert!(check.plan.visible_changes.is_empty(), "{name}");
    }
}

#[test]
fn writes_begin_with_vector_lengths_and_end_with_time() {
    let vcpu = recorded_host("hosts/6.12.107-max-all.txt");
    let vm = Vm {
        vcpus: vec![vcpu],
        ..Vm::default()
    };
    let destination = destination(Accelerator::Kvm, ValueOrigin::Reset, &vm.vcpus);
    let plan = Plan::new(
        &vm,
        &destination,
        &Tolerances::default(),
        &Consents::default(),
    );
    let writes = plan.vcpus[0].writes();
    let index_of = |id| {
        let position = writes.iter().position(|(other, _)| *other == id);
        position.unwrap_or_else(|| panic!("{id} is written"))
    };
    assert_eq!(index_of(RegisterId::SVE_VLS), 0);
    assert!(index_of(RegisterId::TIMER_CNT) >= writes.len() - 2);
    assert!(index_of(RegisterId::PTIMER_CNT) >= writes.len() - 2);
    assert!(index_of(RegisterId::PSCI_VERSION) < index_of(RegisterId::ID_AA64PFR0_EL1));
    assert!(index_of(RegisterId::ID_AA64MMFR3_EL1) < index_of(RegisterId::TCR2_EL1));
    assert!(index_of(RegisterId::PMCR_EL0) < index_of(RegisterId::sysreg(3, 3, 9, 12, 1)));
}

#[test]
fn vcpus_that_disagree_on_a_register_of_the_vm_are_refused() {
    let registers = |psci| {
        vec![
            (RegisterId::PSCI_VERSION, psci),
            (RegisterId::MPIDR_EL1, psci),
        ]
    };
    let vm = vm(&[registers(0x1_0001), registers(0x1_0000)]);
    let destination = destination(Accelerator::Kvm, ValueOrigin::Guest, &vm.vcpus);
    let plan = Plan::new(
        &vm,
        &destination,
        &Tolerances::default(),
        &Consents::default(),
    );
    assert_eq!(plan.outcome(), PlanOutcome::Refused);
    let refused: Vec<_> = plan
        .decisions()
        .into_iter()
        .filter(|(_, decision)| decision.action == Action::Refuse)
        .map(|(_, decision)| decision.register)
        .collect();
    assert_eq!(refused, [RegisterId::PSCI_VERSION; 2]);
}

#[test]
fn two_vcpus_may_need_different_decisions() {
    // Only the second vCPU's physical timer is armed, and the destination has none.
    let registers = |control| {
        vec![
            (RegisterId::PTIMER_CTL, control),
            (RegisterId::PTIMER_CVAL, 7),
        ]
    };
    let vm = vm(&[registers(0), registers(1)]);
    let destination = destination(Accelerator::Kvm, ValueOrigin::Reset, &[Vcpu::default()]);
    let plan = Plan::new(
        &vm,
        &destination,
        &Tolerances::default(),
        &Consents::default(),
    );
    let actions = |vcpu: usize| -> Vec<_> {
        let decisions = plan.vcpus[vcpu].decisions.iter();
        decisions.map(|decision| decision.action.clone()).collect()
    };
    assert_eq!(actions(0), [Action::Ignore, Action::Ignore]);
    assert_eq!(actions(1), [Action::Refuse, Action::Refuse]);
    assert_eq!(plan.decisions().len(), 4);
}

#[test]
fn equal_vcpus_share_one_decision() {
    let pairs: Pairs = vec![(RegisterId::OSLSR_EL1, 8), (RegisterId::SCTLR_EL1, 5)];
    let vm = vm(&vec![pairs; 256]);
    let destination_vcpu = DestinationVcpu::new(
        [DestinationRegister {
            id: RegisterId::SCTLR_EL1,
            value: None,
            accepted_values: AcceptedValues::ByKind,
        }],
        Vec::new(),
    );
    let mut destination = destination(Accelerator::Kvm, ValueOrigin::Reset, &[]);
    destination.vcpus = vec![destination_vcpu; 256];
    destination.loader = Some(Loader::qemu(10, 0));
    let plan = Plan::new(
        &vm,
        &destination,
        &Tolerances::default(),
        &Consents::default(),
    );
    assert_eq!(plan.outcome(), PlanOutcome::Ready);
    let decisions: Vec<_> = plan
        .decisions()
        .iter()
        .map(|(vcpus, decision)| (vcpus.to_string(), decision.register))
        .collect();
    assert_eq!(
        decisions,
        [
            ("0-255".to_owned(), RegisterId::OSLSR_EL1),
            ("0-255".to_owned(), RegisterId::SCTLR_EL1)
        ]
    );
}

#[test]
fn registers_only_at_the_destination_are_written_with_reset_values_under_tcg() {
    let id = RegisterId::SCTLR_EL1;
    let host = vm(&[vec![(id, 0xc5_0838)]]);
    let vm = vm(&[Vec::new()]);
    let prelaunch = destination(Accelerator::Tcg, ValueOrigin::Reset, &host.vcpus);
    assert!(!tcg::is_constant(id));
    let plan = |destination: &Destination| {
        let plan = Plan::new(
            &vm,
            destination,
            &Tolerances::default(),
            &Consents::default(),
        );
        plan.vcpus[0].decisions[0].action.clone()
    };
    assert_eq!(plan(&prelaunch), Action::WriteReset(Value::U64(0xc5_0838)));
    let running = destination(Accelerator::Tcg, ValueOrigin::Guest, &host.vcpus);
    assert_eq!(plan(&running), Action::Undecided);
}
