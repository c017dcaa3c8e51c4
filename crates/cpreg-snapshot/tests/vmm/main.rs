//! Tests with snapshots of real Firecrackers and Cloud Hypervisors, in `tests/fixtures/vmm`.

mod firecracker;
mod fixtures;
mod robustness;
