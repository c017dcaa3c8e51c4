//! Emulated hosts: real Debian arm64 kernels with real KVM, under an emulating QEMU. `e2e/lab/README.md` is the manual.
//!
//! | module | what lives there |
//! |---|---|
//! | [`folder`] | the lab folder, and what is made in it when somebody first wants it |
//! | [`kernels`] | which kernels there are; fetching them |
//! | [`image`] | a vmlinuz made into what boots |
//! | [`modules`] | the modules of a network card |
//! | [`toolchain`] | arm64 programs |
//! | [`initramfs`] | what every host boots with |
//! | [`roots`] | the arm64 QEMUs |
//! | [`disk`] | the disks, and how results come back |
//! | [`cpu`] | CPU models and modes |
//! | [`job`] | what a host is to do |
//! | [`boot`] | one boot of a host |
//!
//! What is in the lab folder is made by the module that uses it, once, under names with versions.

pub mod boot;
pub mod cpu;
pub mod disk;
pub mod folder;
pub mod image;
pub mod initramfs;
pub mod job;
pub mod kernels;
pub mod modules;
pub mod roots;
pub mod toolchain;
