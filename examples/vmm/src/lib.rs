//! A small VMM whose guest moves live between hosts that do not have the same registers.
//!
//! Example of `cpreg-kvm` and, with `docs/vmm-tutorial.md`, a tutorial for authors of VMMs.
//!
//! | file | content |
//! |---|---|
//! | [`guest`] | guest program, which knows the expected value of every register |
//! | [`report`] | device through which the guest reports |
//! | `kvm` | a VM, and its two ends of a migration; Linux on arm64 only |
//! | [`migrate`] | requirements of both ends on a VM and on a host |
//! | [`send`], [`receive`] | the two ends of a migration, step by step |
//! | [`arrival`] | decision on whether registers can be loaded on this host: cpreg's part |
//! | [`protocol`] | messages between the two ends |
//! | [`wire`] | numbers and registers as bytes |
//! | [`link`] | messages over a line that may lose or damage bytes |
//! | [`transport`] | TCP connections and serial lines |
//!
//! Decisions about a register live in [`cpreg::plan`]; reading and writing the registers of KVM in
//! [`cpreg_kvm`]. The example has one machine, no disks, no network and no authentication of peers.

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
