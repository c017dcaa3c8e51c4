//! [`MigrationPolicy`]: who decides whether a VM goes on, and as what. The relay asks and carries it out.

use cpreg_stream::incremental::{DeviceStateBuffer, StreamSetup};
use cpreg_stream::{Cpu, Edit, Section, Stream};

/// What becomes of the device state.
#[derive(Debug)]
pub enum Decision {
    /// It goes on as the edit makes it.
    Forward(Edit),
    /// It does not. Why is for the judge to tell.
    Reject,
}

/// Decides about one migration.
pub trait MigrationPolicy {
    /// Before the first page: whether the migration may go on so far.
    fn on_setup(&mut self, outline: &StreamSetup) -> bool;

    /// The next vCPU has come, and the devices behind it still do: its section as it will go on, if that can be told now.
    ///
    /// What can be made ready is made ready here: it is asked while the source still sends. Who does not tell has nothing go on early.
    fn on_vcpu(&mut self, cpu: &Cpu) -> Option<Cpu> {
        let _ = cpu;
        None
    }

    /// These sections have come, and with them all vCPUs: whether the vCPUs go on as they were told.
    fn may_send_vcpus_early(&mut self, come: &[Section]) -> bool {
        let _ = come;
        false
    }

    /// All device state has come, and opens as this stream: what becomes of it. None of it has gone on but perhaps the vCPUs, in which
    /// case what is decided must begin with them.
    fn on_device_state(&mut self, held: &DeviceStateBuffer, stream: Stream) -> Decision;
}
