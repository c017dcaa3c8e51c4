//! Simulation of a load by Firecracker and Cloud Hypervisor, register by register.
//!
//! Both write the registers of the snapshot to KVM one after the other, and end the load at the
//! first that KVM refuses. Neither compares lists, skips a register or names a second one.
//!
//! | | Firecracker | Cloud Hypervisor |
//! |---|---|---|
//! | first | `KVM_REG_ARM64_SVE_VLS` | `KVM_REG_ARM64_SVE_VLS` |
//! | then | all others in the stored order | core registers, SVE, others in the stored order |
//! | last | – | the virtual counter; since v53 fails if the counter frequency differs |
//! | message | the register; since 1.13 also the value | the errno only |
//!
//! The order of a snapshot is that of KVM's list, which differs between kernels. Without the stored
//! order the first refused register is known only if KVM refuses no other.
//!
//! Sources: Firecracker `src/vmm/src/arch/aarch64/vcpu.rs` of v1.10 to v1.16, Cloud Hypervisor
//! `hypervisor/src/kvm/mod.rs` of v51 to v53, and recorded loads.

use alloc::vec::Vec;

use super::accept::Acceptor;
use super::load_event::LoadEvent;
use super::loader::Program;
use super::simulated_load::{IncomingVcpu, SimulatedLoad};
use super::{Confidence, Destination, DestinationVcpu, Loader, Version, kernel};
use crate::errno::Errno;
use crate::hardware::HardwareFacts;
use crate::register::{RegisterId, Value};

/// Knowledge about the order of the registers in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputOrder {
    /// The order in which the loader writes the registers.
    Stored,
    /// Another order.
    Unknown,
}

/// Result of one write.
enum WriteResult {
    Accepted(Confidence),
    Refused(Errno, Confidence),
    Unknown,
}

/// Simulates the load of these vCPUs.
pub(super) fn simulate(
    loader: Loader,
    vcpus: &[IncomingVcpu<'_>],
    destination: &Destination,
    order: InputOrder,
) -> SimulatedLoad {
    let acceptor = Acceptor {
        loader: Some(loader),
        ..destination.acceptor()
    };
    let observed = if loader.is_observed() {
        Confidence::Proven
    } else {
        Confidence::Inferred
    };
    let mut load = SimulatedLoad {
        loads: Some(true),
        confidence: observed.min(destination.value_origin.max_confidence()),
        events: Vec::new(),
        is_complete: true,
        lost_registers: Vec::new(),
    };
    for (number, vcpu) in vcpus.iter().enumerate() {
        let Some(destination_vcpu) = destination.vcpu(number) else {
            return SimulatedLoad::unknown();
        };
        let mut refused = Vec::new();
        let mut writes = Vec::with_capacity(vcpu.registers.len());
        let (first, others): (Vec<_>, Vec<_>) = vcpu
            .registers
            .iter()
            .partition(|(id, _)| *id == RegisterId::SVE_VLS);
        for (id, value) in first.into_iter().chain(others) {
            let result = write(acceptor, destination_vcpu, &writes, id, value, order);
            writes.push((id, value));
            match result {
                WriteResult::Accepted(confidence) => {
                    load.confidence = load.confidence.min(confidence);
                }
                WriteResult::Unknown => {
                    load.loads = None;
                    load.is_complete = false;
                }
                WriteResult::Refused(errno, confidence) => {
                    refused.push((id, value, errno));
                    if refused.len() == 1 {
                        load.confidence = load.confidence.min(confidence);
                    }
                    if order == InputOrder::Stored {
                        break;
                    }
                }
            }
        }
        let Some((id, value, errno)) = refused.first() else {
            continue;
        };
        load.loads = Some(false);
        load.is_complete &= refused.len() == 1;
        if load.is_complete {
            load.events.push(LoadEvent::WriteFailed {
                vcpu: number,
                id: *id,
                value: (*value).clone(),
                errno: *errno,
            });
        }
        return load;
    }
    load
}

/// First version of Cloud Hypervisor that compares the counter frequency (`restore_clock` in its
/// `hypervisor/src/kvm/mod.rs`).
const FIRST_WITH_CLOCK: Version = Version::new(53, 0);

/// Adds the comparison of counter frequencies, which follows the registers, to a load.
pub(super) fn with_clock(
    mut load: SimulatedLoad,
    loader: Loader,
    source: HardwareFacts,
    destination: &Destination,
) -> SimulatedLoad {
    let compares =
        loader.program == Program::CLOUD_HYPERVISOR && loader.version >= FIRST_WITH_CLOCK;
    let (source, host) = destination.comparable_facts(source);
    let frequencies = source.counter_frequency.zip(host.counter_frequency);
    let Some((saved, host)) = frequencies.filter(|(saved, host)| saved != host) else {
        return load;
    };
    if compares && load.loads != Some(false) {
        // An unknown register may fail before.
        if load.loads == Some(true) {
            load.events
                .push(LoadEvent::CounterFrequency { saved, host });
        }
        load.loads = Some(false);
        load.confidence = load.confidence.min(Confidence::Inferred);
    }
    load
}

/// Returns the result of writing a register after these writes.
fn write(
    acceptor: Acceptor,
    destination_vcpu: &DestinationVcpu,
    writes: &[(RegisterId, &Value)],
    id: RegisterId,
    value: &Value,
    order: InputOrder,
) -> WriteResult {
    let Some(register) = destination_vcpu.get(id) else {
        return WriteResult::Refused(Errno::ENOENT, Confidence::Inferred);
    };
    if let Some(gate) = kernel::find_active_gate(acceptor.kernel_version, id)
        && let Some((_, Value::U64(written))) = writes
            .iter()
            .find(|(written, _)| *written == gate.id_register)
        && gate.hides(*written)
        && destination_vcpu.value(gate.id_register) != Some(*written)
    {
        let is_gated = kernel::gates_by_vm_id_field(destination_vcpu, acceptor.kernel_version, id);
        return match (is_gated, order) {
            (Some(true), InputOrder::Stored) => {
                WriteResult::Refused(Errno::ENOENT, Confidence::Inferred)
            }
            (Some(false), _) => evaluate(acceptor, destination_vcpu, register, value),
            _ => WriteResult::Unknown,
        };
    }
    evaluate(acceptor, destination_vcpu, register, value)
}

fn evaluate(
    acceptor: Acceptor,
    destination_vcpu: &DestinationVcpu,
    register: &super::DestinationRegister,
    value: &Value,
) -> WriteResult {
    let acceptance = acceptor.evaluate(destination_vcpu, register, value);
    match acceptance.as_bool() {
        Some(true) => WriteResult::Accepted(acceptance.confidence()),
        Some(false) => WriteResult::Refused(Errno::EINVAL, acceptance.confidence()),
        None => WriteResult::Unknown,
    }
}
