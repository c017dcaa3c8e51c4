//! [`MachineShape`]: the machine type, vCPUs, RAM and devices of a VM, which must match those of
//! the destination.

use alloc::borrow::{Cow, ToOwned as _};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::remedy::Remedy;

/// Shape of a VM: everything that a loader compares before it loads a register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineShape {
    /// Machine type (`virt-10.0`), if known.
    pub machine: Option<String>,
    /// Number of vCPUs.
    pub vcpu_count: usize,
    /// RAM blocks, in the source's order; empty if they are not known.
    pub ram: Vec<RamBlock>,
    /// Device sections, in the source's order; empty if they are not known.
    pub devices: Vec<DeviceSection>,
}

/// One block of guest RAM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RamBlock {
    /// QEMU's name of the block (`mach-virt.ram`).
    pub name: String,
    /// Length in bytes.
    pub length: u64,
}

/// One device's section.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceSection {
    /// QEMU's id string (`arm_gicv3`, `0000:00:01.0/virtio-net`).
    pub name: String,
    /// Instance id, which distinguishes sections with the same name.
    pub instance: u32,
    /// Version of the section's format.
    pub version: u32,
}

/// Part of a machine shape that two VMs can differ in.
///
/// The text ([`Display`](fmt::Display)) names the part for a person, [`kind`](Self::kind) for a
/// program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ShapePart {
    /// Accelerator that executes the guest.
    Accelerator,
    /// Machine type.
    MachineType,
    /// Number of vCPUs.
    VcpuCount,
    /// RAM block with this name.
    RamBlock(String),
    /// Device section.
    Device {
        /// QEMU's id string.
        name: String,
        /// Instance id.
        instance: u32,
    },
}

impl ShapePart {
    /// Returns the kind of the part, a word that does not change: `"ram-block"`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Accelerator => "accelerator",
            Self::MachineType => "machine-type",
            Self::VcpuCount => "vcpu-count",
            Self::RamBlock(_) => "ram-block",
            Self::Device { .. } => "device",
        }
    }

    /// Returns QEMU's name of the part; `None` if a VM has only one part of this kind.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Accelerator | Self::MachineType | Self::VcpuCount => None,
            Self::RamBlock(name) | Self::Device { name, .. } => Some(name),
        }
    }

    /// Returns the instance id of a device; `None` for another part.
    pub const fn instance(&self) -> Option<u32> {
        match self {
            Self::Device { instance, .. } => Some(*instance),
            _ => None,
        }
    }
}

impl fmt::Display for ShapePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accelerator => f.write_str("accelerator"),
            Self::MachineType => f.write_str("machine type"),
            Self::VcpuCount => f.write_str("number of vCPUs"),
            Self::RamBlock(name) => write!(f, "RAM block {name}"),
            Self::Device { name, instance } => write!(f, "device {name} (instance {instance})"),
        }
    }
}

/// One difference between a VM's shape and the destination's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShapeDifference {
    /// Part that differs.
    pub part: ShapePart,
    /// Text of the part in the VM, or `None` if the VM lacks the part.
    pub source: Option<String>,
    /// Text of the part at the destination, or `None` if the destination lacks the part.
    pub destination: Option<String>,
    /// `true` if the difference makes a loader fail.
    pub blocks: bool,
    /// Reason why the loader fails, if the values do not show it.
    pub reason: Option<Cow<'static, str>>,
    /// Remedy, if another one than a destination with the source's machine.
    pub remedy: Option<Remedy>,
}

impl ShapeDifference {
    /// Returns the reason why the loader fails; without one, the values of both sides.
    pub fn describe(&self) -> String {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let values = || {
            let (source, destination) = (value(&self.source), value(&self.destination));
            format!("{source} at the source, {destination} at the destination")
        };
        self.reason
            .as_ref()
            .map_or_else(values, ToString::to_string)
    }
}

