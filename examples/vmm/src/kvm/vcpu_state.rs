//! State of a vCPU that is not a register: its power state in PSCI, and a pending SError.

use kvm_bindings::{kvm_mp_state, kvm_vcpu_events};
use kvm_ioctls::VcpuFd;

use super::failure::step_failure;
use crate::migrate::Failure;
use crate::protocol::VcpuState;

/// Reads the state of a vCPU that does not run.
///
/// # Errors
/// Fails with the part that KVM does not return.
pub fn save(vcpu: &VcpuFd) -> Result<VcpuState, Failure> {
    let mp_state = vcpu
        .get_mp_state()
        .map_err(step_failure("KVM_GET_MP_STATE"))?;
    let events = vcpu
        .get_vcpu_events()
        .map_err(step_failure("KVM_GET_VCPU_EVENTS"))?
        .exception;
    let syndrome = (events.serror_has_esr != 0).then_some(events.serror_esr);
    Ok(VcpuState {
        mp_state: mp_state.mp_state,
        serror: (events.serror_pending != 0).then_some(syndrome),
    })
}

/// Writes the state of a vCPU that does not run.
///
/// # Errors
/// Fails with the part that KVM does not accept.
pub fn load(vcpu: &VcpuFd, state: VcpuState) -> Result<(), Failure> {
    let mp_state = kvm_mp_state {
        mp_state: state.mp_state,
    };
    vcpu.set_mp_state(mp_state)
        .map_err(step_failure("KVM_SET_MP_STATE"))?;
    let mut events = kvm_vcpu_events::default();
    if let Some(syndrome) = state.serror {
        events.exception.serror_pending = 1;
        events.exception.serror_has_esr = u8::from(syndrome.is_some());
        events.exception.serror_esr = syndrome.unwrap_or_default();
    }
    vcpu.set_vcpu_events(&events)
        .map_err(step_failure("KVM_SET_VCPU_EVENTS"))
}
