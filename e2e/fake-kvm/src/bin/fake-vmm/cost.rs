//! Cost of calls, in nanoseconds per call.

use std::time::Instant;

use serde_json::json;

use super::calls::{Values, Vcpu, VmHandle};

/// Request that the fake KVM answers at once, and that is not one of KVM's.
const EMPTY_REQUEST: libc::c_ulong = 0x4e00;

/// Measures `count` calls of each kind on a VM that loads these values.
pub(crate) fn measure(incoming: &[Values], count: u32) -> serde_json::Value {
    let vm = VmHandle::create(incoming.len());
    let vcpus = || vm.vcpus.iter().copied();
    let values: Vec<Values> = vcpus().map(initial_values).collect();
    let first = vm.vcpus[0];
    let other = per_call(count, || {
        for _ in 0..count {
            first.call(EMPTY_REQUEST, std::ptr::null_mut());
        }
    });
    // QEMU writes back what it has read.
    let passes = count.div_ceil(length(&values[0]));
    let own_write = per_call(passes * length(&values[0]), || {
        for _ in 0..passes {
            write_all(first, &values[0]);
        }
    });
    let mut values = values;
    for (values, incoming) in values.iter_mut().zip(incoming) {
        values.extend(incoming.iter().map(|(id, value)| (*id, *value)));
    }
    let registers = values.iter().map(length).sum();
    let load = per_call(registers, || {
        for (vcpu, values) in vcpus().zip(&values) {
            write_all(vcpu, values);
        }
    });
    // The first write of the next pass makes the plan for the VM.
    let (id, value) = values[0].first_key_value().expect("a register");
    let plan = per_call(1, || {
        first.set(*id, *value);
    });
    let post_init = per_call(registers, || {
        for (vcpu, values) in vcpus().zip(&values) {
            write_all(vcpu, values);
        }
    });
    assert!(vcpus().all(Vcpu::run));
    let run = per_call(count, || {
        for _ in 0..count {
            first.enter();
        }
    });
    json!({
        "other": other,
        "own_write": own_write,
        "load": load,
        "plan": plan,
        "post_init": post_init,
        "run": run,
    })
}

/// Initialises a vCPU, and reads all registers that it lists.
fn initial_values(vcpu: Vcpu) -> Values {
    vcpu.initialize();
    let list = vcpu.list();
    list.iter().map(|id| (*id, vcpu.get(*id))).collect()
}

/// Returns the number of registers.
fn length(values: &Values) -> u32 {
    u32::try_from(values.len()).expect("some hundred registers")
}

fn write_all(vcpu: Vcpu, values: &Values) {
    for (id, value) in values {
        vcpu.set(*id, *value);
    }
}

/// Returns the nanoseconds of each of `calls` calls, which `action` makes.
fn per_call(calls: u32, action: impl FnOnce()) -> f64 {
    let start = Instant::now();
    action();
    start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}
