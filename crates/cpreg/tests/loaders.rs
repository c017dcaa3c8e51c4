//! Loads under TCG that `cargo xtask model-check` found, each with the result of a real QEMU.

use cpreg::destination::load::{self, IncomingVcpu, LoadEvent, LoadStep, SimulatedLoad};
use cpreg::destination::{
    Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu, Loader,
    ValueOrigin,
};
use cpreg::hardware::HardwareFacts;
use cpreg::register::{RegisterId, Value};
use cpreg::vm::Extension;

const TPIDR: RegisterId = RegisterId::TPIDR_EL1;
const SCTLR: RegisterId = RegisterId::SCTLR_EL1;
/// Register that is constant in the emulated CPU.
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
        name: "destination".to_owned(),
        accelerator: Some(Accelerator::Tcg),
        loader: Some(loader),
        value_origin: ValueOrigin::Reset,
        vcpus: (0..vcpus)
            .map(|_| DestinationVcpu::new(registers(), Vec::new()))
            .collect(),
        kernel_version: None,
        hardware: HardwareFacts::UNKNOWN,
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
    let incoming: Vec<_> = lists
        .iter()
        .zip(vcpus)
        .map(|(registers, (_, extensions))| IncomingVcpu {
            registers,
            extensions,
        })
        .collect();
    load::simulate_lists(loader, &incoming, &destination(loader, vcpus.len(), own))
}

const OWN: List<'static> = &[(ID, 0x1124), (SCTLR, 1), (TPIDR, 0), (PMCR, 6 << 11)];

/// QEMU treats a register out of order as unknown, and ignores registers after its own last one.
#[test]
fn an_unordered_list_is_merged_as_if_it_were_ordered() {
    let swapped: List<'_> = &[(ID, 0x1124), (TPIDR, 0), (SCTLR, 1), (PMCR, 6 << 11)];
    let load = simulate(Loader::qemu(10, 0), OWN, &[(swapped, &[])]);
    assert_eq!(load.loads, Some(false));
    let load = simulate(Loader::qemu(11, 1), OWN, &[(swapped, &[])]);
    let warning = LoadEvent::DestinationOnly { vcpu: 0, id: SCTLR };
    let failure = LoadEvent::SourceOnly { vcpu: 0, id: SCTLR };
    assert_eq!(load.events[..2], [warning, failure]);

    let after_the_last: List<'_> = &[(ID, 0x1124), (SCTLR, 1), (PMCR, 6 << 11), (TPIDR, 7)];
    let load = simulate(Loader::qemu(10, 0), OWN, &[(after_the_last, &[])]);
    assert_eq!(
        (load.loads, load.lost_registers),
        (Some(true), vec![(0, TPIDR)])
    );
}

#[test]
fn a_duplicate_register_fails_except_at_the_end() {
    let twice: List<'_> = &[(ID, 0x1124), (SCTLR, 1), (SCTLR, 1), (PMCR, 6 << 11)];
    let load = simulate(Loader::qemu(10, 0), OWN, &[(twice, &[])]);
    assert_eq!(load.loads, Some(false));
    let last: List<'_> = &[(ID, 0x1124), (SCTLR, 1), (PMCR, 6 << 11), (PMCR, 0)];
    let load = simulate(Loader::qemu(10, 0), OWN, &[(last, &[])]);
    assert_eq!(
        (load.loads, load.lost_registers),
        (Some(true), vec![(0, PMCR)])
    );
}

/// QEMU 5.2 continues writing after a failed register, and so reaches the counters.
#[test]
fn qemu_5_2_aborts_with_fewer_counters_even_after_a_failure() {
    let own: List<'_> = &[(ID, 0x1124), (PMCR, 6 << 11)];
    let fewer: List<'_> = &[(ID, 0x1125), (PMCR, 5 << 11)];
    let load = simulate(Loader::qemu(5, 2), own, &[(fewer, &[])]);
    assert_eq!(load.loads, Some(false));
    assert_eq!(load.events, [LoadEvent::AbortOnWrite { vcpu: 0, id: PMCR }]);
    let more: List<'_> = &[(ID, 0x1124), (PMCR, 7 << 11)];
    assert_eq!(
        simulate(Loader::qemu(5, 2), own, &[(more, &[])]).loads,
        Some(true)
    );
}

/// Uninitialised memory decides whether the first vCPU loads. The second one fails, but it is not
/// known whether QEMU reports that.
#[test]
fn events_after_an_unknown_result_are_uncertain() {
    let own: List<'_> = &[(RegisterId::ID_AA64AFR0_EL1, 0), (SCTLR, 1)];
    let without_id: List<'_> = &[(SCTLR, 1)];
    let with_unknown: List<'_> = &[(RegisterId::ID_AA64AFR0_EL1, 0), (SCTLR, 1), (TPIDR, 0)];
    let loader = Loader::qemu(11, 1);
    let missing = LoadEvent::DestinationOnly {
        vcpu: 0,
        id: RegisterId::ID_AA64AFR0_EL1,
    };
    let first_only = simulate(loader, own, &[(without_id, &[])]);
    assert_eq!((first_only.loads, first_only.is_complete), (None, false));
    let load = simulate(loader, own, &[(without_id, &[]), (with_unknown, &[])]);
    assert_eq!((load.loads, load.is_complete), (Some(false), false));
    assert_eq!(load.events, [missing]);

    let failure = LoadEvent::SourceOnly { vcpu: 0, id: TPIDR };
    let load_failed = LoadEvent::LoadFailed {
        vcpu: 0,
        step: LoadStep::Registers,
    };
    let load = simulate(loader, own, &[(with_unknown, &[])]);
    assert_eq!(
        (load.is_complete, load.events),
        (true, vec![failure, load_failed])
    );
}
