//! The kernel and CPU of this host, from `uname`, sysfs, firmware and the kernel's command line.

use std::fs;

use cpreg::cpu_model;
use cpreg::register::parse_hexadecimal;
use cpreg_hosts::record::{Capabilities, Identity};

/// MIDR_EL1 of the first CPU in sysfs.
const MIDR_PATH: &str = "/sys/devices/system/cpu/cpu0/regs/identification/midr_el1";
/// Manufacturer of the machine in its SMBIOS tables.
const SMBIOS_VENDOR_PATH: &str = "/sys/class/dmi/id/sys_vendor";
/// Names of the machine in its device tree, each with a zero at the end.
const DEVICE_TREE_COMPATIBLE_PATH: &str = "/proc/device-tree/compatible";
/// Device tree name of QEMU's machine `virt` and of other VMMs' machines.
const DUMMY_VIRT: &[u8] = b"linux,dummy-virt";

/// Reads MIDR_EL1 of the first CPU, if the kernel has it in sysfs (since v4.7).
pub(super) fn read_midr() -> Option<u64> {
    let text = fs::read_to_string(MIDR_PATH).ok()?;
    parse_hexadecimal(text.trim())
}

/// Returns the kernel and CPU of this host.
///
/// The CPU counts as emulated if MIDR_EL1 has implementer 0 (software), or if the firmware
/// describes a VM. The firmware does so if SMBIOS names QEMU, or the device tree names
/// [`DUMMY_VIRT`]. A VM whose host runs it on a real CPU with KVM looks the same; the user can
/// correct the record.
pub(super) fn detect_identity(midr: u64, capabilities: &Capabilities) -> Identity {
    let uname = rustix::system::uname();
    let compatible = fs::read(DEVICE_TREE_COMPATIBLE_PATH).unwrap_or_default();
    let vendor = fs::read_to_string(SMBIOS_VENDOR_PATH).unwrap_or_default();
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    Identity {
        release: uname.release().to_string_lossy().into_owned(),
        version: uname.version().to_string_lossy().into_owned(),
        midr,
        cpu: cpu_model::name_from_midr(midr),
        mode: mode(&command_line, |name| {
            capabilities.get(name).is_some_and(|value| *value > 0)
        }),
        emulated: cpu_model::implementer(midr) == 0
            || vendor.trim() == "QEMU"
            || compatible
                .split(|byte| *byte == 0)
                .any(|name| name == DUMMY_VIRT),
        cpus: Vec::new(),
    }
}

/// Returns the mode of KVM if it is not the usual one, joined by `+`.
///
/// - `nested` if KVM offers EL2
/// - `nvhe` or `protected` as in the last `kvm-arm.mode=` of the command line (v5.12)
/// - `mte` if KVM offers memory tagging
///
/// A kernel built without VHE does not show that, and gets no `nvhe`.
fn mode(command_line: &str, has: impl Fn(&str) -> bool) -> String {
    let requested = command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("kvm-arm.mode="))
        .next_back();
    let mut modes = Vec::new();
    if has("KVM_CAP_ARM_EL2") {
        modes.push("nested");
    } else if let Some(requested @ ("nvhe" | "protected")) = requested {
        modes.push(requested);
    }
    if has("KVM_CAP_ARM_MTE") {
        modes.push("mte");
    }
    modes.join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_depends_on_the_command_line_and_the_capabilities() {
        let requested = |line| mode(line, |_| false);
        assert_eq!(requested("console=ttyAMA0"), "");
        assert_eq!(
            requested("kvm-arm.mode=protected kvm-arm.mode=nvhe"),
            "nvhe"
        );
        assert_eq!(requested("kvm-arm.mode=nested"), "");
        let has = |cap| mode("kvm-arm.mode=nested", move |name| name == cap);
        assert_eq!(has("KVM_CAP_ARM_EL2"), "nested");
        assert_eq!(has("KVM_CAP_ARM_MTE"), "mte");
    }
}
