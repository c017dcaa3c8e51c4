#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | [`register`] | register ids, names, fields and values |
//! | [`cpu_model`] | CPU models, and the clouds and boards that have them |
//! | [`gic`] | the interrupt controller, as far as KVM compares VM and host |
//! | [`hardware`] | properties of a host that its guests see and that no register list holds |
//! | [`vm`] | the incoming VM: each vCPU's registers and extensions |
//! | [`remedy`] | remedies for differences and failed loads, as data |
//! | [`severity`] | severity of changes that the guest could notice |
//! | [`shape`] | the VM's shape, compared before any register: machine, vCPUs, RAM, devices |
//! | [`destination`] | the destination: its registers, the values it accepts, its loader |
//! | [`tolerance`] | the table of harmless differences, each with its conditions and reason |
//! | `error` | [`Error`]: a text that does not parse |
//! | [`errno`] | Linux error numbers |
//! | [`plan`] | a decision for every register and extension; cpreg loads all vCPUs or none |
//!
//! Adapters (QEMU's stream, KVM, files) translate to and from these types and decide nothing.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cpu_model;
pub mod destination;
pub mod errno;
mod error;
pub mod gic;
pub mod hardware;
pub mod plan;
pub mod register;
pub mod remedy;
pub mod severity;
pub mod shape;
pub mod tolerance;
pub mod vm;

pub use error::{Error, ErrorKind};
