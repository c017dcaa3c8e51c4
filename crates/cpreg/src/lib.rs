//! What arm64 vCPU registers are, and what to do when two hosts do not list the same ones.
//!
//! This crate is the model and all decisions of cpreg. It does no I/O, allocates only what its
//! inputs bound, and depends on nothing but `core` and `alloc`.
//!
//! | module | what lives there |
//! |---|---|
//! | [`register`] | what a register is: its id, name, fields, value |
//! | [`vm`] | the VM that arrives: each vCPU's registers and extensions |
//! | [`remedy`] | ways out, as data |
//! | [`severity`] | how bad something is that the guest could notice |
//! | [`shape`] | what must agree before registers matter: machine, vCPUs, RAM, devices |
//! | [`destination`] | where it goes: which registers exist, which values are taken, how the loader goes about it |
//! | [`tolerance`] | the table of differences that are harmless, when, and why |
//! | `error` | [`Error`]: why a text is none that is understood |
//! | [`errno`] | error numbers of Linux |
//! | [`plan`] | one decision for every register and extension, all or nothing |
//!
//! Adapters (QEMU's stream, KVM, files) translate to and from these types and decide nothing.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod destination;
pub mod errno;
mod error;
pub mod plan;
pub mod register;
pub mod remedy;
pub mod severity;
pub mod shape;
pub mod tolerance;
pub mod vm;

pub use error::{Error, ErrorKind};
