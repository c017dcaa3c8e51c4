//! Tests with snapshots of real Firecrackers and Cloud Hypervisors, in `tests/fixtures/vmm`.

mod cloud_hypervisor;
mod firecracker;
mod fixtures;
mod robustness;
