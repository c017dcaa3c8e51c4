//! [`MigrationPolicy`]: accepts or rejects a VM, and edits its device state. The relay carries the
//! decision out.

use cpreg::hardware::HardwareFacts;
use cpreg_stream::incremental::{DeviceStateBuffer, StreamSetup};
use cpreg_stream::{Cpu, Edit, Section, Stream};

/// Decision about the device state.
#[derive(Debug)]
pub enum Decision {
    /// Forwards the device state as edited.
    Forward(Edit),
    /// Rejects the VM. The policy keeps the reason for its caller.
    Reject,
}

/// Policy of one migration.
pub trait MigrationPolicy {
    /// Returns `true` if the migration may continue. The relay calls this function before the first
    /// page.
    fn on_setup(&mut self, setup: &StreamSetup) -> bool;

    /// Receives the properties of the VM's GICv3, which QEMU sends before the vCPUs. The relay
    /// calls this function before the first vCPU.
    fn on_hardware(&mut self, facts: HardwareFacts) {
        let _ = facts;
    }

    /// Returns the `cpu` section to send for the next vCPU, or `None` if the policy cannot decide
    /// yet.
    ///
    /// The relay calls this function while the source still sends the devices after the vCPU, so
    /// expensive preparation belongs here. If the policy leaves one vCPU undecided, the relay sends
    /// nothing early.
    fn on_vcpu(&mut self, cpu: &Cpu) -> Option<Cpu> {
        let _ = cpu;
        None
    }

    /// Returns `true` if the vCPUs may be sent early as decided. `sections` are those received so
    /// far, including all vCPUs.
    fn may_send_vcpus_early(&mut self, sections: &[Section]) -> bool {
        let _ = sections;
        false
    }

    /// Decides about the whole device state; `stream` is its parsed form. The relay has sent none
    /// of it, except perhaps the vCPUs. If it has sent them, the edited state must begin with the
    /// same bytes.
    fn on_device_state(&mut self, device_state: &DeviceStateBuffer, stream: Stream) -> Decision;
}
