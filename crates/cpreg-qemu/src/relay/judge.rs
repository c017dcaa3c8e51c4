//! [`Judge`]: who decides whether a VM goes on, and as what. The relay asks and carries it out.

use crate::flow::{Held, Outline};
use crate::stream::{Edit, Stream};

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

    /// All device state has come, and opens as this stream: what becomes of it. None of it has gone on.
    fn judge(&mut self, held: &Held, stream: Stream) -> Judgement;
}
