//! A live KVM host on arm64: what it is, vCPU state out of it and into it. For people who write VMMs, and for `cpreg probe kvm`.
//!
//! | file | what lives there |
//! |---|---|
//! | [`host`] | the few operations that all of this needs, as traits |
//! | [`real`] | KVM of this machine |
//! | [`save`] | vCPUs to a [`cpreg::vm::Vm`] |
//! | [`load`] | a [`cpreg::plan::Plan`] to vCPUs |
//! | [`write_probe`] | values that a plan does not know about, tried |
//! | [`dry_run`] | a plan to a throwaway VM |
//! | [`probe`] | what a host gives to guests |
//! | [`recorded`] | a host that behaves as its record says, on any machine |
//! | [`value`] | registers of any width |
//! | [`cpu_name`] | what a CPU is called |
//! | [`errno`] | why KVM refused, in words |
//! | `error` | [`Error`]: why something could not be done, and what to do |
//!
//! What is decided about any register lives in [`cpreg`]; how a host is written down, in [`cpreg_hosts::record`].

#![deny(unsafe_code)]

pub mod cpu_name;
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
