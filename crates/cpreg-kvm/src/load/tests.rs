use std::error::Error as _;

use cpreg::destination::Features;
use cpreg::plan::Action;
use cpreg::vm::Vm as SavedVm;
use proptest::prelude::*;

use super::*;
use crate::host::Vm;
use crate::recorded::{Fault, RecordedHost};
use crate::save::save;
use crate::testing;

/// A host, all its features, and a VM of it saved at reset.
fn saved(version: &str, cpu: &str, vcpus: usize) -> (RecordedHost, Features, SavedVm) {
    let host = testing::recorded_host(version, cpu);
    let features = testing::max_features(&host);
    let vm = testing::ready_vm(&host, features, vcpus);
    let saved = save(vm.vcpus()).expect("readable");
    (host, features, saved)
}

/// What was written by the load of a plan to a VM of the host.
fn written(host: &RecordedHost, features: Features, plan: &Plan) -> Vec<(usize, RegisterId)> {
    let vm = testing::vm(host, features, plan.vcpus.len());
    load(plan, vm.vcpus()).expect("a load");
    vm.calls().writes
}

fn without_counters(mut vm: SavedVm) -> SavedVm {
    for vcpu in &mut vm.vcpus {
        for id in [RegisterId::TIMER_CNT, RegisterId::PTIMER_CNT] {
            vcpu.registers.remove(id);
        }
    }
    vm
}

#[test]
fn what_is_the_vms_comes_first_and_time_last_and_each_once() {
    let (host, features, saved) = saved("7.3.4", "neoverse-n1", 3);
    let plan = testing::plan(&saved, &host, features);
    let writes = written(&host, features, &plan);
    let scopes: Vec<_> = writes
        .iter()
        .map(|(_, id)| RegisterKind::from_id(*id).scope())
        .collect();
    let own = scopes.iter().position(|it| *it == Scope::Vcpu);
    let own = own.expect("registers of vCPUs");
    assert!(scopes[..own].iter().all(|it| *it == Scope::Vm) && own > 50);
    let (rest, time) = scopes[own..].split_at(scopes.len() - own - 2);
    assert!(rest.iter().all(|it| *it == Scope::Vcpu));
    assert_eq!(time, [Scope::VmCounter; 2]);
    let of_vm = writes.iter().take(own).chain(writes.iter().rev().take(2));
    assert!(of_vm.clone().all(|(vcpu, _)| *vcpu == 0));
    let mut ids: Vec<_> = of_vm.map(|(_, id)| *id).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn pmcr_comes_before_the_pmu_and_what_clears_before_what_sets() {
    let (host, features, saved) = saved("6.12.107", "neoverse-n1", 2);
    let writes = written(&host, features, &testing::plan(&saved, &host, features));
    for vcpu in 0..2 {
        let at = |id| {
            let found = writes.iter().position(|it| *it == (vcpu, id));
            found.expect("written")
        };
        let order = [
            RegisterId::PMCR_EL0,
            RegisterId::PMCNTENCLR_EL0,
            RegisterId::PMCNTENSET_EL0,
        ];
        assert!(order.map(at).is_sorted());
    }
}

#[test]
fn vector_lengths_come_before_all_and_once_finalized_the_vcpu_is_left_so() {
    let (host, features, saved) = saved("6.12.107", "neoverse-n2", 2);
    assert!(features.contains(Features::SVE));
    let plan = testing::plan(&saved, &host, features);
    let writes = written(&host, features, &plan);
    let first = [(0, RegisterId::SVE_VLS), (1, RegisterId::SVE_VLS)];
    assert_eq!(writes[..2], first);
    let vm = testing::ready_vm(&host, features, 2);
    load(&plan, vm.vcpus()).expect("the VMM has finalized its vCPUs");
    assert_eq!(
        save(vm.vcpus()).map(without_counters),
        Ok(without_counters(saved))
    );
}

#[test]
fn sve_is_finalized_for_a_vm_that_was_saved_without_its_registers() {
    let (host, features, mut saved) = saved("6.12.107", "neoverse-n2", 1);
    let whole = saved.clone();
    let ids: Vec<_> = saved.vcpus[0].registers.iter().map(|(id, _)| id).collect();
    for id in ids {
        if id.class() == cpreg::register::RegisterClass::Sve {
            saved.vcpus[0].registers.remove(id);
        }
    }
    let plan = testing::plan(&saved, &host, features);
    let vm = testing::vm(&host, features, 1);
    load(&plan, vm.vcpus()).expect("a load");
    assert_eq!(vm.calls().finalize_calls, 1);
    assert_eq!(
        save(vm.vcpus()).map(without_counters),
        Ok(without_counters(whole))
    );
}

#[test]
fn a_load_takes_no_more_calls_than_it_says() {
    for (cpu, vcpus) in [("neoverse-n1", 1), ("neoverse-n1", 64), ("max", 64)] {
        let (host, features, saved) = saved("7.3.4", cpu, vcpus);
        let plan = testing::plan(&saved, &host, features);
        let vm = testing::vm(&host, features, vcpus);
        let loaded = load(&plan, vm.vcpus()).expect("a load");
        let calls = vm.calls();
        assert_eq!(loaded.calls, calls.total());
        assert_eq!(loaded.written_registers, calls.writes.len());
        let sve = if features.contains(Features::SVE) {
            vcpus
        } else {
            0
        };
        assert!(loaded.calls <= loaded.written_registers + MAX_VM_WIDE_REGISTERS + vcpus + sve);
        // No more is written than each vCPU's registers, and what is the VM's once.
        let planned: usize = plan.vcpus.iter().map(|vcpu| vcpu.writes().len()).sum();
        assert!(loaded.written_registers <= planned);
        assert_eq!(loaded.mismatches, []);
    }
}

#[test]
fn a_plan_that_is_not_ready_touches_nothing() {
    let (host, features, saved) = saved("7.3.4", "neoverse-n1", 2);
    let plan = testing::plan(&saved, &host, features);
    let vm = testing::vm(&host, features, 2);
    let refused = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        let error = load(&plan, vm.vcpus()).expect_err("refused");
        assert!(error.is_vm_untouched() && vm.calls().total() == 0);
        assert!(
            error.to_string().ends_with(". Nothing was written."),
            "{error}"
        );
        error.kind().clone()
    };
    let refuse = |plan: &mut Plan| plan.vcpus[1].decisions[9].action = Action::Refuse;
    assert_eq!(refused(&refuse), ErrorKind::NotReady(PlanOutcome::Refused));
    let undecided = |plan: &mut Plan| plan.vcpus[1].decisions[9].action = Action::Undecided;
    assert_eq!(
        refused(&undecided),
        ErrorKind::NotReady(PlanOutcome::Unknown)
    );
    let fewer = |plan: &mut Plan| plan.vcpus.truncate(1);
    let counts = ErrorKind::VcpuCount { plan: 1, vm: 2 };
    assert_eq!(refused(&fewer), counts);
    let set = |vcpu: usize, id, value: u64| {
        move |plan: &mut Plan| {
            let decisions = &mut plan.vcpus[vcpu].decisions;
            let decision = decisions.iter_mut().find(|it| it.register == id);
            decision.expect("decided").action = Action::Set(Value::U64(value));
        }
    };
    let disagree = ErrorKind::ConflictingValues {
        register: RegisterId::PSCI_VERSION,
        vcpus: [0, 1],
    };
    assert_eq!(refused(&set(1, RegisterId::PSCI_VERSION, 2)), disagree);
    let wide = refused(&set(0, RegisterId::CORE_FPSR, 1 << 32));
    assert!(matches!(wide, ErrorKind::Width { vcpu: 0, .. }));
}

