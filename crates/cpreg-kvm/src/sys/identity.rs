//! Which kernel and CPU this host is: `uname`, MIDR_EL1 in sysfs, and what firmware and the kernel's command line tell.

use std::fs;

use cpreg::register::parse_hexadecimal;
use cpreg_hosts::record::{Capabilities, Identity};

use crate::cpu_name;

/// MIDR_EL1 of the first CPU as the kernel shows it.
const MIDR: &str = "/sys/devices/system/cpu/cpu0/regs/identification/midr_el1";
/// Who made the machine, by its SMBIOS tables.
const VENDOR: &str = "/sys/class/dmi/id/sys_vendor";
/// What the machine is, by its device tree: strings that each end with a zero.
const COMPATIBLE: &str = "/proc/device-tree/compatible";
/// The device tree's name of QEMU's machine `virt` and of other VMMs' machines.
const VIRTUAL: &[u8] = b"linux,dummy-virt";

/// MIDR_EL1 of the first CPU, if the kernel shows it (since v4.7).
pub(super) fn read_midr() -> Option<u64> {
    let text = fs::read_to_string(MIDR).ok()?;
    parse_hexadecimal(text.trim())
}

/// Which kernel and CPU this host is.
///
/// It counts as emulated if its CPU has no implementer (0 is for software), or if its firmware says that the machine is a VM's: SMBIOS names QEMU,
/// or the device tree [`VIRTUAL`]. A real CPU's guest that itself has KVM looks alike: whoever knows better says so.
pub(super) fn detect_identity(midr: u64, capabilities: &Capabilities) -> Identity {
    let uname = rustix::system::uname();
    let compatible = fs::read(COMPATIBLE).unwrap_or_default();
    let vendor = fs::read_to_string(VENDOR).unwrap_or_default();
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    Identity {
        release: uname.release().to_string_lossy().into_owned(),
        version: uname.version().to_string_lossy().into_owned(),
        midr,
        cpu: cpu_name::from_midr(midr),
        mode: mode(&command_line, |name| {
            capabilities.get(name).is_some_and(|value| *value > 0)
        }),
        emulated: cpu_name::implementer(midr) == 0
            || vendor.trim() == "QEMU"
            || compatible.split(|byte| *byte == 0).any(|it| it == VIRTUAL),
    }
}

/// How KVM runs, where it is not as usual, with `+` between: `nested` if it offers EL2, `nvhe` or `protected` if it was told to
/// (`kvm-arm.mode=`, v5.12; the last one counts), `mte` if it offers memory tagging. A kernel that has VHE built out tells
/// nothing.
fn mode(command_line: &str, has: impl Fn(&str) -> bool) -> String {
    let told = command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("kvm-arm.mode="))
        .next_back();
    let mut modes = Vec::new();
    if has("KVM_CAP_ARM_EL2") {
        modes.push("nested");
    } else if let Some(told @ ("nvhe" | "protected")) = told {
        modes.push(told);
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
    fn the_mode_is_what_the_kernel_was_told_last_and_what_it_offers() {
        let told = |line| mode(line, |_| false);
        assert_eq!(told("console=ttyAMA0"), "");
        assert_eq!(told("kvm-arm.mode=protected kvm-arm.mode=nvhe"), "nvhe");
        assert_eq!(told("kvm-arm.mode=nested"), "");
        let has = |cap| mode("kvm-arm.mode=nested", move |name| name == cap);
        assert_eq!(has("KVM_CAP_ARM_EL2"), "nested");
        assert_eq!(has("KVM_CAP_ARM_MTE"), "mte");
    }
}
