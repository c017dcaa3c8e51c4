//! Tests with snapshots of real Firecrackers and Cloud Hypervisors, in `tests/fixtures/vmm`.

mod cloud_hypervisor;
mod conversions;
mod firecracker;
mod fixtures;
mod outcomes;
mod robustness;
