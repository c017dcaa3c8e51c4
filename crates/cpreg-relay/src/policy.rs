//! [`Judge`]: who decides whether a VM goes on, and as what. The relay asks and carries it out.

use cpreg_stream::incremental::{Held, Outline};
use cpreg_stream::{Cpu, Edit, Section, Stream};

/// What becomes of the device state.
#[derive(Debug)]
pub enum Judgement {
    /// It goes on as the edit makes it.
    GoesOn(Edit),
    /// It does not. Why is for the judge to tell.
    Refused,
}

/// Decides about one migration.
pub trait Judge {
    /// Before the first page: whether the migration may go on so far.
    fn may_begin(&mut self, outline: &Outline) -> bool;

    /// The next vCPU has come, and the devices behind it still do: its section as it will go on, if that can be told now.
    ///
    /// What can be made ready is made ready here: it is asked while the source still sends. Who does not tell has nothing go on early.
    fn vcpu(&mut self, cpu: &Cpu) -> Option<Cpu> {
        let _ = cpu;
        None
    }

    /// These sections have come, and with them all vCPUs: whether the vCPUs go on as they were told.
    fn vcpus_may_go_on(&mut self, come: &[Section]) -> bool {
        let _ = come;
        false
    }

    /// All device state has come, and opens as this stream: what becomes of it. None of it has gone on but perhaps the vCPUs, in which
    /// case what is decided must begin with them.
    fn judge(&mut self, held: &Held, stream: Stream) -> Judgement;
}
