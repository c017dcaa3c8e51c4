#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | [`qmp`] | QMP, the protocol of a running QEMU |
//! | [`process`] | a QEMU that cpreg started |
//! | [`device_state`] | the device state of a QEMU, queried through its monitor |
//! | [`rehearse`] | loading a VM without its RAM into a QEMU |
//! | [`probe`] | recording a QEMU that runs no guest |
//! | [`guest_program`] | running a program in the guest of an isolated QEMU |
//! | `vector_lengths` | SVE vector lengths of a VM, queried from its QEMU |
//! | `parent_death` | the end of a started QEMU together with cpreg |
//! | [`error`] | [`Error`] with its kind and hint |
//! | [`libvirt`] | a domain of libvirt: its monitor, XML and command line |
//! | [`isolate`] | a command line whose QEMU touches nothing outside itself |
//!
//! [`cpreg_stream`] parses QEMU's stream. The crate `cpreg` plans a load and decides about
//! differences.
#![deny(unsafe_code)]

#[cfg(not(unix))]
compile_error!("cpreg-qemu needs Unix: QEMU's monitor is a Unix socket");

pub mod device_state;
pub mod error;
pub mod guest_program;
pub mod isolate;
pub mod libvirt;
mod parent_death;
pub mod probe;
pub mod process;
pub mod qmp;
pub mod rehearse;
mod vector_lengths;

pub use error::{Error, ErrorKind};
