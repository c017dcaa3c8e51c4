//! A live KVM host on arm64: what it is, vCPU state out of it and into it. For people who write VMMs, and for `cpreg probe kvm`.
//!
//! | file | what lives there |
//! |---|---|
//! | [`host`] | the few operations that all of this needs, as traits |
//! | [`errno`] | why KVM refused, in words |
//!
//! What is decided about any register lives in [`cpreg`]; how a host is written down, in [`cpreg_hosts::record`].

#![deny(unsafe_code)]

pub mod errno;
pub mod host;

pub use errno::Errno;
pub use host::{Host, Vcpu, Vm};