#[test]
fn a_refused_write_says_all_about_it() {
    let (host, features, mut saved) = saved("7.3.4", "neoverse-n1", 2);
    let id = RegisterId::sysreg(3, 0, 12, 0, 0);
    saved.vcpus[1].registers.insert(id, Value::U64(0x8000));
    let plan = testing::plan(&saved, &host, features);
    let host = host.with_fault(Fault::Register(id, Errno::EINVAL));
    let vm = testing::vm(&host, features, 2);
    let error = load(&plan, vm.vcpus()).expect_err("refused");
    let ErrorKind::Refused(refused) = error.kind() else {
        panic!("{error}");
    };
    assert_eq!((refused.vcpu, refused.register), (0, id));
    assert_eq!(refused.errno, Errno::EINVAL);
    assert_eq!(refused.current_value, Ok(refused.written_value.clone()));
    assert_eq!(refused.written_registers, vm.calls().writes.len() - 1);
    assert!(!error.is_vm_untouched() && error.source().is_some());
    let text = error.to_string();
    assert!(
        text.starts_with("vCPU 0: VBAR_EL1 (0x603000000013c600) did not take "),
        "{text}"
    );
    assert!(text.ends_with(": the VM is half loaded."), "{text}");
    let hint = error.hint().expect("advice");
    assert!(hint.starts_with("Do not run any of its vCPUs"), "{hint}");
}

#[test]
fn every_write_may_fail_and_nothing_follows_it() {
    let (host, features, saved) = saved("6.12.107", "max", 2);
    let plan = testing::plan(&saved, &host, features);
    let writes = written(&host, features, &plan);
    for (number, write) in writes.iter().enumerate() {
        let host = host.clone().with_fault(Fault::Write(number, Errno::EBUSY));
        let vm = testing::vm(&host, features, 2);
        let error = load(&plan, vm.vcpus()).expect_err("refused");
        let ErrorKind::Refused(refused) = error.kind() else {
            panic!("{error}");
        };
        assert_eq!((refused.vcpu, refused.register), *write);
        assert_eq!(refused.written_registers, number);
        assert_eq!(error.is_vm_untouched(), number == 0);
        assert_eq!(vm.calls().writes.len(), number + 1);
    }
}

