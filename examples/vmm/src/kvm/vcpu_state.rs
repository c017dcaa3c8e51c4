//! A vCPU's state that is no register: whether PSCI has it off, and an SError that waits.

use kvm_bindings::{kvm_mp_state, kvm_vcpu_events};
use kvm_ioctls::VcpuFd;

use super::failure::step_failure;
use crate::migrate::Failure;
use crate::protocol::VcpuState;

/// Reads it. The vCPU does not run.
///
/// # Errors
/// Which part KVM does not tell.
pub fn save(vcpu: &VcpuFd) -> Result<VcpuState, Failure> {
    let power = vcpu
        .get_mp_state()
        .map_err(step_failure("KVM_GET_MP_STATE"))?;
    let events = vcpu
        .get_vcpu_events()
        .map_err(step_failure("KVM_GET_VCPU_EVENTS"))?
        .exception;
    let syndrome = (events.serror_has_esr != 0).then_some(events.serror_esr);
    Ok(VcpuState {
        mp_state: power.mp_state,
        serror: (events.serror_pending != 0).then_some(syndrome),
    })
}

/// Writes it.
///
/// # Errors
/// Which part KVM does not take.
pub fn load(vcpu: &VcpuFd, state: VcpuState) -> Result<(), Failure> {
    let power = kvm_mp_state {
        mp_state: state.mp_state,
    };
    vcpu.set_mp_state(power)
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
