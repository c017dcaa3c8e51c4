//! What must hold of every plan, whatever the registers.

use std::path::Path;

use cpreg::destination::accept::tcg;
use cpreg::destination::{
    Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu, Loader,
    ValueOrigin,
};
use cpreg::plan::{Action, Check, Consents, IncrementalPlan, Plan, PlanOutcome, Verdict};
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

/// Every id that was ever seen on a real host.
fn seen_ids() -> Vec<RegisterId> {
    let text = fixture("ids/seen-ids.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let digits = line.split(' ').next().expect("an id comes first");
            RegisterId::from_raw(u64::from_str_radix(digits, 16).expect("hexadecimal"))
        })
        .collect()
}

/// `id size value`, as `KVM_GET_REG_LIST` and `KVM_GET_ONE_REG` gave them.
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
            let bytes = (0..size).map(|at| {
                let end = digits.len() - 2 * at;
                u8::from_str_radix(&digits[end - 2..end], 16).expect("hexadecimal")
            });
            Value::Bytes(bytes.collect())
        };
        (RegisterId::from_raw(id), value)
    });
    Vcpu {
        registers: Registers::from_pairs(pairs).expect("no id twice"),
        extensions: Vec::new(),
    }
}

fn destination(accelerator: Accelerator, values: ValueOrigin, vcpus: &[Vcpu]) -> Destination {
    Destination {
        name: "there".to_owned(),
        accelerator: Some(accelerator),
        loader: None,
        value_origin: values,
        vcpus: vcpus.iter().map(DestinationVcpu::from_vcpu).collect(),
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

type Pairs = Vec<(RegisterId, u64)>;

fn registers() -> impl Strategy<Value = Pairs> {
    let ids = proptest::sample::subsequence(seen_ids(), 0..200);
    ids.prop_flat_map(|ids| {
        let values = proptest::collection::vec(interesting_value(), ids.len());
        values.prop_map(move |values| ids.iter().copied().zip(values).collect())
    })
}

fn vm(vcpus: &[Pairs]) -> Vm {
    let vcpu = |pairs: &Pairs| Vcpu {
        registers: Registers::from_pairs(pairs.iter().map(|(id, v)| (*id, Value::U64(*v))))
            .expect("no id twice"),
        extensions: Vec::new(),
    };
    Vm {
        vcpus: vcpus.iter().map(vcpu).collect(),
    }
}

/// Gives a guest that has S1PIE ATS1A as well: no guest of Linux 7.3 runs with S1PIE alone, and one that did would not load there unchanged (see
/// `plan/first_run.rs`).
fn keep_s1pie(pairs: &mut Pairs) {
    let value = |id| pairs.iter().position(|(other, _)| *other == id);
    let features = value(RegisterId::ID_AA64MMFR3_EL1);
    let instructions = value(RegisterId::ID_AA64ISAR2_EL1);
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
    let hide = proptest::sample::subsequence(seen_ids(), 0..4);
    (accept, hide).prop_map(|(accept_up_to, hide)| Consents {
        accept_up_to,
        drop_registers: hide,
        ..Consents::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_order_of_the_input_does_not_matter(
        pairs in registers(),
        there in registers(),
        accelerator in accelerators(),
        seed in any::<u64>(),
    ) {
        let mut shuffled = pairs.clone();
        // A fixed permutation of each input is enough: the seed varies it.
        shuffled.sort_by_key(|(id, _)| (id.raw() ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let there = vm(&[there]);
        let destination = destination(accelerator, ValueOrigin::Reset, &there.vcpus);
        let plan = |pairs: &Pairs| {
            let plan = Plan::new(&vm(std::slice::from_ref(pairs)), &destination, &Tolerances::default(), &Consents::default());
            format!("{plan:?}")
        };
        prop_assert_eq!(plan(&pairs), plan(&shuffled));
    }

    #[test]
    fn only_registers_that_the_destination_has_are_written(
        pairs in registers(),
        there in registers(),
        accelerator in accelerators(),
        consents in consents(),
    ) {
        let vm = vm(&[pairs]);
        let there = self::vm(&[there]);
        let destination = destination(accelerator, ValueOrigin::Reset, &there.vcpus);
        let plan = Plan::new(&vm, &destination, &Tolerances::default(), &consents);
        let listed = |id: &RegisterId| destination.vcpus[0].get(*id).is_some();
        for (id, _) in plan.vcpus[0].writes() {
            prop_assert!(listed(&id), "{id} is written");
        }
        if plan.outcome() == PlanOutcome::Ready {
            for (id, _) in plan.apply(&vm).vcpus[0].registers.iter() {
                prop_assert!(listed(&id), "{id} is in the result");
            }
        }
    }

    #[test]
    fn one_refusal_refuses_the_plan(
        pairs in registers(),
        accelerator in accelerators(),
        consents in consents(),
    ) {
        // Nothing has this encoding, so nothing tolerates it.
        let nobodys = RegisterId::sysreg(3, 7, 9, 15, 7);
        let there = vm(std::slice::from_ref(&pairs));
        let destination = destination(accelerator, ValueOrigin::Reset, &there.vcpus);
        let mut more = pairs;
        more.push((nobodys, 1));
        let vm = vm(&[more]);
        let plan = Plan::new(&vm, &destination, &Tolerances::default(), &consents);
        prop_assert_eq!(plan.outcome(), PlanOutcome::Refused);
        let refused = plan.vcpus[0].decisions.iter().find(|decision| decision.register == nobodys);
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
        // QEMU 5.2 does not take its own SCR_EL3 back.
        destination.loader = Some(Loader::qemu(10, 0));
        let check = Check::new(&vm, &destination, &Tolerances::default(), &Consents::default());
        prop_assert_eq!(check.verdict, Verdict::Loads);
        prop_assert_eq!(check.plan.apply(&vm), vm);
        prop_assert!(check.plan.visible_changes.is_empty(), "{:?}", check.plan.visible_changes);
    }

    #[test]
    fn a_plan_that_is_ready_is_taken_by_the_loaders(
        pairs in registers(),
        there in registers(),
        accelerator in prop_oneof![Just(Accelerator::Kvm), Just(Accelerator::Tcg)],
    ) {
        let vm = vm(&[pairs]);
        let there = self::vm(&[there]);
        let mut destination = destination(accelerator, ValueOrigin::Reset, &there.vcpus);
        // QEMU up to 7.2 does not take every SCR_EL3 that it lists.
        destination.loader = Some(Loader::qemu(10, 0));
        let everything = Consents { accept_up_to: Some(Severity::High), ..Consents::default() };
        let check = Check::new(&vm, &destination, &Tolerances::default(), &everything);
        if check.plan.outcome() == PlanOutcome::Ready {
            prop_assert!(matches!(check.verdict, Verdict::Loads | Verdict::Converts));
            // What it wrote is then the host's as well: nothing is left to change.
            let result = check.plan.apply(&vm);
            let again = Plan::new(&result, &destination, &Tolerances::default(), &Consents::default());
            prop_assert_eq!(again.outcome(), PlanOutcome::Ready);
            prop_assert_eq!(again.apply(&result), result);
        }
    }

    #[test]
    fn what_is_let_go_vcpu_by_vcpu_is_let_go_as_a_whole(
        pairs in registers(),
        there in registers(),
        is_own_host in any::<bool>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), interesting_value()), 0..3),
        hosts in 1usize..4,
        vcpus in 1usize..5,
        accelerator in prop_oneof![Just(Accelerator::Kvm), Just(Accelerator::Tcg)],
        consents in consents(),
    ) {
        let there = if is_own_host { pairs.clone() } else { there };
        let mut all = vec![pairs; vcpus];
        for (number, (index, value)) in changes.into_iter().enumerate() {
            if let Some(pair) = all[number % vcpus].get_mut(index.index(200)) {
                pair.1 = value;
            }
        }
        let (vm, there) = (vm(&all), vm(&vec![there; hosts]));
        let mut destination = destination(accelerator, ValueOrigin::Reset, &there.vcpus);
        destination.loader = Some(Loader::qemu(10, 0));
        let tolerances = Tolerances::default();
        let check = Check::new(&vm, &destination, &tolerances, &consents);
        let mut gradual = IncrementalPlan::new(&destination, &tolerances, &consents);
        prop_assert!(!gradual.can_load());
        let results: Option<Vec<_>> = vm.vcpus.iter().map(|vcpu| gradual.add(vcpu)).collect();
        if gradual.can_load() {
            prop_assert!(matches!(check.verdict, Verdict::Loads | Verdict::Converts));
            prop_assert_eq!(results, Some(check.plan.apply(&vm).vcpus));
        } else if vcpus == 1 {
            // Nothing has to agree with anything: it tells as much as the whole.
            prop_assert!(matches!(check.verdict, Verdict::Refused | Verdict::Unknown));
        }
    }
}

#[test]
fn a_vm_that_comes_vcpu_by_vcpu_goes_on_unless_its_vcpus_disagree() {
    let registers = |psci| {
        vec![
            (RegisterId::PSCI_VERSION, psci),
            (RegisterId::MPIDR_EL1, 0x8000_0000),
        ]
    };
    let tolerances = Tolerances::default();
    let consents = Consents::default();
    for (other, goes_on) in [(0x1_0001, true), (0x1_0000, false)] {
        let vm = vm(&[registers(0x1_0001), registers(other), registers(0x1_0001)]);
        let mut destination = destination(Accelerator::Kvm, ValueOrigin::Guest, &vm.vcpus[..1]);
        destination.loader = Some(Loader::qemu(10, 0));
        let mut gradual = IncrementalPlan::new(&destination, &tolerances, &consents);
        for vcpu in &vm.vcpus {
            gradual.add(vcpu);
        }
        assert_eq!(gradual.can_load(), goes_on);
    }
}

#[test]
fn recorded_hosts_load_their_own_vms_vectors_poison_and_counters_included() {
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
fn the_first_write_is_the_vector_lengths_and_the_last_is_time() {
    let vcpu = recorded_host("hosts/6.12.107-max-all.txt");
    let vm = Vm { vcpus: vec![vcpu] };
    let destination = destination(Accelerator::Kvm, ValueOrigin::Reset, &vm.vcpus);
    let plan = Plan::new(
        &vm,
        &destination,
        &Tolerances::default(),
        &Consents::default(),
    );
    let writes = plan.vcpus[0].writes();
    let place = |id| {
        let found = writes.iter().position(|(other, _)| *other == id);
        found.unwrap_or_else(|| panic!("{id} is written"))
    };
    assert_eq!(place(RegisterId::SVE_VLS), 0);
    assert!(place(RegisterId::TIMER_CNT) >= writes.len() - 2);
    assert!(place(RegisterId::PTIMER_CNT) >= writes.len() - 2);
    assert!(place(RegisterId::PSCI_VERSION) < place(RegisterId::ID_AA64PFR0_EL1));
    assert!(place(RegisterId::ID_AA64MMFR3_EL1) < place(RegisterId::TCR2_EL1));
    assert!(place(RegisterId::PMCR_EL0) < place(RegisterId::sysreg(3, 3, 9, 12, 1)));
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
fn two_hundred_and_fifty_six_vcpus_share_one_row_each() {
    let pairs: Pairs = vec![(RegisterId::OSLSR_EL1, 8), (RegisterId::SCTLR_EL1, 5)];
    let vm = vm(&vec![pairs; 256]);
    let there = DestinationVcpu::new(
        [DestinationRegister {
            id: RegisterId::SCTLR_EL1,
            value: None,
            accepted_values: AcceptedValues::ByKind,
        }],
        Vec::new(),
    );
    let mut destination = destination(Accelerator::Kvm, ValueOrigin::Reset, &[]);
    destination.vcpus = vec![there; 256];
    destination.loader = Some(Loader::qemu(10, 0));
    let plan = Plan::new(
        &vm,
        &destination,
        &Tolerances::default(),
        &Consents::default(),
    );
    assert_eq!(plan.outcome(), PlanOutcome::Ready);
    let rows: Vec<_> = plan
        .decisions()
        .iter()
        .map(|(vcpus, decision)| (vcpus.to_string(), decision.register))
        .collect();
    assert_eq!(
        rows,
        [
            ("0-255".to_owned(), RegisterId::OSLSR_EL1),
            ("0-255".to_owned(), RegisterId::SCTLR_EL1)
        ]
    );
}

#[test]
fn under_tcg_what_only_the_destination_has_is_written_with_its_reset_value() {
    let id = RegisterId::SCTLR_EL1;
    let there = vm(&[vec![(id, 0xc5_0838)]]);
    let vm = vm(&[Vec::new()]);
    let prelaunch = destination(Accelerator::Tcg, ValueOrigin::Reset, &there.vcpus);
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
    let running = destination(Accelerator::Tcg, ValueOrigin::Guest, &there.vcpus);
    assert_eq!(plan(&running), Action::Undecided);
}
