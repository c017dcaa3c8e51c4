//! Switchover guard: the VM runs on exactly one side, whatever fails and when.
//!
//! The guard talks to the monitor of the source, of the destination, or of both. It decides which
//! side runs, and reads no byte of the stream.
//!
//! Without a guard, two things can go wrong. A source without return path stops its guest even if
//! the destination rejects the VM. A source with return path receives the answer only after the
//! destination has started the guest; if the connection breaks before that, both sides run. The
//! guard blocks the destination's autostart, and resumes the destination when the source can no
//! longer resume.
//!
//! | file | contents |
//! |---|---|
//! | [`states`] | run state and migration status of a QEMU |
//! | `monitor` | one QEMU's monitor, and the proof that its process has exited |
//! | `prepare` | checks and changes before a migration |
//! | `machine` | the state of a guarded migration and its transitions |
//! | `decide` | the next action, a function of the observation; `single_monitor` with one monitor |
//! | [`engine`] | [`Guard`]: polls, decides, acts |
//! | [`vm_location_report`] | [`VmLocationReport`]: the side that has the VM |
//! | [`protocol`] | messages between relay and guard |
//! | [`serve`](mod@serve) | the guard's process, which outlives the relay |
//! | [`client`] | [`GuardClient`]: the relay's end |

pub mod client;
mod decide;
pub mod engine;
#[cfg(test)]
mod fake;
mod machine;
mod monitor;
pub mod prepare;
pub mod protocol;
pub mod serve;
pub mod states;
pub mod vm_location_report;

pub use client::GuardClient;
pub use engine::Guard;
pub use protocol::{InitialStatus, Prepared};
pub use serve::{GuardExit, leave_session, run};
pub use vm_location_report::{VmLocationReport, VmPlace};
