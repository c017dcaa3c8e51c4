//! Emulated hosts: real Debian arm64 kernels with real KVM, under an emulating QEMU.
//! `e2e/lab/README.md` is the manual.
//!
//! | module | content |
//! |---|---|
//! | [`folder`] | the lab folder, with artifacts built at their first use |
//! | [`kernels`] | list and download of kernels |
//! | [`image`] | conversion of a vmlinuz into a bootable image |
//! | [`modules`] | modules of a network card |
//! | [`toolchain`] | builds of arm64 programs |
//! | [`initramfs`] | initramfs of every host |
//! | [`roots`] | disk with the arm64 QEMUs |
//! | [`disk`] | other disks, and the unpacking of results |
//! | [`cpu`] | CPU models and modes |
//! | [`job`] | job of a host |
//! | [`boot`] | one boot of a host |
//!
//! Each artifact in the lab folder is built once by the module that uses it. Its name has a
//! version.

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
