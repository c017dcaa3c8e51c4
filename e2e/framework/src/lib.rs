//! What the end-to-end tests share: programs and packages, QEMUs, guests, machines, emulated hosts.
//!
//! | module | what lives there |
//! |---|---|
//! | [`paths`] | the repository, and the folder for artifacts |
//! | [`tool`] | other programs: finding, installing, running |
//! | [`parallel`] | work on many things, several at a time |
//! | [`debian`] | Debian's packages: fetched and unpacked |
//! | [`qemu`] | four generations of QEMU |
//! | [`guest`] | the guests, assembled |
//! | [`machine`] | starting, saving and loading a machine |
//! | [`serial`] | what the guest says |
//! | [`large_vm`] | a VM of 8 GiB |
//! | [`cpreg`](mod@cpreg) | running the command under test |
//! | [`report`] | what it reports, held against what happened |
//! | [`lab`] | real arm64 kernels with real KVM, under an emulating QEMU |
#![forbid(unsafe_code)]
// What is fetched and made is told to the person who started the task.
#![expect(clippy::print_stdout)]

pub mod cpreg;
pub mod debian;
mod error;
pub mod guest;
pub mod lab;
pub mod large_vm;
pub mod machine;
pub mod parallel;
pub mod paths;
pub mod qemu;
pub mod report;
pub mod serial;
pub mod tool;

pub use self::error::{Failure, Result};
