//! Tests of qcow2 images: recorded by QEMU, made by `qemu-img`, damaged, and interrupted changes.

mod changes;
mod common;
mod crash;
mod locks;
mod recorded;
mod robustness;
mod speed;
mod tables;
