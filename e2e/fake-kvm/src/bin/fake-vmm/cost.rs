//! Cost of calls, in nanoseconds per call.

use std::time::Instant;

use serde_json::json;

use super::calls::{Values, VmHandle};

/// Request that the fake KVM answers at once, and that is not one of KVM's.
const EMPTY_REQUEST: libc::c_ulong = 0x4e00;

/// Measures `count` calls of each kind on a VM that loads these values.
pub(crate) fn measure(incoming: &[Values], count: u32) -> serde_json::Value {
    let vm = VmHandle::create(incoming.len());
    let (vcpu, incoming) = (vm.vcpus[0], &incoming[0]);
    vcpu.initialize();
    let list = vcpu.list();
    let mut values: Values = list.iter().map(|id| (*id, vcpu.get(*id))).collect();
    let per_call = |calls: u32, action: &mut dyn FnMut()| {
        let start = Instant::now();
        action();
        start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    };
    let other = per_call(count, &mut || {
        for _ in 0..count {
            vcpu.call(EMPTY_REQUEST, std::ptr::null_mut());
        }
    });
    // QEMU writes back what it has read.
    let registers = u32::try_from(values.len()).expect("some hundred registers");
    let passes = count.div_ceil(registers);
    let own_write = per_call(passes * registers, &mut || {
        for _ in 0..passes {
            for (id, value) in &values {
                vcpu.set(*id, *value);
            }
        }
    });
    values.extend(incoming.iter().map(|(id, value)| (*id, *value)));
    let load = per_call(registers, &mut || {
        for (id, value) in &values {
            vcpu.set(*id, *value);
        }
    });
    let post_init = per_call(registers, &mut || {
        for (id, value) in &values {
            vcpu.set(*id, *value);
        }
    });
    assert!(vcpu.run());
    let run = per_call(count, &mut || {
        for _ in 0..count {
            vcpu.enter();
        }
    });
    json!({
        "other": other,
        "own_write": own_write,
        "load": load,
        "post_init": post_init,
        "run": run,
    })
}
