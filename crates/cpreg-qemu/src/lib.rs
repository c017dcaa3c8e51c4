//! QEMU.
#![forbid(unsafe_code)]
