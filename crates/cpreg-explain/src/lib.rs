#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | [`message`] | statements that a line can make, and the programs that print them |
//! | [`pattern`] | search for known words in a line |
//! | [`qemu`] | QEMU's lines; [`qemu::predict`]: the lines that a QEMU would print |
//! | [`libvirt`] | libvirt's additions to QEMU's lines |
//! | [`firecracker`], [`cloud_hypervisor`] | lines of these VMMs |
//! | [`snapshot`] | Firecracker and Cloud Hypervisor together, which have their own snapshot
//! formats |
//! | [`mod@line`] | all programs together |
//! | `kernel_log`, `command_line`, `virtualization`, `gem5` | lines of Linux, QEMU's options,
//! Apple's framework, gem5 |
//! | `register_mention` | register ids in the lines of any program |
//! | [`front_end`] | lines of the programs that run VMMs, and the places of the reasons |
//! | [`situation`] | activity that failed, and the place of the VM |
//! | [`failure`] | groups of lines about one failed load |
//! | [`restore`] | messages of both for a simulated load |
//! | [`secrets`] | redaction of a guest's keys in a line |
//! | [`mod@explain`] | meaning, usual causes and next steps of a failure |
//! | [`list_lengths`] | recorded lists with two given lengths |
//! | `recorded_list_lengths` | recorded lists and their lengths, generated |
//!
//! [`cpreg::destination::load`], in another crate, simulates the load of a VM.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cloud_hypervisor;
mod command_line;
pub mod explain;
pub mod failure;
pub mod firecracker;
pub mod front_end;
mod gem5;
mod kernel_log;
pub mod libvirt;
pub mod line;
pub mod list_lengths;
pub mod message;
pub mod pattern;
pub mod qemu;
mod recorded_list_lengths;
mod register_mention;
pub mod restore;
pub mod secrets;
pub mod situation;
pub mod snapshot;
mod virtualization;

pub use cpreg::destination::VersionRange;
pub use cpreg::errno::Errno;
pub use explain::{Explanation, FailureKind, explain};
pub use failure::{LoadFailure, LoadFailures};
pub use line::{is_setting_only, may_matter, parse_line};
pub use message::{
    Access, AttributeAccess, BlockerReason, Emitter, LoadInput, NamedRegister, Setting, Settings,
    StartDevice, Statement, Symptom,
};
pub use secrets::redact_secrets;
pub use situation::Situation;