#[test]
fn keys_are_not_told() {
    let (host, features, mut saved) = saved("7.3.4", "max", 1);
    let id = RegisterId::APIAKEYLO_EL1;
    let key = Value::U64(0x1234_5678_9abc);
    saved.vcpus[0].registers.insert(id, key);
    let plan = testing::plan(&saved, &host, features);
    let host = host.with_fault(Fault::Register(id, Errno::EINVAL));
    let vm = testing::vm(&host, features, 1);
    let error = load(&plan, vm.vcpus()).expect_err("refused").to_string();
    assert!(
        error.contains("APIAKEYLO_EL1") && !error.contains("123456789abc"),
        "{error}"
    );
}

/// 6.12's PMU: what is set in a fresh vCPU is not set in one that was loaded.
#[test]
fn bits_of_a_fresh_pmu_do_not_stay() {
    let (sets, clears) = (RegisterId::PMCNTENSET_EL0, RegisterId::PMCNTENCLR_EL0);
    for of_clears in [0, 0x8000_003f] {
        let registers = vec![
            testing::register_with_trials(sets, 0x8000_001e, &[(u64::MAX, 0, 0x8000_003f)]),
            testing::register_with_trials(clears, 0x8000_001e, &[(u64::MAX, 0, of_clears)]),
        ];
        let host = testing::host(Features::PMU, registers);
        let vm = testing::vm(&host, Features::PMU, 1);
        let mut saved = save(vm.vcpus()).expect("readable");
        for id in [sets, clears] {
            saved.vcpus[0].registers.insert(id, Value::U64(0x21));
        }
        load(&testing::plan(&saved, &host, Features::PMU), vm.vcpus()).expect("a load");
        assert_eq!(save(vm.vcpus()), Ok(saved));
    }
}

/// A VM has one PMCR_EL0.N, which is kept once it has run, all without an error.
#[test]
fn a_write_that_is_ignored_is_told() {
    let pmcr = RegisterId::PMCR_EL0;
    let trials = [
        (0, 0, 0),
        (u64::MAX, 0, 0x30ff),
        (0x3001, 0, 0x3001),
        (0x2000, 0, 0x2000),
    ];
    let host = testing::host(
        Features::PMU,
        vec![testing::register_with_trials(pmcr, 0x3000, &trials)],
    );
    let source = testing::vm(&host, Features::PMU, 2);
    let plan = |first: u64, second: u64| {
        let mut saved = save(source.vcpus()).expect("readable");
        for (vcpu, value) in saved.vcpus.iter_mut().zip([first, second]) {
            vcpu.registers.insert(pmcr, Value::U64(value));
        }
        testing::plan(&saved, &host, Features::PMU)
    };
    let told = |plan: &Plan, has_run: bool| {
        let vm = testing::vm(&host, Features::PMU, 2);
        if has_run {
            vm.mark_run();
        }
        let loaded = load(plan, vm.vcpus()).expect("a load");
        let differences = loaded.mismatches.into_iter();
        let parts = differences.map(|it| {
            (
                it.vcpu,
                it.written_value.as_u64(),
                it.current_value.as_u64(),
            )
        });
        parts.collect::<Vec<_>>()
    };
    let (all, fewer) = (Some(0x3000), Some(0x2800));
    assert_eq!(told(&plan(0x2800, 0x2800), false), []);
    assert_eq!(told(&plan(0x3000, 0x2800), false), [(Some(0), all, fewer)]);
    assert_eq!(
        told(&plan(0x2800, 0x2800), true),
        [(Some(0), fewer, all), (Some(1), fewer, all)]
    );
}

/// Hosts of several generations, with all that they have.
fn hosts() -> impl Strategy<Value = (RecordedHost, Features)> {
    let names = [
        ("5.10.223", "neoverse-n1"),
        ("6.1.176", "max"),
        ("6.12.107", "max"),
        ("6.12.107", "neoverse-n2"),
        ("7.3.4", "max"),
    ];
    let hosts: Vec<_> = names
        .iter()
        .map(|(version, cpu)| {
            let host = testing::recorded_host(version, cpu);
            let features = testing::max_features(&host);
            (host, features)
        })
        .collect();
    prop::sample::select(hosts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a guest has made of its registers, it has them on another VM of the same host.
    #[test]
    fn a_load_to_the_same_host_changes_nothing(
        (host, features) in hosts(),
        vcpus in 1_usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 0..60),
    ) {
        let source = testing::ready_vm(&host, features, vcpus);
        for (at, value) in changes {
            let vcpu = &source.vcpus()[at.index(vcpus)];
            let ids = crate::Vcpu::list(vcpu).expect("a list");
            let id = ids[at.index(ids.len())];
            let size = id.size_bytes().expect("a size");
            let bytes: Vec<_> = value.to_le_bytes().into_iter().cycle().take(size).collect();
            // What is not taken leaves it as it was.
            let _ = crate::Vcpu::set(vcpu, id, &bytes);
        }
        let saved = save(source.vcpus()).expect("readable");
        let plan = testing::plan(&saved, &host, features);
        prop_assert_eq!(plan.outcome(), PlanOutcome::Ready);
        let target = testing::vm(&host, features, vcpus);
        let loaded = load(&plan, target.vcpus());
        prop_assert!(loaded.is_ok(), "{:?}", loaded);
        let again = save(target.vcpus()).expect("readable");
        prop_assert_eq!(without_counters(saved), without_counters(again));
    }
}
