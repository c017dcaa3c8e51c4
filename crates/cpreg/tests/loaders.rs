//! Loads under TCG that `cargo xtask model-check` found, each as it came out of a real QEMU.

use cpreg::destination::load::{self, IncomingVcpu, LoadEvent, LoadStep, SimulatedLoad};
use cpreg::destination::{
    Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu, Loader,
    ValueOrigin,
};
use cpreg::register::{RegisterId, Value};
use cpreg::vm::Extension;

const TPIDR: RegisterId = RegisterId::TPIDR_EL1;
const SCTLR: RegisterId = RegisterId::SCTLR_EL1;
/// A constant of the emulated CPU.
const ID: RegisterId = RegisterId::ID_AA64MMFR0_EL1;
const PMCR: RegisterId = RegisterId::PMCR_EL0;

type List<'a> = &'a [(RegisterId, u64)];

fn destination(loader: Loader, vcpus: usize, own: List<'_>) -> Destination {
    let registers = || {
        own.iter().map(|(id, value)| DestinationRegister {
            id: *id,
            value: Some(Value::U64(*value)),
            accepted_values: AcceptedValues::ByKind,
        })
    };
    Destination {
        name: "there".to_owned(),
        accelerator: Some(Accelerator::Tcg),
        loader: Some(loader),
        value_origin: ValueOrigin::Reset,
        vcpus: (0..vcpus)
            .map(|_| DestinationVcpu::new(registers(), Vec::new()))
            .collect(),
        shape: None,
    }
}

fn simulate(loader: Loader, own: List<'_>, vcpus: &[(List<'_>, &[Extension])]) -> SimulatedLoad {
    let lists: Vec<Vec<(RegisterId, Value)>> = vcpus
        .iter()
        .map(|(list, _)| list.iter().map(|(id, v)| (*id, Value::U64(*v))).collect())
        .collect();
    let lists: Vec<Vec<(RegisterId, &Value)>> = lists
        .iter()
        .map(|list| list.iter().map(|(id, value)| (*id, value)).collect())
        .collect();
    let arriving: Vec<_> = lists
        .iter()
        .zip(vcpus)
        .map(|(registers, (_, extensions))| IncomingVcpu {
            registers,
            extensions,
        })
        .collect();
    load::simulate_lists(loader, &arriving, &destination(loader, vcpus.len(), own))
}

const OWN: List<'static> = &[(ID, 0x1124), (SCTLR, 1), (TPIDR, 0), (PMCR, 6 << 11)];

/// What is out of turn is a register that it does not know; behind its last one nothing is looked at.
#[test]
fn an_unordered_list_is_merged_as_if_it_were_ordered() {
    let swapped: List<'_> = &[(ID, 0x1124), (TPIDR, 0), (SCTLR, 1), (PMCR, 6 << 11)];
    let told = simulate(Loader::qemu(10, 0), OWN, &[(swapped, &[])]);
    assert_eq!(told.loads, Some(false));
    let told = simulate(Loader::qemu(11, 1), OWN, &[(swapped, &[])]);
    let warned = LoadEvent::OnlyAtDestination { vcpu: 0, id: SCTLR };
    let named = LoadEvent::OnlyInInput { vcpu: 0, id: SCTLR };
    assert_eq!(told.events[..2], [warned, named]);

    let to_the_end: List<'_> = &[(ID, 0x1124), (SCTLR, 1), (PMCR, 6 << 11), (TPIDR, 7)];
    let told = simulate(Loader::qemu(10, 0), OWN, &[(to_the_end, &[])]);
    assert_eq!(
        (told.loads, told.lost_registers),
        (Some(true), vec![(0, TPIDR)])
    );
}

#[test]
fn a_register_twice_is_once_too_many_but_at_the_end() {
    let twice: List<'_> = &[(ID, 0x1124), (SCTLR, 1), (SCTLR, 1), (PMCR, 6 << 11)];
    let told = simulate(Loader::qemu(10, 0), OWN, &[(twice, &[])]);
    assert_eq!(told.loads, Some(false));
    let last: List<'_> = &[(ID, 0x1124), (SCTLR, 1), (PMCR, 6 << 11), (PMCR, 0)];
    let told = simulate(Loader::qemu(10, 0), OWN, &[(last, &[])]);
    assert_eq!(
        (told.loads, told.lost_registers),
        (Some(true), vec![(0, PMCR)])
    );
}

/// QEMU 5.2 writes every register, whatever the ones before came to, and so comes to the counters.
#[test]
fn qemu_5_2_dies_of_fewer_counters_even_where_it_would_fail() {
    let own: List<'_> = &[(ID, 0x1124), (PMCR, 6 << 11)];
    let fewer: List<'_> = &[(ID, 0x1125), (PMCR, 5 << 11)];
    let told = simulate(Loader::qemu(5, 2), own, &[(fewer, &[])]);
    assert_eq!(told.loads, Some(false));
    assert_eq!(told.events, [LoadEvent::AbortOnWrite { vcpu: 0, id: PMCR }]);
    let more: List<'_> = &[(ID, 0x1124), (PMCR, 7 << 11)];
    assert_eq!(
        simulate(Loader::qemu(5, 2), own, &[(more, &[])]).loads,
        Some(true)
    );
}

/// Undefined memory decides whether the first vCPU loads. The second one fails, and whether it is heard of is not known.
#[test]
fn after_what_cannot_be_told_nothing_is_sure_to_be_said() {
    let own: List<'_> = &[(RegisterId::ID_AA64AFR0_EL1, 0), (SCTLR, 1)];
    let left_out: List<'_> = &[(SCTLR, 1)];
    let unknown: List<'_> = &[(RegisterId::ID_AA64AFR0_EL1, 0), (SCTLR, 1), (TPIDR, 0)];
    let loader = Loader::qemu(11, 1);
    let missing = LoadEvent::OnlyAtDestination {
        vcpu: 0,
        id: RegisterId::ID_AA64AFR0_EL1,
    };
    let alone = simulate(loader, own, &[(left_out, &[])]);
    assert_eq!((alone.loads, alone.is_complete), (None, false));
    let told = simulate(loader, own, &[(left_out, &[]), (unknown, &[])]);
    assert_eq!((told.loads, told.is_complete), (Some(false), false));
    assert_eq!(told.events, [missing]);

    let named = LoadEvent::OnlyInInput { vcpu: 0, id: TPIDR };
    let fails = LoadEvent::LoadFailed {
        vcpu: 0,
        step: LoadStep::Registers,
    };
    let told = simulate(loader, own, &[(unknown, &[])]);
    assert_eq!((told.is_complete, told.events), (true, vec![named, fails]));
}