impl MachineShape {
    /// Returns the differences between this VM's shape and a destination's.
    ///
    /// A loader fails on another machine type, on other RAM, and on a device that only the VM has
    /// or has in a newer format (QEMU `migration/savevm.c`, v5.2 to v11.0). A device that only the
    /// destination has keeps its reset state. A list that is not known differs in nothing.
    pub fn differences(&self, destination: &Self) -> Vec<ShapeDifference> {
        let mut differences = Vec::new();
        let mut push_difference = |part: ShapePart,
                                   source_value: Option<String>,
                                   destination_value: Option<String>,
                                   blocks| {
            differences.push(ShapeDifference {
                part,
                source: source_value,
                destination: destination_value,
                blocks,
                reason: None,
                remedy: None,
            });
        };
        if let (Some(source_value), Some(destination_value)) = (&self.machine, &destination.machine)
            && source_value != destination_value
        {
            push_difference(
                ShapePart::MachineType,
                Some(source_value.clone()),
                Some(destination_value.clone()),
                true,
            );
        }
        if self.vcpu_count != destination.vcpu_count {
            push_difference(
                ShapePart::VcpuCount,
                Some(self.vcpu_count.to_string()),
                Some(destination.vcpu_count.to_string()),
                true,
            );
        }
        let (source_ram, destination_ram) = both_known(&self.ram, &destination.ram);
        let (source_ram, destination_ram) = (ram_lengths(source_ram), ram_lengths(destination_ram));
        for name in union_keys(&source_ram, &destination_ram) {
            let length_of = |ram: &BTreeMap<&str, u64>| {
                let length = ram.get(name);
                length.map(|length| format!("{length:#x} bytes"))
            };
            let (source_value, destination_value) =
                (length_of(&source_ram), length_of(&destination_ram));
            if source_value != destination_value {
                let blocks = source_value.is_some()
                    && !(destination_value.is_some() && name.starts_with(RESIZABLE_BLOCK_PREFIX));
                push_difference(
                    ShapePart::RamBlock(name.to_string()),
                    source_value,
                    destination_value,
                    blocks,
                );
            }
        }
        let (source_devices, destination_devices) = both_known(&self.devices, &destination.devices);
        let (source_devices, destination_devices) = (
            device_versions(source_devices),
            device_versions(destination_devices),
        );
        for key in union_keys(&source_devices, &destination_devices) {
            let (source_value, destination_value) = (
                source_devices.get(&key).copied(),
                destination_devices.get(&key).copied(),
            );
            if source_value != destination_value {
                let blocks = source_value.is_some_and(|source_value| {
                    destination_value
                        .is_none_or(|destination_value| source_value > destination_value)
                });
                push_difference(
                    ShapePart::Device {
                        name: key.0.to_string(),
                        instance: key.1,
                    },
                    source_value.map(|version| format!("version {version}")),
                    destination_value.map(|version| format!("version {version}")),
                    blocks,
                );
            }
        }
        differences
    }
}

/// Name prefix of blocks that QEMU resizes to the incoming length: the firmware's tables
/// (`acpi_add_rom_blob`).
const RESIZABLE_BLOCK_PREFIX: &str = "/rom@etc/";

/// Names of sections that occur once per vCPU. [`MachineShape::vcpu_count`] stands for them.
const PER_VCPU_SECTIONS: [&str; 2] = ["cpu", "cpu_common"];

/// Returns both lists, or two empty ones if either is not known.
fn both_known<'a, T>(source: &'a [T], destination: &'a [T]) -> (&'a [T], &'a [T]) {
    if source.is_empty() || destination.is_empty() {
        return (&[], &[]);
    }
    (source, destination)
}

/// Returns each block's length in bytes, by name. Of several blocks with one name, uses the first.
fn ram_lengths(ram: &[RamBlock]) -> BTreeMap<&str, u64> {
    let blocks = ram.iter().rev();
    blocks
        .map(|block| (block.name.as_str(), block.length))
        .collect()
}

