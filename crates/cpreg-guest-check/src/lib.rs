//! Checks inside an arm64 Linux guest, before and after a move to another host.
//!
//! A kernel reads many properties of its CPU once, at boot. Registers that KVM lists can be equal
//! on two hosts whose counters, vector lengths or caches differ. This crate finds such differences
//! from inside the guest. It executes instructions, and compares the results with the properties
//! that the guest's kernel read at boot. A record holds the results before a move for comparison.
//!
//! | module | content |
//! |---|---|
//! | [`state`] | model of everything that the guest sees |
//! | [`feature`] | instructions by HWCAP bit, with the fields of ID registers |
//! | [`judge`] | comparison of a state with itself and with an earlier one |
//! | [`check`] | model of a check's result |
//! | [`report`] | report as text, and its JSON document |
//! | [`arguments`], [`mod@run`] | command line, and its actions |
//! | `observe`, `code`, `clock`, `watch` | observation of the state, on arm64 Linux only |
//! | `execution` | results of the instructions of features |
//! | `instructions`, `system` | the only `unsafe` code: instructions, and calls of Linux |
//!
//! The judgement is portable and has no `unsafe` code.
//!
//! The crate is independent of the crate `cpreg` on purpose, because the program for guests is
//! small and static. So [`feature`] repeats the positions of some fields of ID registers.
#![deny(unsafe_code)]

pub mod arguments;
pub mod check;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod clock;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod code;
pub mod error;
#[cfg(any(test, all(target_os = "linux", target_arch = "aarch64")))]
mod execution;
pub mod feature;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
#[allow(unsafe_code)]
mod instructions;
pub mod judge;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod observe;
pub mod report;
pub mod run;
pub mod state;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
#[allow(unsafe_code)]
mod system;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod watch;
