//! Emulated arm64 hosts: QEMU (TCG) boots Debian's kernels with their KVM. `e2e/lab/README.md` is
//! the manual.
//!
//! | module | content |
//! |---|---|
//! | [`folder`] | the lab folder, with artifacts built at their first use |
//! | [`kernels`] | list and download of kernels |
//! | [`image`] | conversion of a vmlinuz into a bootable image |
//! | [`modules`] | kernel modules, and the order of loading them |
//! | [`firewall`] | `nft` and its kernel modules |
//! | [`toolchain`] | builds of arm64 programs |
//! | [`initramfs`] | initramfs of every host |
//! | [`roots`] | disk with one root file system for each arm64 QEMU |
//! | [`libvirt`] | tar with arm64 libvirt and QEMU |
//! | [`disk`] | disks for the job and its results |
//! | [`cpu`] | CPU models and modes |
//! | [`job`] | script, programs and files that a host runs |
//! | [`boot`] | one boot of a host |
//!
//! Artifacts stay in the lab folder. The module that needs an artifact builds it once. The
//! artifact's name contains a version.

pub mod boot;
pub mod cpu;
pub mod disk;
pub mod firewall;
pub mod folder;
pub mod image;
pub mod initramfs;
pub mod job;
pub mod kernels;
pub mod libvirt;
pub mod modules;
pub mod roots;
pub mod toolchain;
