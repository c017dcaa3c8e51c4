//! QEMU: its migration stream, its words, and asking one.
//!
//! | module | what lives there |
//! |---|---|
//! | [`stream`] | the stream: elements, RAM, devices, the arm `cpu` sections, edits |
//! | [`flow`] | the stream while it flows: RAM passes, the device state is held back |
//! | [`relay`] | between two QEMUs: addresses, connections, and carrying bytes from one to the other (Linux) |
//! | [`qmp`] | talking to a running QEMU |
//! | [`device_state`] | what a QEMU's devices hold, asked through its monitor |
//! | `guard` (Linux) | who runs a VM that is migrated through a relay |
//! | [`guest_memory`] | device state that points into guest memory |
//! | [`rehearse`] | having a QEMU load a VM without its RAM |
//! | [`probe`] | having a QEMU that runs no guest record itself |
//! | [`isolate`] | making a command line such that its QEMU touches nothing outside itself |
//! | [`error`] | the stream's error: what, where, what to do |
//!
//! What a difference means and what is done about it does not live here; see [`cpreg::plan`].
#![forbid(unsafe_code)]

pub mod device_state;
pub mod error;
pub mod flow;
#[cfg(target_os = "linux")]
pub mod guard;
pub mod guest_memory;
pub mod isolate;
pub mod probe;
pub mod qmp;
pub mod rehearse;
#[cfg(target_os = "linux")]
pub mod relay;
pub mod stream;

pub use error::{Error, ErrorKind};
pub use stream::Stream;
