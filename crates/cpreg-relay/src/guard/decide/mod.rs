//! Decision about the next action of the guard: a pure function of the observation.
//!
//! The decision reads no clock, does no I/O and keeps no state. [`super::engine`] polls and acts,
//! and [`super::machine`] has the state. The rules were tested with QEMU 7.2, 10.0 and 11.1
//! (docs/facts.md):
//!
//! - The destination's autostart is blocked, so its guest runs only after `cont`. QMP `stop` in
//!   `inmigrate` blocks autostart.
//! - The guard resumes the destination only when the source is `completed` and stopped. A source
//!   that is `completed` never resumes by itself.
//! - In postcopy, the guard resumes the destination when it has the device state and the source is
//!   then `postcopy-active` and stopped. The destination fetches its memory while it runs.
//! - After the guard has resumed the destination, the guard never resumes the source. The
//!   destination's effects on disks and networks cannot be undone.
//! - The guard resumes a stopped source only if the destination cannot run. The destination then
//!   has exited, has confirmed `quit`, or is blocked and does not answer.
//! - If the source runs, the guard ends a destination that was never resumed, because its copy must
//!   not be used.
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
