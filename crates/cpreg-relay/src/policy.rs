//! [`MigrationPolicy`]: decides whether and as what a VM is forwarded. The relay carries it out.

use cpreg_stream::incremental::{DeviceStateBuffer, StreamSetup};
use cpreg_stream::{Cpu, Edit, Section, Stream};

/// Decision about the device state.
#[derive(Debug)]
pub enum Decision {
    /// Forwards the device state as edited.
    Forward(Edit),
    /// Rejects the VM. The policy keeps the reason.
    Reject,
}

/// Policy of one migration.
pub trait MigrationPolicy {
    /// Returns `true` if the migration may continue; called before the first page.
    fn on_setup(&mut self, setup: &StreamSetup) -> bool;

    /// Returns the section to send for the next vCPU, or `None` if that cannot be decided yet.
    ///
    /// The relay calls it while the source still sends the devices after the vCPU, so expensive
    /// preparation belongs here. If the policy leaves one vCPU undecided, the relay sends nothing
    /// early.
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

    /// Decides about the whole device state, which opens as `stream`. Nothing of it has been sent,
    /// except perhaps the vCPUs, in which case the decision must begin with them.
    fn on_device_state(&mut self, device_state: &DeviceStateBuffer, stream: Stream) -> Decision;
}
