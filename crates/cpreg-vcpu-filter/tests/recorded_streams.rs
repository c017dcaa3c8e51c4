//! Loads of the recorded streams on the recorded hosts, with QEMU's calls: the filter decides as
//! `cpreg convert` does.

mod common;

use std::collections::BTreeSet;

use cpreg::destination::loader::Program;
use cpreg::destination::{Destination, DestinationVcpu, Features, Loader};
use cpreg::plan::{Action, Consents, Plan, PlanOutcome};
use cpreg::register::{RegisterId, Value};
use cpreg::severity::Severity;
use cpreg::tolerance::{
    Category, Condition, Handling, RegisterDifference, RegisterSelector, Tolerance, Tolerances,
};
use cpreg::vm::Vm;
use cpreg_hosts::HostIndex;
use cpreg_kvm::recorded::RecordedHost;
use cpreg_kvm::{Vm as _, probe, value};

use common::{Outcome, Qemu, Step};
use cpreg_vcpu_filter::{Event, Policy};

/// Returns the destination with which `cpreg convert` decides.
fn conversion_destination(vm: &Vm, host: &RecordedHost, features: Features) -> Destination {
    let mut destination =
        probe::probe_destination(host, features, vm.vcpus.len(), "here").expect("a destination");
    let lists = destination.vcpus.iter().map(|vcpu| {
        let registers = vcpu
            .registers()
            .iter()
            .filter(|register| Program::QEMU.has_in_list(register.id));
        DestinationVcpu::new(registers.cloned(), Vec::new())
    });
    destination.vcpus = lists.collect();
    destination.loader = Some(Loader::CPREG);
    destination
}

/// Returns the blocking registers of a plan, with the texts of their reasons.
fn blocking(plan: &Plan) -> BTreeSet<(RegisterId, String)> {
    let tolerances = Tolerances::default();
    let decisions = plan.decisions().into_iter();
    let blocking = decisions
        .filter(|(_, decision)| matches!(decision.action, Action::Refuse | Action::Undecided));
    let texts = blocking.map(|(_, decision)| {
        let reason = decision.reason.display(&tolerances).to_string();
        (decision.register, reason)
    });
    texts.collect()
}

/// Compares the filter's decision with the plan's. Returns `true` if the VM runs.
fn compare(
    case: &str,
    vm: &Vm,
    host: &RecordedHost,
    destination: &Destination,
    policy: Policy,
) -> bool {
    let features = common::features(vm);
    let tolerances = Tolerances::default();
    let plan = Plan::new(vm, destination, &tolerances, &policy.consents);
    let mut qemu = Qemu::start(host, features, vm.vcpus.len(), policy);
    let outcome = qemu.load(vm);
    let expected = blocking(&plan);
    match &outcome {
        Outcome::Runs => {
            assert_eq!(plan.outcome(), PlanOutcome::Ready, "{case}: {expected:?}");
            compare_state(case, &plan, &qemu, host, features);
            check_reported_changes(case, vm, &mut qemu);
        }
        Outcome::QemuRefuses(registers) => {
            for register in registers {
                let mut blocking = expected.iter();
                assert!(
                    blocking.any(|(other, _)| other == register),
                    "{case}: {register}"
                );
            }
        }
        Outcome::FilterRefuses(step, refusal) => {
            assert_ne!(*step, Step::Run, "{case}: {refusal}");
            let registers = refusal.registers.iter();
            let refused: BTreeSet<_> = registers
                .map(|register| (register.register, register.reason.clone()))
                .collect();
            assert!(refused.is_subset(&expected), "{case}: {refusal}");
            if *step == Step::PostInit {
                assert_eq!(refused, expected, "{case}: {refusal}");
            }
        }
    }
    outcome == Outcome::Runs
}

/// Compares the registers of the running VM with those of a load by cpreg.
fn compare_state(case: &str, plan: &Plan, qemu: &Qemu, host: &RecordedHost, features: Features) {
    let other = cpreg_kvm::Host::create_vm(host, features, plan.vcpus.len()).expect("a VM");
    cpreg_kvm::load(plan, other.vcpus()).unwrap_or_else(|error| panic!("{case}: {error}"));
    for (number, (vcpu, other)) in qemu.vm.vcpus().iter().zip(other.vcpus()).enumerate() {
        for id in qemu.list(number) {
            let is_timed = id.is_counter(cpreg::register::Naming::Kvm)
                || cpreg::destination::kernel::time_dependent_bits(id) != 0;
            // QEMU writes the clearing registers of the PMU's pairs with the saved values.
            if is_timed || id.is_pmu() {
                continue;
            }
            let values = [value::read(vcpu, id), value::read(other, id)];
            assert_eq!(values[0], values[1], "{case}: vCPU {number}, {id}");
        }
    }
}

/// Checks that the events name each ID register and control register that holds another value than
/// the incoming one.
fn check_reported_changes(case: &str, vm: &Vm, qemu: &mut Qemu) {
    let mut reported = BTreeSet::new();
    for event in qemu.filter.take_events() {
        if let Event::Loaded { changed, .. } = event {
            reported.extend(changed.into_iter().map(|change| change.register));
        }
    }
    for (number, vcpu) in vm.vcpus.iter().enumerate() {
        let kernel = &qemu.vm.vcpus()[number];
        for (id, incoming) in vcpu
            .registers
            .iter()
            .filter(|(id, _)| probe::can_probe(*id))
        {
            let is_other = value::read(kernel, id).is_ok_and(|held| held != *incoming);
            assert!(!is_other || reported.contains(&id), "{case}: {id}");
        }
    }
}