/// Returns each device's version by name and instance, without the per-vCPU sections. Of several
/// sections with one name and instance, uses the first.
fn device_versions(devices: &[DeviceSection]) -> BTreeMap<(&str, u32), u32> {
    let devices = devices.iter().rev();
    devices
        .filter(|device| !PER_VCPU_SECTIONS.contains(&device.name.as_str()))
        .map(|device| ((device.name.as_str(), device.instance), device.version))
        .collect()
}

/// Returns the keys of both maps, each once, in order.
fn union_keys<K: Ord + Copy, V>(
    source_value: &BTreeMap<K, V>,
    destination_value: &BTreeMap<K, V>,
) -> BTreeSet<K> {
    source_value
        .keys()
        .chain(destination_value.keys())
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn shape() -> MachineShape {
        MachineShape {
            machine: Some("virt-10.0".to_string()),
            vcpu_count: 1,
            ram: vec![RamBlock {
                name: "mach-virt.ram".to_string(),
                length: 1 << 26,
            }],
            devices: vec![DeviceSection {
                name: "arm_gic".to_string(),
                instance: 0,
                version: 12,
            }],
        }
    }

    #[test]
    fn equal_shapes_do_not_differ() {
        assert_eq!(shape().differences(&shape()), []);
    }

    #[test]
    fn parts_have_a_kind_for_programs_and_a_text_for_people() {
        let device = ShapePart::Device {
            name: "arm_gic".to_string(),
            instance: 1,
        };
        let parts = [
            (ShapePart::Accelerator, "accelerator", "accelerator"),
            (ShapePart::MachineType, "machine-type", "machine type"),
            (ShapePart::VcpuCount, "vcpu-count", "number of vCPUs"),
            (
                ShapePart::RamBlock("pvtime".to_string()),
                "ram-block",
                "RAM block pvtime",
            ),
            (device.clone(), "device", "device arm_gic (instance 1)"),
        ];
        for (part, kind, text) in parts {
            assert_eq!((part.kind(), part.to_string().as_str()), (kind, text));
        }
        assert_eq!(
            (device.name(), device.instance()),
            (Some("arm_gic"), Some(1))
        );
        assert_eq!(ShapePart::VcpuCount.name(), None);
    }

    #[test]
    fn only_differences_that_a_loader_fails_on_block() {
        let mut other = shape();
        other.devices.push(DeviceSection {
            name: "arm_gicv3_its".to_string(),
            instance: 0,
            version: 1,
        });
        let blocks = |a: &MachineShape, b: &MachineShape| a.differences(b).iter().any(|d| d.blocks);
        assert!(!blocks(&shape(), &other));
        assert!(blocks(&other, &shape()));
        let mut newer = shape();
        newer.devices[0].version = 13;
        assert!(blocks(&newer, &shape()));
        assert!(!blocks(&shape(), &newer));
        let mut bigger = shape();
        bigger.ram[0].length *= 2;
        assert!(blocks(&shape(), &bigger) && blocks(&bigger, &shape()));
        let firmware_tables = |length| {
            let mut shape = shape();
            shape.ram[0] = RamBlock {
                name: "/rom@etc/acpi/tables".to_string(),
                length,
            };
            shape
        };
        assert!(!blocks(
            &firmware_tables(0x2000),
            &firmware_tables(0x2_0000)
        ));
    }

    #[test]
    fn unknown_lists_are_not_compared() {
        let known = shape();
        assert!(!known.ram.is_empty() && !known.devices.is_empty());
        let unknown = MachineShape {
            ram: vec![],
            devices: vec![],
            ..known.clone()
        };
        assert_eq!(known.differences(&unknown), []);
        assert_eq!(unknown.differences(&known), []);
        let other_machine = MachineShape {
            machine: Some("virt-7.2".to_string()),
            ..unknown
        };
        assert_eq!(known.differences(&other_machine).len(), 1);
    }
}
