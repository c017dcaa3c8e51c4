//! Linear running time.
//!
//! The tests compare this thread's CPU time for one input and for another four times as long, so
//! that the machine's speed and load do not matter.

use cpreg::destination::Accelerator;
use cpreg::plan::{Consents, IgnoreConsent};
use cpreg::register::RegisterId;
use cpreg::severity::Severity;
use cpreg::shape::{DeviceSection, MachineShape, RamBlock};
use cpreg::vm::Vm;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::fixtures::{kvm, plan, vcpu, vm};

/// Asserts that four times the length takes less than ten times as long.
///
/// Quadratic work takes sixteen times as long.
fn assert_linear(length: usize, work: impl Fn(usize)) {
    let min_time = |length| (0..3).map(|_| time(|| work(length))).min().unwrap_or(0);
    let (short, long) = (min_time(length), min_time(4 * length));
    assert!(long < 10 * short, "{short} ns and {long} ns");
}

/// Returns this thread's CPU time for `work` in nanoseconds.
fn time(work: impl FnOnce()) -> i64 {
    let now = || {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
        tv_sec * 1_000_000_000 + tv_nsec
    };
    let before = now();
    work();
    now() - before
}

/// Each vCPU differs from all others in every register.
#[test]
fn planning_is_linear_in_different_vcpus() {
    let ids: Vec<_> = (0..2)
        .flat_map(|op1| (0..16).flat_map(move |crm| (0..8).map(move |op2| (op1, crm, op2))))
        .map(|(op1, crm, op2)| RegisterId::sysreg(3, op1, 15, crm, op2))
        .collect();
    let registers =
        |number: usize| -> Vec<_> { ids.iter().map(|id| (*id, number as u64)).collect() };
    let mut destination = kvm(&vm(&[&registers(0)]));
    destination.accelerator = Some(Accelerator::Tcg);
    let consents = Consents {
        accept_up_to: Some(Severity::High),
        ignore: vec![IgnoreConsent {
            register: ids[0],
            condition: None,
        }],
        ..Consents::default()
    };
    assert_linear(8, |vcpus| {
        let vm = Vm {
            vcpus: (1..=vcpus).map(|number| vcpu(&registers(number))).collect(),
            ..Vm::default()
        };
        let plan = plan(&vm, &destination, &consents);
        assert_eq!(plan.decisions().len(), vcpus * ids.len());
    });
}

#[test]
fn comparing_shapes_is_linear() {
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
