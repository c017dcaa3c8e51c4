//! Lines of QEMU about a VM that does not start, because KVM refuses one of its devices.
//!
//! Sources: QEMU's `hw/intc/arm_gic_kvm.c`, `target/arm/kvm.c`, `block/snapshot.c` and lines in
//! public reports.

use crate::message::{StartDevice, Symptom};
use crate::pattern::{Cursor, Pattern, to_name};

/// Patterns of starts that failed.
pub(super) const PATTERNS: &[Pattern] = &[
    Pattern::for_any_version("KVM_SET_DEVICE_ATTR failed: ", |rest| {
        // With a group and an attribute, the device is not always being started.
        Some(Symptom::DeviceStart {
            device: StartDevice::InterruptController,
            error: Some(rest.parse_errno()?),
        })
    }),
    Pattern::for_any_version("Initialization of device arm_gic", parse_controller),
    Pattern::for_any_version("Initialization of device kvm-arm-gic", parse_controller),
    Pattern::for_any_version("PMU: KVM_SET_DEVICE_ATTR: ", |rest| {
        Some(Symptom::DeviceStart {
            device: StartDevice::Pmu,
            error: rest.parse_errno(),
        })
    }),
    Pattern::for_any_version("failed to set irq for PMU", |_| {
        Some(Symptom::DeviceStart {
            device: StartDevice::Pmu,
            error: None,
        })
    }),
    Pattern::for_any_version("does not have the requested snapshot '", |rest| {
        // The closing quote may be missing where a line was cut.
        let line = rest.rest_of_line();
        let name = line.split('\'').next().unwrap_or(line);
        Some(Symptom::SnapshotMissing {
            name: to_name(name),
        })
    }),
];

fn parse_controller(rest: &mut Cursor<'_>) -> Option<Symptom> {
    rest.take_until(" failed: ").or_else(|| {
        rest.expect(" failed")?;
        Some("")
    })?;
    Some(Symptom::DeviceStart {
        device: StartDevice::InterruptController,
        error: rest.parse_errno(),
    })
}
