//! Recorded outcomes of real QEMUs that loaded streams of other kernels and versions, against the
//! loader models.
//!
//! `tests/fixtures/recorded` has the registers of every recorded stream, and the outcomes of its
//! loads on other hosts. A stream stands for the host that wrote it, as for `cpreg check SOURCE
//! DESTINATION`. A prediction that is not null must be right, including its messages. Nearly all
//! pairs that the register list decides must be predicted.

#[path = "common/recorded.rs"]
mod recorded;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cpreg::destination::load::{self, SimulatedLoad};
use cpreg::destination::{Accelerator, Destination, DestinationVcpu, Loader, ValueOrigin};
use cpreg::hardware::HardwareFacts;
use cpreg::register::RegisterId;
use cpreg::vm::Vm;
use cpreg_explain::qemu::predict;
use recorded::{LoadOutcome, fixture, recorded_vms};

fn build_destination(name: &str, vm: &Vm) -> Destination {
    Destination {
        name: name.to_owned(),
        accelerator: Accelerator::from_registers(vm.vcpus[0].registers.iter().map(|(id, _)| id)),
        loader: None,
        value_origin: ValueOrigin::Guest,
        vcpus: vm.vcpus.iter().map(DestinationVcpu::from_vcpu).collect(),
        kernel_version: None,
        hardware: HardwareFacts::UNKNOWN,
        shape: None,
    }
}

/// Returns `true` if the register list decided the real outcome.
fn is_decided_by_list(outcome: &LoadOutcome, source: &Vm, destination: &Vm) -> bool {
    let has_line = |text: &str| outcome.messages.iter().any(|line| line.contains(text));
    if outcome.loads {
        let ids = |vm: &Vm| -> Vec<_> { vm.vcpus[0].registers.iter().map(|(id, _)| id).collect() };
        return ids(source) == ids(destination)
            && checked_values(source) == checked_values(destination);
    }
    has_line("cpreg_vmstate_array_len") || has_line("unknown on the destination: fail migration")
}

/// Returns the values that a host checks before it accepts them.
fn checked_values(vm: &Vm) -> Vec<(RegisterId, u64)> {
    let registers = vm.vcpus[0].registers.iter();
    registers
        .filter(|(id, _)| {
            use cpreg::destination::kernel::RegisterKind;
            !matches!(
                RegisterKind::from_id(*id),
                RegisterKind::Storage | RegisterKind::Counter
            )
        })
        .filter_map(|(id, value)| Some((id, value.as_u64()?)))
        .collect()
}

/// Returns the error of a prediction, if any.
fn prediction_error(
    outcome: &LoadOutcome,
    load: &SimulatedLoad,
    lines: &[String],
) -> Option<String> {
    if load.loads.is_some_and(|loads| loads != outcome.loads) {
        return Some(format!("predicted {:?}", load.loads));
    }
    load.loads?;
    let are_lines_right = if load.is_complete {
        lines == outcome.messages
    } else {
        // The predicted lines must be among the recorded ones, in the same order.
        let mut recorded = outcome.messages.iter();
        lines.iter().all(|line| recorded.any(|other| other == line))
    };
    (!are_lines_right).then(|| "other lines".to_owned())
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the numbers are worth a look: --nocapture"
)]
fn predictions_are_right_and_nearly_complete() {
    let vms = recorded_vms();
    let mut report = String::new();
    let mut by_group: BTreeMap<(String, &str), [usize; 4]> = BTreeMap::new();
    let (mut decided, mut predicted) = (0, 0);
    for line in fixture("outcomes.jsonl.xz").lines() {
        let outcome: LoadOutcome = serde_json::from_str(line).expect("one outcome a line");
        let source = &vms[&outcome.source];
        let destination_vm = &vms[&outcome.destination];
        let destination = build_destination(&outcome.destination, destination_vm);
        let accelerator = destination.accelerator.expect("known from the list");
        let loader: Loader = format!("qemu-{}", outcome.qemu).parse().expect("a version");
        let load = load::simulate(loader, source, &destination);
        let lines = predict::predicted_lines(loader, accelerator, &load);
        let group = by_group
            .entry((outcome.qemu.clone(), accelerator.name()))
            .or_default();
        group[0] += 1;
        group[1] += usize::from(load.loads.is_some());
        if is_decided_by_list(&outcome, source, destination_vm) {
            decided += 1;
            predicted += usize::from(load.loads.is_some());
            group[2] += 1;
            group[3] += usize::from(load.loads.is_some());
        }
        if let Some(error) = prediction_error(&outcome, &load, &lines) {
            let _ = writeln!(
                report,
                "{} -> {} ({}, complete {}): {error}\n  recorded:  {:#?}\n  predicted: {lines:#?}",
                outcome.source,
                outcome.destination,
                outcome.loads,
                load.is_complete,
                outcome.messages
            );
        }
    }
    for ((qemu, accelerator), [all, made, decided, predicted]) in &by_group {
        println!(
            "QEMU {qemu} {accelerator}: {made} of {all} predicted; of {decided} decided by the list {predicted}"
        );
    }
    assert!(report.is_empty(), "{report}");
    println!("{predicted} of {decided} decided by the list");
    assert!(predicted * 10 >= decided * 9, "{predicted} of {decided}");
}

