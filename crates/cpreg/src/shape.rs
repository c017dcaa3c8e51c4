//! [`Shape`]: what must agree between a VM and a destination before registers matter at all.

use alloc::string::String;
use alloc::vec::Vec;

/// The outline of a VM: everything a loader matches before it looks at a register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The machine type (`virt-10.0`), if known.
    pub machine: Option<String>,
    /// How many vCPUs.
    pub vcpus: usize,
    /// RAM blocks: name and length in bytes, in the order of the source.
    pub ram: Vec<RamBlock>,
    /// Device sections, in the order of the source.
    pub devices: Vec<Device>,
}

/// One block of guest RAM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RamBlock {
    /// QEMU's name for it (`mach-virt.ram`).
    pub name: String,
    /// Length in bytes.
    pub length: u64,
}

/// One device's section.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// QEMU's id string (`arm_gicv3`, `0000:00:01.0/virtio-net`).
    pub name: String,
    /// Which of several with that name.
    pub instance: u32,
    /// The version of its format.
    pub version: u32,
}
