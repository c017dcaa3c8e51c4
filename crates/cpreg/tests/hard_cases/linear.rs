//! Time that grows with the input and no faster.
//!
//! Times are those that this thread spends on a processor, of one input and of another four times as long, so that neither the
//! machine nor what else runs on it decides.

use cpreg::destination::Accelerator;
use cpreg::plan::{Consents, IgnoreConsent};
use cpreg::register::RegisterId;
use cpreg::severity::Severity;
use cpreg::shape::{DeviceSection, MachineShape, RamBlock};
use cpreg::vm::Vm;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::fixtures::{kvm, plan, vcpu, vm};

/// Asserts that four times as much takes less than ten times as long; what grows with the square takes sixteen times as long.
fn assert_linear(length: usize, take: impl Fn(usize)) {
    let of = |length| (0..3).map(|_| time(|| take(length))).min().unwrap_or(0);
    let (short, long) = (of(length), of(4 * length));
    assert!(long < 10 * short, "{short} ns and {long} ns");
}

/// Nanoseconds that this thread spends on a processor.
fn time(work: impl FnOnce()) -> i64 {
    let now = || {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
        tv_sec * 1_000_000_000 + tv_nsec
    };
    let before = now();
    work();
    now() - before
}

/// Each of many vCPUs differs from all others in everything.
#[test]
fn many_vcpus_that_agree_on_nothing_take_no_more_than_linear_time() {
    let ids: Vec<_> = (0..2)
        .flat_map(|op1| (0..16).flat_map(move |crm| (0..8).map(move |op2| (op1, crm, op2))))
        .map(|(op1, crm, op2)| RegisterId::sysreg(3, op1, 15, crm, op2))
        .collect();
    let of = |number: usize| -> Vec<_> { ids.iter().map(|id| (*id, number as u64)).collect() };
    let there = vm(&[&of(0)]);
    let mut destination = kvm(&there);
    destination.accelerator = Some(Accelerator::Tcg);
    let all = Consents {
        accept_up_to: Some(Severity::High),
        ignore: vec![IgnoreConsent {
            register: ids[0],
            condition: None,
        }],
        ..Consents::default()
    };
    assert_linear(8, |vcpus| {
        let vm = Vm {
            vcpus: (1..=vcpus).map(|number| vcpu(&of(number))).collect(),
        };
        let plan = plan(&vm, &destination, &all);
        assert_eq!(plan.decisions().len(), vcpus * ids.len());
    });
}

#[test]
fn many_devices_and_blocks_take_no_more_than_linear_time() {
    assert_linear(5_000, |length| {
        let shape = MachineShape {
            ram: (0..length)
                .map(|number| RamBlock {
                    name: format!("block{number}"),
                    length: 1,
                })
                .collect(),
            devices: (0..length)
                .map(|number| DeviceSection {
                    name: format!("device{number}"),
                    instance: 0,
                    version: 1,
                })
                .collect(),
            ..MachineShape::default()
        };
        assert_eq!(shape.differences(&shape.clone()), []);
    });
}
