//! A QEMU process: talking to it, asking it, and and having it load a VM.
//!
//! | module | what lives there |
//! |---|---|
//! | [`qmp`] | talking to a running QEMU |
//! | [`process`] | a QEMU that was started here |
//! | [`device_state`] | what a QEMU's devices hold, asked through its monitor |
//! | [`rehearse`] | having a QEMU load a VM without its RAM |
//! | [`probe`] | having a QEMU that runs no guest record itself |
//! | [`error`] | [`Error`]: why not, and what to do |
//! | [`isolate`] | making a command line such that its QEMU touches nothing outside itself |
//!
//! Its stream is [`cpreg_stream`]. What a difference means and what is done about it does not live
//! here: that is the plan of the crate `cpreg`.
#![forbid(unsafe_code)]

#[cfg(not(unix))]
compile_error!("cpreg-qemu needs a Unix: QEMU's monitor is a Unix socket there");

pub mod device_state;
pub mod error;
pub mod isolate;
pub mod probe;
pub mod process;
pub mod qmp;
pub mod rehearse;

pub use error::{Error, ErrorKind};
