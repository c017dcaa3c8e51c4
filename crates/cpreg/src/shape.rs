//! [`MachineShape`]: what must agree between a VM and a destination before registers matter at all.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

/// The outline of a VM: everything a loader matches before it looks at a register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineShape {
    /// The machine type (`virt-10.0`), if known.
    pub machine: Option<String>,
    /// How many vCPUs.
    pub vcpu_count: usize,
    /// RAM blocks: name and length in bytes, in the order of the source.
    pub ram: Vec<RamBlock>,
    /// Device sections, in the order of the source.
    pub devices: Vec<DeviceSection>,
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
pub struct DeviceSection {
    /// QEMU's id string (`arm_gicv3`, `0000:00:01.0/virtio-net`).
    pub name: String,
    /// Which of several with that name.
    pub instance: u32,
    /// The version of its format.
    pub version: u32,
}

/// One way in which a VM's outline differs from the destination's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeDifference {
    /// What differs.
    pub subject: String,
    /// What the VM has, if it has it.
    pub source: Option<String>,
    /// What the destination has, if it has it.
    pub destination: Option<String>,
    /// Whether a loader fails on it.
    pub blocks: bool,
}

impl MachineShape {
    /// How this VM's outline differs from a destination's, and which of it a loader fails on: another machine type, other RAM, a
    /// device that only the VM has, or has in a newer format (QEMU `migration/savevm.c`, v5.2 to v11.0). A device that only
    /// the destination has keeps its reset state.
    pub fn differences(&self, destination: &Self) -> Vec<ShapeDifference> {
        let mut differences = Vec::new();
        let mut differ = |what: String, ours: Option<String>, theirs: Option<String>, refuses| {
            differences.push(ShapeDifference {
                subject: what,
                source: ours,
                destination: theirs,
                blocks: refuses,
            });
        };
        if let (Some(ours), Some(theirs)) = (&self.machine, &destination.machine)
            && ours != theirs
        {
            differ(
                "machine type".to_string(),
                Some(ours.clone()),
                Some(theirs.clone()),
                true,
            );
        }
        if self.vcpu_count != destination.vcpu_count {
            differ(
                "number of vCPUs".to_string(),
                Some(self.vcpu_count.to_string()),
                Some(destination.vcpu_count.to_string()),
                true,
            );
        }
        let (our_ram, their_ram) = (ram_lengths(&self.ram), ram_lengths(&destination.ram));
        for name in union_keys(&our_ram, &their_ram) {
            let length_of = |ram: &BTreeMap<&str, u64>| {
                let length = ram.get(name);
                length.map(|length| format!("{length:#x} bytes"))
            };
            let (ours, theirs) = (length_of(&our_ram), length_of(&their_ram));
            if ours != theirs {
                let refuses = ours.is_some()
                    && !(theirs.is_some() && name.starts_with(RESIZABLE_BLOCK_PREFIX));
                differ(format!("RAM block {name}"), ours, theirs, refuses);
            }
        }
        let (our_devices, their_devices) = (
            device_versions(&self.devices),
            device_versions(&destination.devices),
        );
        for key in union_keys(&our_devices, &their_devices) {
            let (ours, theirs) = (
                our_devices.get(&key).copied(),
                their_devices.get(&key).copied(),
            );
            if ours != theirs {
                let refuses = ours.is_some_and(|ours| theirs.is_none_or(|theirs| ours > theirs));
                differ(
                    format!("device {} (instance {})", key.0, key.1),
                    ours.map(|version| format!("version {version}")),
                    theirs.map(|version| format!("version {version}")),
                    refuses,
                );
            }
        }
        differences
    }
}

/// Blocks that QEMU resizes to what arrives: the firmware's tables (`acpi_add_rom_blob`).
const RESIZABLE_BLOCK_PREFIX: &str = "/rom@etc/";

/// Sections that come once a vCPU; their number is compared as the number of vCPUs.
const PER_VCPU_SECTIONS: [&str; 2] = ["cpu", "cpu_common"];

/// Each block's length; of several with one name the first one's.
fn ram_lengths(ram: &[RamBlock]) -> BTreeMap<&str, u64> {
    let blocks = ram.iter().rev();
    blocks
        .map(|block| (block.name.as_str(), block.length))
        .collect()
}

/// Each device's version, but for those that come once a vCPU; of several with one name and instance the first one's.
fn device_versions(devices: &[DeviceSection]) -> BTreeMap<(&str, u32), u32> {
    let devices = devices.iter().rev();
    devices
        .filter(|device| !PER_VCPU_SECTIONS.contains(&device.name.as_str()))
        .map(|device| ((device.name.as_str(), device.instance), device.version))
        .collect()
}

/// The keys on either side, each once, in order.
fn union_keys<K: Ord + Copy, V>(ours: &BTreeMap<K, V>, theirs: &BTreeMap<K, V>) -> BTreeSet<K> {
    ours.keys().chain(theirs.keys()).copied().collect()
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
    fn equal_outlines_do_not_differ() {
        assert_eq!(shape().differences(&shape()), []);
    }

    #[test]
    fn only_what_a_loader_fails_on_refuses() {
        let mut other = shape();
        other.devices.push(DeviceSection {
            name: "arm_gicv3_its".to_string(),
            instance: 0,
            version: 1,
        });
        let refuses =
            |a: &MachineShape, b: &MachineShape| a.differences(b).iter().any(|d| d.blocks);
        assert!(!refuses(&shape(), &other));
        assert!(refuses(&other, &shape()));
        let mut newer = shape();
        newer.devices[0].version = 13;
        assert!(refuses(&newer, &shape()));
        assert!(!refuses(&shape(), &newer));
        let mut bigger = shape();
        bigger.ram[0].length *= 2;
        assert!(refuses(&shape(), &bigger) && refuses(&bigger, &shape()));
        let tables = |length| {
            let mut shape = shape();
            shape.ram[0] = RamBlock {
                name: "/rom@etc/acpi/tables".to_string(),
                length,
            };
            shape
        };
        assert!(!refuses(&tables(0x2000), &tables(0x2_0000)));
    }
}
