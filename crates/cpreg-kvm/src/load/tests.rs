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

/// Returns a host, all its features, and a VM saved at reset.
fn saved(version: &str, cpu: &str, vcpus: usize) -> (RecordedHost, Features, SavedVm) {
    let host = testing::recorded_host(version, cpu);
    let features = testing::max_features(&host);
    let vm = testing::ready_vm(&host, features, vcpus);
    let saved = save(vm.vcpus()).expect("readable");
    (host, features, saved)
}

/// Returns the writes of loading a plan into a VM of the host.
fn load_writes(host: &RecordedHost, features: Features, plan: &Plan) -> Vec<(usize, RegisterId)> {
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
fn vm_wide_registers_are_written_first_and_counters_last_each_once() {
    let (host, features, saved) = saved("7.3.4", "neoverse-n1", 3);
    let plan = testing::plan(&saved, &host, features);
    let writes = load_writes(&host, features, &plan);
    let scopes: Vec<_> = writes
        .iter()
        .map(|(_, id)| RegisterKind::from_id(*id).scope())
        .collect();
    let first_per_vcpu = scopes.iter().position(|scope| *scope == Scope::Vcpu);
    let first_per_vcpu = first_per_vcpu.expect("registers of vCPUs");
    let (vm_wide, others) = scopes.split_at(first_per_vcpu);
    assert!(vm_wide.iter().all(|scope| *scope == Scope::Vm) && vm_wide.len() > 50);
    let (per_vcpu, counters) = others.split_at(others.len() - 2);
    assert!(per_vcpu.iter().all(|scope| *scope == Scope::Vcpu));
    assert_eq!(counters, [Scope::VmCounter; 2]);
    let vm_wide_and_counters = writes
        .iter()
        .take(first_per_vcpu)
        .chain(writes.iter().rev().take(2));
    assert!(vm_wide_and_counters.clone().all(|(vcpu, _)| *vcpu == 0));
    let mut ids: Vec<_> = vm_wide_and_counters.map(|(_, id)| *id).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn pmcr_is_written_before_pmcntenclr_and_pmcntenclr_before_pmcntenset() {
    let (host, features, saved) = saved("6.12.107", "neoverse-n1", 2);
    let writes = load_writes(&host, features, &testing::plan(&saved, &host, features));
    for vcpu in 0..2 {
        let position = |id| {
            let position = writes.iter().position(|write| *write == (vcpu, id));
            position.expect("written")
        };
        let order = [
            RegisterId::PMCR_EL0,
            RegisterId::PMCNTENCLR_EL0,
            RegisterId::PMCNTENSET_EL0,
        ];
        assert!(order.map(position).is_sorted());
    }
}

#[test]
fn vector_lengths_are_written_first_unless_the_vcpu_is_finalized() {
    let (host, features, saved) = saved("6.12.107", "neoverse-n2", 2);
    assert!(features.contains(Features::SVE));
    let plan = testing::plan(&saved, &host, features);
    let writes = load_writes(&host, features, &plan);
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
fn sve_is_finalized_for_a_vm_that_was_saved_without_sve_registers() {
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
fn the_number_of_calls_is_bounded() {
    for (cpu, vcpus) in [("neoverse-n1", 1), ("neoverse-n1", 64), ("max", 64)] {
        let (host, features, saved) = saved("7.3.4", cpu, vcpus);
        let plan = testing::plan(&saved, &host, features);
        let vm = testing::vm(&host, features, vcpus);
        let summary = load(&plan, vm.vcpus()).expect("a load");
        let calls = vm.calls();
        assert_eq!(summary.calls, calls.total());
        assert_eq!(summary.written_registers, calls.writes.len());
        let sve = if features.contains(Features::SVE) {
            vcpus
        } else {
            0
        };
        // Calls other than writes: one read-back of each VM-wide register and of each PMCR_EL0, and
        // one call to finalize each vCPU with SVE.
        assert!(summary.calls <= summary.written_registers + MAX_VM_WIDE_REGISTERS + vcpus + sve);
        // The plan has the VM-wide registers on each vCPU; the load writes them only once.
        let planned: usize = plan.vcpus.iter().map(|vcpu| vcpu.writes().len()).sum();
        assert!(summary.written_registers <= planned);
        assert_eq!(summary.mismatches, []);
    }
}

#[test]
fn a_plan_that_is_not_ready_touches_nothing() {
    let (host, features, saved) = saved("7.3.4", "neoverse-n1", 2);
    let plan = testing::plan(&saved, &host, features);
    let vm = testing::vm(&host, features, 2);
    let failure = |change: &dyn Fn(&mut Plan)| {
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
    assert_eq!(failure(&refuse), ErrorKind::NotReady(PlanOutcome::Refused));
    let undecided = |plan: &mut Plan| plan.vcpus[1].decisions[9].action = Action::Undecided;
    assert_eq!(
        failure(&undecided),
        ErrorKind::NotReady(PlanOutcome::Unknown)
    );
    let truncated = |plan: &mut Plan| plan.vcpus.truncate(1);
    let counts = ErrorKind::VcpuCount { plan: 1, vm: 2 };
    assert_eq!(failure(&truncated), counts);
    let set = |vcpu: usize, id, value: u64| {
        move |plan: &mut Plan| {
            let decision = plan.vcpus[vcpu].decisions.find_mut(id);
            decision.expect("decided").action = Action::Set(Value::U64(value));
        }
    };
    let conflict = ErrorKind::ConflictingValues {
        register: RegisterId::PSCI_VERSION,
        vcpus: [0, 1],
    };
    assert_eq!(failure(&set(1, RegisterId::PSCI_VERSION, 2)), conflict);
    let wide = failure(&set(0, RegisterId::CORE_FPSR, 1 << 32));
    assert!(matches!(wide, ErrorKind::Width { vcpu: 0, .. }));
}

#[test]
fn a_refused_write_has_all_details() {
    let (host, features, mut saved) = saved("7.3.4", "neoverse-n1", 2);
    let id = RegisterId::sysreg(3, 0, 12, 0, 0);
    saved.vcpus[1].registers.insert(id, Value::U64(0x8000));
    // The fault applies to every vCPU, so the load stops at vCPU 0, which has the value at reset.
    let plan = testing::plan(&saved, &host, features);
    let host = host.with_fault(Fault::Register(id, Errno::EINVAL));
    let vm = testing::vm(&host, features, 2);
    let error = load(&plan, vm.vcpus()).expect_err("refused");
    let ErrorKind::Refused(write) = error.kind() else {
        panic!("{error}");
    };
    assert_eq!((write.vcpu, write.register), (0, id));
    assert_eq!(write.errno, Errno::EINVAL);
    assert_eq!(write.current_value, Ok(write.written_value.clone()));
    assert_eq!(write.written_registers, vm.calls().writes.len() - 1);
    assert!(!error.is_vm_untouched() && error.source().is_some());
    let text = error.to_string();
    assert!(
        text.starts_with("vCPU 0: VBAR_EL1 (0x603000000013c600) refused "),
        "{text}"
    );
    assert!(text.ends_with(": the VM is half loaded."), "{text}");
    let hint = error.hint().expect("a hint");
    assert!(hint.starts_with("Do not run any of its vCPUs"), "{hint}");
}

#[test]
fn a_load_stops_at_the_first_refused_write() {
    let (host, features, saved) = saved("6.12.107", "max", 2);
    let plan = testing::plan(&saved, &host, features);
    let writes = load_writes(&host, features, &plan);
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
fn errors_do_not_show_keys() {
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

/// On Linux 6.12 a fresh vCPU has arbitrary PMU bits set, and a load must clear them.
#[test]
fn bits_of_a_fresh_pmu_are_cleared() {
    let (set, clear) = (RegisterId::PMCNTENSET_EL0, RegisterId::PMCNTENCLR_EL0);
    // Bits after a write of all ones to the clear register: 0 if a write clears bits, all bits if a
    // write replaces the state.
    for cleared_bits in [0, 0x8000_003f] {
        let registers = vec![
            testing::register_with_trials(set, 0x8000_001e, &[(u64::MAX, 0, 0x8000_003f)]),
            testing::register_with_trials(clear, 0x8000_001e, &[(u64::MAX, 0, cleared_bits)]),
        ];
        let host = testing::host(Features::PMU, registers);
        let vm = testing::vm(&host, Features::PMU, 1);
        let mut saved = save(vm.vcpus()).expect("readable");
        for id in [set, clear] {
            saved.vcpus[0].registers.insert(id, Value::U64(0x21));
        }
        load(&testing::plan(&saved, &host, Features::PMU), vm.vcpus()).expect("a load");
        assert_eq!(save(vm.vcpus()), Ok(saved));
    }
}

/// All vCPUs of a VM share PMCR_EL0.N: the last write before the first run determines it. KVM
/// ignores later writes of N without an error.
#[test]
fn an_ignored_write_is_a_mismatch() {
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
    let mismatches = |plan: &Plan, has_run: bool| {
        let vm = testing::vm(&host, Features::PMU, 2);
        if has_run {
            vm.mark_run();
        }
        let summary = load(plan, vm.vcpus()).expect("a load");
        let parts = summary.mismatches.iter().map(|mismatch| {
            (
                mismatch.vcpu,
                mismatch.written_value.as_u64(),
                mismatch.current_value.as_u64(),
            )
        });
        parts.collect::<Vec<_>>()
    };
    // Values of PMCR_EL0 with N = 6 and N = 5.
    let (six, five) = (Some(0x3000), Some(0x2800));
    assert_eq!(mismatches(&plan(0x2800, 0x2800), false), []);
    assert_eq!(
        mismatches(&plan(0x3000, 0x2800), false),
        [(Some(0), six, five)]
    );
    assert_eq!(
        mismatches(&plan(0x2800, 0x2800), true),
        [(Some(0), five, six), (Some(1), five, six)]
    );
}

/// Generates hosts of several generations, with all their features.
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

    /// Registers with any content are equal after a load into another VM of the same host.
    #[test]
    fn a_load_to_the_same_host_changes_nothing(
        (host, features) in hosts(),
        vcpus in 1_usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 0..60),
    ) {
        let source = testing::ready_vm(&host, features, vcpus);
        for (index, value) in changes {
            let vcpu = &source.vcpus()[index.index(vcpus)];
            let ids = crate::Vcpu::list(vcpu).expect("a list");
            let id = ids[index.index(ids.len())];
            let size = id.size_bytes().expect("a size");
            let bytes: Vec<_> = value.to_le_bytes().into_iter().cycle().take(size).collect();
            // A refused write leaves the register unchanged.
            let _ = crate::Vcpu::set(vcpu, id, &bytes);
        }
        let saved = save(source.vcpus()).expect("readable");
        let plan = testing::plan(&saved, &host, features);
        prop_assert_eq!(plan.outcome(), PlanOutcome::Ready);
        let destination = testing::vm(&host, features, vcpus);
        let result = load(&plan, destination.vcpus());
        prop_assert!(result.is_ok(), "{:?}", result);
        let loaded = save(destination.vcpus()).expect("readable");
        prop_assert_eq!(without_counters(saved), without_counters(loaded));
    }
}
