//! What the guard does next: a function of what is seen, and nothing else.
//!
//! It reads no clock, talks to nobody and remembers nothing: [`super::engine`] looks and acts, and
//! [`super::machine`] is what has happened. What it rests on (tried with QEMU 7.2, 10.0 and 11.1,
//! see docs/facts.md):
//!
//! | rule | because |
//! |---|---|
//! | the destination is held, so it runs only when told to | QMP `stop` in `inmigrate` switches its autostart off |
//! | it is told to only when the source is `completed` and stopped | a source that is `completed` never goes on by itself |
//! | in postcopy: when it has the device state, and the source is then `postcopy-active` and stopped | it has to fetch its memory while it runs |
//! | a destination that was told to run bars the source for good | what it did to disks and networks cannot be undone |
//! | a source that is stopped is told to run only when the destination cannot | it has ended, was told to quit, or is held and does not answer |
//! | a source that runs ends the destination, if that was never told to run | its copy must not be used |
//!
//! | file | what lives there |
//! |---|---|
//! | `situation` | all that a decision looks at, and what it comes to |
//! | `both` | [`decide`]: with both monitors; `single_monitor`: with one |
//! | `ways` | where a migration can lead, alike for both |

mod both_monitors;
mod cases;
mod observation;
mod single_monitor;
#[cfg(test)]
mod tests;

pub(super) use both_monitors::decide;
pub(super) use observation::{GuardAction, Observation, UNRESPONSIVE_TIMEOUT};
