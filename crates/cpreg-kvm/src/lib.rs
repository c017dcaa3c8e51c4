//! A live KVM host on arm64: what it is, vCPU state out of it and into it. For people who write VMMs, and for `cpreg probe kvm`.
//!
//! | file | what lives there |
//! |---|---|
//! | [`host`] | the few operations that all of this needs, as traits |
//! | [`real`] | KVM of this machine |
//! | [`save`] | vCPUs to a [`cpreg::vm::Vm`] |
//! | [`load`] | a [`cpreg::plan::Plan`] to vCPUs |
//! | [`ask`] | values that a plan does not know about, tried |
//! | [`attempt`] | a plan to a throwaway VM |
//! | [`probe`] | what a host gives to guests |
//! | [`recorded`] | a host that behaves as its record says, on any machine |
//! | [`value`] | registers of any width |
//! | [`cpu_name`] | what a CPU is called |
//! | [`errno`] | why KVM refused, in words |
//! | `error` | [`Error`]: why something could not be done, and what to do |
//!
//! What is decided about any register lives in [`cpreg`]; how a host is written down, in [`cpreg_hosts::record`].

#![deny(unsafe_code)]

pub mod ask;
pub mod attempt;
pub mod cpu_name;
pub mod errno;
mod error;
pub mod host;
pub mod load;
#[cfg(test)]
mod made;
pub mod probe;
pub mod real;
pub mod recorded;
pub mod save;
pub mod value;

pub use attempt::{Attempt, attempt};
pub use errno::Errno;
pub use error::{Error, ErrorKind, Refused};
pub use host::{Host, Vcpu, Vm};
pub use load::{Loaded, load};
pub use probe::probe;
pub use real::Kvm;
pub use recorded::RecordedHost;
pub use save::save;
