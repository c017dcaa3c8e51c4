//! A small VMM whose guest moves live between hosts that do not have the same registers: the example of `cpreg-kvm`, and with
//! `docs/vmm-tutorial.md` the tutorial for those who write VMMs.
//!
//! | file | what lives there |
//! |---|---|
//! | [`guest`] | the guest program, which knows what every register should hold |
//! | [`report`] | the device by which it tells |
//! | [`kvm`] | a VM, and its two ends of a migration; Linux on arm64 only |
//! | [`migrate`] | what the two ends need of a VM and of a host |
//! | [`send`], [`receive`] | the two ends of a migration, step by step |
//! | [`arrival`] | whether registers can be loaded here: cpreg's part |
//! | [`protocol`] | what they say to each other |
//! | [`wire`] | numbers and registers as bytes |
//! | [`link`] | messages over a line that may lose or damage bytes |
//! | [`transport`] | TCP and serial lines |
//!
//! Not here: any decision about a register ([`cpreg::plan`]), and how registers get out of KVM and into it ([`cpreg_kvm`]). It is an example:
//! one machine, no disks, no network, no authentication of who connects.

#![deny(unsafe_code)]

pub mod arrival;
pub mod guest;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub mod kvm;
pub mod link;
pub mod migrate;
pub mod protocol;
pub mod receive;
pub mod report;
pub mod send;
pub mod transport;
pub mod wire;
