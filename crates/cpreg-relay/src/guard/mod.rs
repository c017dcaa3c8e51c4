//! The drain guard: whatever ends when, the VM runs on exactly one side.
//!
//! It talks to the monitors of the source, of the destination, or of both, decides who runs, and looks at no byte of the stream. Left alone, a QEMU without return
//! path stops a VM that the destination then refuses; and one with a return path starts it at the destination before the source
//! knows, so that a connection lost just then leaves it running on both sides. The guard holds the destination, and lets it run when the
//! source can no longer go back.
//!
//! | file | what lives there |
//! |---|---|
//! | [`states`] | what a QEMU says of itself: run state, migration status |
//! | `monitor` | one QEMU's monitor, and the proof that its process has ended |
//! | `prepare` | what is asked and changed before a migration |
//! | `machine` | what has happened, as a state and what each event makes of it |
//! | `decide` | what to do next: a function of what is seen; `single_monitor` with one monitor |
//! | [`engine`] | [`Guard`]: looks, decides, acts |
//! | [`whereabouts`] | [`Whereabouts`]: on which side the VM is |
//! | [`protocol`] | what relay and guard say to each other |
//! | [`serve`](mod@serve) | the guard's process, which outlives the relay |
//! | [`client`] | [`GuardClient`]: the relay's end of it |

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

pub use client::{GuardClient, InitialStatus, Prepared};
pub use engine::Guard;
pub use serve::{GuardExit, leave_session, run};
pub use vm_location_report::{VmLocationReport, VmPlace};
