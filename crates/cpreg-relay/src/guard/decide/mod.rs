//! Decision about the next action of the guard: a pure function of the observation.
//!
//! The decision reads no clock, does no I/O and keeps no state. [`super::engine`] polls and acts,
//! and [`super::machine`] has the state. The rules were tested with QEMU 7.2, 10.0 and 11.1
//! (docs/facts.md):
//!
//! - The destination's autostart is blocked, so it runs only after `cont`. QMP `stop` in
//!   `inmigrate` blocks it.
//! - The guard resumes the destination only when the source is `completed` and stopped. A source
//!   that is `completed` never resumes by itself.
//! - In postcopy, the guard resumes it when it has the device state and the source is then
//!   `postcopy-active` and stopped. It fetches its memory while it runs.
//! - After the destination was resumed, the source is never resumed. Its effects on disks and
//!   networks cannot be undone.
//! - A stopped source is resumed only when the destination cannot run: it has exited, confirmed
//!   `quit`, or is blocked and does not answer.
//! - A running source ends the destination, if that was never resumed, because its copy must not be
//!   used.
//!
//! | file | contents |
//! |---|---|
//! | `observation` | [`Observation`]: input of a decision; [`GuardAction`]: its result |
//! | `both_monitors` | [`decide`]: with both monitors |
//! | `single_monitor` | with one monitor |
//! | `cases` | cases common to both |

mod both_monitors;
mod cases;
mod observation;
mod single_monitor;
#[cfg(test)]
mod tests;

pub(super) use both_monitors::decide;
pub(super) use observation::{GuardAction, Observation, UNRESPONSIVE_TIMEOUT};
