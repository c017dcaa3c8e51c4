//! Error lines about a failed load, of whichever program and version: what they say, what that means, what to do.
//!
//! | module | what lives there |
//! |---|---|
//! | [`message`] | what a line can say, and who says it |
//! | [`pattern`] | looking for known words in a line |
//! | [`qemu`] | what QEMU's lines say; [`qemu::predict`]: the lines that a QEMU would print |
//! | [`libvirt`] | what libvirt puts around QEMU's lines |
//! | [`firecracker`], [`cloud_hypervisor`] | what these say |
//! | [`snapshot`] | both of them, which keep snapshots of their own |
//! | [`failure`] | lines that belong together: one failed load |
//! | [`secrets`] | a line without a guest's keys |
//! | [`mod@explain`] | what a failure means, what is usually behind it, what settles it |
//! | [`list_lengths`] | which recorded lists have these two lengths |
//! | `recorded_list_lengths` | those lists; generated |
//!
//! What a loader would do with a VM is [`cpreg::destination::load`]'s.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cloud_hypervisor;
pub mod explain;
pub mod failure;
pub mod firecracker;
pub mod libvirt;
pub mod list_lengths;
pub mod message;
pub mod pattern;
pub mod qemu;
mod recorded_list_lengths;
pub mod secrets;
pub mod snapshot;

pub use cpreg::destination::VersionRange;
pub use cpreg::errno::Errno;
pub use explain::{Explanation, FailureKind, explain};
pub use failure::{LoadFailure, LoadFailures};
pub use message::{Access, Emitter, NamedRegister, Statement, Symptom};
pub use secrets::redact_secrets;