/// Checks that no stream is refused that a real QEMU loads without loss.
#[test]
#[expect(
    clippy::print_stdout,
    reason = "the numbers are worth a look: --nocapture"
)]
fn loading_streams_are_not_refused() {
    use cpreg::plan::{Action, Check, Consents, Reason, Verdict};
    use cpreg::severity::Severity;
    use cpreg::tolerance::Tolerances;

    let vms = recorded_vms();
    let tolerances = Tolerances::default();
    let (mut strict, mut accepting) = (BTreeMap::new(), BTreeMap::new());
    let mut refused = Vec::new();
    for line in fixture("outcomes.jsonl.xz").lines() {
        let outcome: LoadOutcome = serde_json::from_str(line).expect("one outcome a line");
        let source = &vms[&outcome.source];
        let mut destination = build_destination(&outcome.destination, &vms[&outcome.destination]);
        destination.loader = format!("qemu-{}", outcome.qemu).parse().ok();
        let check = |consents: &Consents| Check::new(source, &destination, &tolerances, consents);
        let today = if outcome.loads {
            "loads today"
        } else {
            "fails today"
        };
        let as_is = check(&Consents::default());
        let verdict = as_is.verdict;
        *strict.entry((today, verdict.name())).or_insert(0) += 1;
        let all = Consents {
            accept_up_to: Some(Severity::High),
            ..Consents::default()
        };
        *accepting
            .entry((today, check(&all).verdict.name()))
            .or_insert(0) += 1;
        // QEMU loads some VMs that it cannot save again. The recorded outcomes show loads alone.
        let refusals = as_is
            .plan
            .decisions_where(|decision| decision.action == Action::Refuse);
        let mut reasons = refusals.iter().map(|(_, decision)| &decision.reason);
        let loads_once = reasons.len() > 0 && reasons.all(|it| *it == Reason::RemovedAtFirstRun);
        if outcome.loads && verdict == Verdict::Refused && !loads_once {
            refused.push(outcome.source);
        }
    }
    println!("strict: {strict:#?}\nwith every adjustment accepted: {accepting:#?}");
    // QEMU 10.0 drops services that the guest was offered, and 11.1 forgets that it has refused a
    // register.
    assert_eq!(
        refused,
        [
            "edited/6.16.12__q10.0__neoverse-n1__virt10.0-smp1-b9-psci11-bmap2-nonzero",
            "edited/6.12.107__q11.1__neoverse-n1__virt10.0-smp1-b3-add-unknown-before-tcr2",
        ]
    );
}