/// Loads that run, and loads that do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    runs: usize,
    refused: usize,
}

/// Loads every stream on every recorded host with its CPU, without consents and with a consent to
/// all changes up to medium severity.
#[test]
fn the_filter_decides_as_convert_does() {
    let index = HostIndex::built_in().expect("the built-in index");
    let medium = Consents {
        accept_up_to: Some(Severity::Medium),
        ..Consents::default()
    };
    let mut counts = [Consents::default(), medium].map(|consents| (consents, Counts::default()));
    for (name, vm) in common::recorded_vms() {
        let cpu = name.split("__").nth(2).expect("a CPU");
        let features = common::features(&vm);
        let hosts = index.hosts();
        let hosts = hosts
            .iter()
            .filter(|host| host.model() == cpu && host.mode().is_empty());
        for host in hosts {
            let case = format!("{name} to {}", host.name());
            let host = RecordedHost::new(host.record());
            if !host.record().guests.contains_key(&features) {
                continue;
            }
            let destination = conversion_destination(&vm, &host, features);
            for (consents, counts) in &mut counts {
                let mut policy = common::receiving_policy(&index, &host, features);
                policy.consents = consents.clone();
                if compare(&case, &vm, &host, &destination, policy) {
                    counts.runs += 1;
                } else {
                    counts.refused += 1;
                }
            }
        }
    }
    let counts = counts.map(|(_, counts)| counts);
    let expected = [(113, 41), (150, 4)].map(|(runs, refused)| Counts { runs, refused });
    assert_eq!(counts, expected);
}

#[test]
fn registers_that_6_16_lacks_are_remembered() {
    let index = HostIndex::built_in().expect("the built-in index");
    let host = common::recorded_host(&index, "linux-6.16.12/neoverse-n1");
    let vms = common::recorded_vms();
    let stream = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1";
    let (_, vm) = vms.iter().find(|(name, _)| name == stream).expect("a VM");
    let features = common::features(vm);
    let policy = common::receiving_policy(&index, &host, features);
    let mut qemu = Qemu::start(&host, features, 1, policy);
    assert_eq!(qemu.read(0, RegisterId::PIR_EL1), Some(0));
    assert_eq!(qemu.load(vm), Outcome::Runs);
    let incoming = vm.vcpus[0].registers.get_u64(RegisterId::PIR_EL1);
    assert!(incoming.is_some_and(|value| value != 0));
    assert_eq!(qemu.read(0, RegisterId::PIR_EL1), incoming);
}

/// The physical timer is in use, and 6.1 lacks its registers. QEMU writes the cache geometry and
/// the ID registers before.
#[test]
fn an_early_refusal_names_the_registers_that_arrived_before() {
    let index = HostIndex::built_in().expect("the built-in index");
    let host = common::recorded_host(&index, "linux-6.1.176/neoverse-n1");
    let vms = common::recorded_vms();
    let stream = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1";
    let (_, mut vm) = vms
        .into_iter()
        .find(|(name, _)| name == stream)
        .expect("a VM");
    let registers = &mut vm.vcpus[0].registers;
    registers.insert(RegisterId::PTIMER_CTL, Value::U64(1));
    let features = common::features(&vm);
    let policy = common::receiving_policy(&index, &host, features);
    let outcome = Qemu::start(&host, features, 1, policy).load(&vm);
    let Outcome::FilterRefuses(Step::Load, refusal) = outcome else {
        panic!("{outcome:?}");
    };
    let names = refusal.registers.iter();
    let names: Vec<_> = names
        .map(|blocking| blocking.register.to_string())
        .collect();
    let expected = [
        "CCSIDR_EL1[0]",
        "CCSIDR_EL1[1]",
        "CCSIDR_EL1[2]",
        "ID_AA64DFR0_EL1",
        "CLIDR_EL1",
        "CNTP_CTL_EL0",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_tolerance_of_the_operator_decides() {
    let index = HostIndex::built_in().expect("the built-in index");
    let host = common::recorded_host(&index, "linux-6.12.107/neoverse-n1");
    let vms = common::recorded_vms();
    let stream = "6.16.12__q10.0__neoverse-n1__virt10.0-smp1";
    let (_, mut vm) = vms
        .into_iter()
        .find(|(name, _)| name == stream)
        .expect("a VM");
    // The built-in table ignores the register only if it is 0.
    let registers = &mut vm.vcpus[0].registers;
    registers.insert(RegisterId::VENDOR_HYP_BMAP_2, Value::U64(1));
    let features = common::features(&vm);
    let entry = Tolerance {
        registers: RegisterSelector::Ids(vec![RegisterId::VENDOR_HYP_BMAP_2].into()),
        condition: Condition::Always,
        category: Category::Operator,
        visible_effect: None,
        ..Tolerances::default().entries()[0].clone()
    };
    assert_eq!(entry.difference, RegisterDifference::SourceOnly);
    assert_eq!(entry.handling, Handling::Ignore);
    for (entries, runs) in [(Vec::new(), false), (vec![entry], true)] {
        let policy = Policy {
            operator_entries: entries,
            consents: Consents {
                accept: vec![RegisterId::PSCI_VERSION],
                ..Consents::default()
            },
            ..common::receiving_policy(&index, &host, features)
        };
        let mut qemu = Qemu::start(&host, features, 1, policy);
        let outcome = qemu.load(&vm);
        assert_eq!(outcome == Outcome::Runs, runs, "{outcome:?}");
    }
}
