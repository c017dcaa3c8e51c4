#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | file | content |
//! |---|---|
//! | [`host`] | the traits with the operations on a host, a VM and a vCPU |
//! | [`sys`] | KVM of this machine |
//! | [`mod@save`] | saving of vCPUs as a [`cpreg::vm::Vm`] |
//! | [`mod@load`] | execution of a [`cpreg::plan::Plan`] on vCPUs |
//! | [`write_probe`] | trial writes of values that a plan cannot decide |
//! | [`mod@dry_run`] | a plan loaded into a temporary VM |
//! | [`mod@probe`] | recording a host |
//! | [`recorded`] | a fake host that behaves as its record, on any machine |
//! | [`value`] | reading and writing of registers of any width |
//! | [`errno`] | meanings of KVM's errors |
//! | `error` | [`Error`] with its kind and hint |
//!
//! [`cpreg`] decides about registers. [`cpreg_hosts::record`] reads and writes the file of a
//! recorded host.

#![deny(unsafe_code)]

pub mod dry_run;
pub mod errno;
mod error;
pub mod host;
pub mod load;
pub mod probe;
pub mod recorded;
pub mod save;
pub mod sys;
#[cfg(test)]
mod testing;
pub mod value;
pub mod write_probe;

pub use dry_run::{DryRun, dry_run};
pub use errno::Errno;
pub use error::{Error, ErrorKind, RefusedWrite};
pub use host::{Host, Vcpu, Vm};
pub use load::{LoadSummary, load};
pub use probe::probe;
pub use recorded::RecordedHost;
pub use save::save;
pub use sys::Kvm;
