//! QEMU.
#![forbid(unsafe_code)]

pub mod probe;
pub mod qmp;
