//! Shared parts of the end-to-end tests: programs and packages, QEMUs, guests, machines, emulated
//! hosts.
//!
//! | module | content |
//! |---|---|
//! | [`paths`] | the repository, and the folder for artifacts |
//! | [`tool`] | other programs: finding, installing, running |
//! | [`case_counts`] | cases that run one after the other |
//! | [`parallel`] | the same work for many items, several at a time |
//! | [`debian`] | Debian's packages, fetched and unpacked |
//! | [`certificates`] | certificates for migrations over TLS |
//! | [`qemu`] | four generations of QEMU |
//! | [`guest`] | the assembled guests |
//! | [`machine`] | starts, saves and loads a machine |
//! | [`serial`] | output of the guest |
//! | [`large_vm`] | a VM of 8 GiB |
//! | [`cpreg`](mod@cpreg) | runs the command under test |
//! | [`report`] | its reports, compared with the real outcome |
//! | [`libvirt_files`] | configuration of a libvirtd in a folder of its own |
//! | [`lab`] | real arm64 kernels with real KVM, under an emulating QEMU |
#![forbid(unsafe_code)]
// Downloads and builds are printed for the user of the task.
#![expect(clippy::print_stdout, clippy::print_stderr)]

pub mod case_counts;
pub mod certificates;
pub mod cpreg;
pub mod debian;
mod error;
pub mod guest;
pub mod lab;
pub mod large_vm;
pub mod libvirt_files;
pub mod machine;
pub mod parallel;
pub mod paths;
pub mod qemu;
pub mod report;
pub mod serial;
pub mod tool;

pub use self::error::{Failure, Result, exit_code};
