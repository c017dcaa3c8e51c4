//! Parts of the CPU state, devices, RAM, the stream: what one line alone tells.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use cpreg::errno::Errno;
use cpreg::remedy::Remedy;

use super::explanation::{Cause, Explanation, Kind, cause, reason};
use crate::failure::Failure;
use crate::message::{Access, Symptom};

/// What needs no look at the other lines.
pub(super) fn plain(symptom: &Symptom, failure: &Failure) -> Option<Explanation> {
    let device = |means: String, causes: Vec<Cause>| Explanation {
        kind: Kind::DEVICE,
        means,
        causes,
        registers: Vec::new(),
        settle: vec![Remedy::SHOW, Remedy::Rehearse],
    };
    let command_lines = || {
        cause(
            "the two VMs' command lines differ: another device, another number of vCPUs, another machine option",
            "QEMU matches sections by name and number",
        )
    };
    Some(match symptom {
        Symptom::UnknownSubsection { name, section } if section == "cpu" => {
            let since = subsection_since(name);
            Explanation {
                kind: Kind::CPU_SUBSECTION,
                means: format!(
                    "the VM's CPU state has a part `{name}` that the destination's QEMU does not know"
                ),
                causes: since.into_iter().collect(),
                registers: Vec::new(),
                settle: vec![Remedy::CHECK, Remedy::Convert],
            }
        }
        Symptom::UnknownSubsection { name, section } => device(
            format!("the state of `{section}` has a part `{name}` that the destination's QEMU does not know"),
            vec![cause(
                "the source's QEMU is newer, or the device there has an option set",
                "a subsection is sent only where it is needed",
            )],
        ),
        Symptom::Aborted {
            function,
            assertion,
        } => aborted(function, assertion),
        Symptom::RamSize {
            block,
            incoming,
            own,
        } => ram(
            format!("the RAM block `{block}` has {incoming:#x} bytes in the input and {own:#x} at the destination"),
            if block.contains("rom") || block.contains("flash") || block.contains("bios") {
                "a device's ROM or the firmware: another file, or another version of it, is installed there"
            } else {
                "another amount of memory on the two command lines"
            },
        ),
        Symptom::RamPageSize {
            block,
            incoming,
            own,
        } => ram(
            format!("the RAM block `{block}` has pages of {incoming:#x} bytes in the input and of {own:#x} at the destination; with postcopy they must be equal"),
            "huge pages on one side only, or of another size; kernels with 4 KiB and with 64 KiB pages",
        ),
        Symptom::UnknownRamBlock { block } => ram(
            format!("the input has a RAM block `{block}`, and the destination none of that name"),
            "a device that is only on one of the two command lines, or stands in another slot",
        ),
        Symptom::MachineType { incoming, own } => Explanation {
            kind: Kind::MACHINE_TYPE,
            means: format!("the VM is a `{incoming}` and the destination was started as `{own}`"),
            causes: vec![cause(
                "`-machine virt` without a version means another one in every QEMU",
                "QEMU's machine types",
            )],
            registers: Vec::new(),
            settle: vec![Remedy::SHOW],
        },
        Symptom::Capability { name } => Explanation {
            kind: Kind::STREAM,
            means: format!("`{name}` differs between the two sides of the migration"),
            causes: vec![cause(
                "a capability or machine option that is set on one side only",
                "it stands at the stream's beginning",
            )],
            registers: Vec::new(),
            settle: vec![Remedy::SHOW],
        },
        Symptom::VirtioFeatures { incoming, allowed } => device(
            format!(
                "the guest agreed on virtio features that the destination's device has not got: bits {:#x}",
                incoming & !allowed
            ),
            vec![cause(
                "another QEMU version with the same machine type, another host kernel (vhost, tap), or device options that differ",
                "KubeVirt issue 16386, QEMU 8.2",
            )],
        ),
        Symptom::PciConfig { offset } => device(
            format!(
                "a PCI device's configuration differs{} where the guest cannot have changed it",
                offset.map_or_else(String::new, |offset| format!(" at byte {offset:#x}"))
            ),
            vec![command_lines()],
        ),
        Symptom::UnknownSection { device: name, .. } if name == "cpu" || name == "cpu_common" => Explanation {
            kind: Kind::CPU_SECTION,
            means: "the VM has more vCPUs than the destination was started with".to_string(),
            causes: vec![cause("another -smp on the two command lines", "each vCPU is a section")],
            registers: Vec::new(),
            settle: vec![Remedy::SHOW, Remedy::Rehearse],
        },
        Symptom::UnknownSection { device: name, .. } => device(
            format!("the input has a device `{name}`, and the destination has none of that name there"),
            vec![command_lines()],
        ),
        Symptom::SectionVersion {
            device: name,
            incoming,
            own,
        } => device(
            format!(
                "the state of `{name}` is in a newer format{} than the destination knows{}",
                incoming.map_or_else(String::new, |version| format!(" ({version})")),
                own.map_or_else(String::new, |version| format!(" ({version})"))
            ),
            vec![cause("the source's QEMU is newer", "the version stands in the section")],
        ),
        Symptom::MissingFooter { device: name } => Explanation {
            kind: Kind::STREAM,
            means: match name {
                Some(name) => format!(
                    "the section of `{name}` did not end where the destination's QEMU expected: it read more or less than was written"
                ),
                None => "the stream ended inside a section".to_string(),
            },
            causes: vec![cause(
                "the two QEMUs take the device's state for something else (another version or option), or the stream was cut off",
                "QEMU checks the end of each section",
            )],
            registers: Vec::new(),
            settle: vec![Remedy::SHOW, Remedy::Rehearse],
        },
        Symptom::DeviceAttribute {
            group,
            attribute,
            error,
        } => interrupt_controller(format!(
            "KVM refused a part of a device's state, on arm64 the interrupt controller's (group {group}, attribute {attribute:#x}{})",
            reason(*error)
        ), vec![Remedy::Rehearse]),
        Symptom::GicNotRestored { error } => interrupt_controller(format!(
            "KVM refused the state of the interrupt controller{}",
            reason(*error)
        ), Vec::new()),
        Symptom::NotAStream => Explanation {
            kind: Kind::STREAM,
            means: "what the destination was given is no migration stream, or one of a version that it does not read".to_string(),
            causes: vec![cause(
                "a file that is packed or wrapped (xz, libvirt's save image), or another program's output",
                "a stream begins with QEVM",
            )],
            registers: Vec::new(),
            settle: vec![Remedy::SHOW],
        },
        Symptom::SnapshotVersion { version } => Explanation {
            kind: Kind::STREAM,
            means: format!(
                "the snapshot{} is in a format that this version of the program does not read",
                if version.is_empty() { String::new() } else { format!(" ({version})") }
            ),
            causes: vec![cause(
                "another version of the program wrote it",
                "Firecracker reads its own format version only",
            )],
            registers: Vec::new(),
            settle: Vec::new(),
        },
        Symptom::VcpuInit { error } if *error == Some(Errno::EINVAL) || error.is_none() => Explanation {
            kind: Kind::VCPU_INIT,
            means: "KVM could not set up a vCPU as it was asked to; nothing was loaded yet".to_string(),
            causes: vec![cause(
                "a CPU option that this host has not got (pmu, sve, pauth, aarch64=off, kvm-psci-version), or performance monitors in a snapshot of Firecracker",
                "KVM_ARM_VCPU_INIT checks the features",
            )],
            registers: Vec::new(),
            settle: vec![Remedy::Compare],
        },
        Symptom::GuestCpu { features } => Explanation {
            kind: Kind::GUEST_CPU,
            means: format!("libvirt compared the guest's CPU with what it was started with, and they differ: {features}"),
            causes: vec![cause(
                "another host CPU, kernel or QEMU. On aarch64 libvirt compares hardly anything, so that most differences get past it",
                "libvirt's cpu_arm.c",
            )],
            registers: Vec::new(),
            settle: vec![Remedy::Compare],
        },
        Symptom::SomeRegister {
            access: Access::Read,
            ..
        } => Explanation {
            kind: Kind::NOT_SAVED,
            means: "the VM could not be saved: the program could not read a register that it expects every vCPU to have".to_string(),
            causes: vec![cause(
                "a CPU with SVE: KVM then has no V registers, only Z registers. Cloud Hypervisor reads these from v53 on",
                "Cloud Hypervisor issue 8057, commit 5c25d82f5",
            )],
            registers: Vec::new(),
            settle: Vec::new(),
        },
        Symptom::FieldFailed { section, field } if section != "cpu" => {
            if let Some(other) = failure.symptoms().find(|other| {
                matches!(
                    other,
                    Symptom::VirtioFeatures { .. } | Symptom::PciConfig { .. }
                )
            }) {
                return plain(other, failure);
            }
            device(
                format!("the field `{field}` of `{section}` could not be read"),
                vec![command_lines()],
            )
        }
        Symptom::SectionFailed { device: name, .. } if is_gic(name) => interrupt_controller(format!(
            "the state of the interrupt controller (`{name}`) could not be loaded"
        ), vec![Remedy::Rehearse]),
        Symptom::SectionFailed { device: name, .. } if name == "ram" => {
            if failure.symptoms().any(|other| matches!(other, Symptom::RamSize { .. } | Symptom::RamPageSize { .. } | Symptom::UnknownRamBlock { .. })) {
                return None;
            }
            ram("RAM could not be loaded".to_string(), "blocks of other lengths, or a stream that was cut off")
        }
        Symptom::SectionFailed { device: name, .. } if name != "cpu" => device(
            format!("the state of the device `{name}` could not be loaded"),
            vec![command_lines()],
        ),
        _ => return None,
    })
}

fn is_gic(device: &str) -> bool {
    device.starts_with("arm_gic") || device == "kvm-arm-gicv3"
}

fn ram(means: String, what: &'static str) -> Explanation {
    Explanation {
        kind: Kind::RAM,
        means,
        causes: vec![cause(what, "QEMU compares the blocks by name")],
        registers: Vec::new(),
        settle: vec![Remedy::SHOW, Remedy::Rehearse],
    }
}

fn interrupt_controller(means: String, settle: Vec<Remedy>) -> Explanation {
    Explanation {
        kind: Kind::INTERRUPT_CONTROLLER,
        means,
        causes: vec![
            cause(
                "another interrupt controller or another number of vCPUs or interrupts on the two sides (gic-version, its)",
                "its state is in no register list",
            ),
            cause(
                "with `Bad address`: the tables of the ITS lie in the guest's RAM, and that was not there yet, or a diff snapshot left it out",
                "e2b-dev/infra issue 2057",
            ),
        ],
        registers: Vec::new(),
        settle,
    }
}

fn subsection_since(name: &str) -> Option<Cause> {
    // As in destination::extension's module: which QEMU sends what.
    let since = match name {
        "cpu/wfxt-timer" | "cpu/vfp/fpcr_fpsr" => "9.1",
        "cpu/syndrome64" | "cpu/pstate64" => "10.2",
        "cpu/event" => "11.0",
        _ => return None,
    };
    Some(cause(
        format!("the source is QEMU {since} or later and the destination an older one"),
        "QEMU's target/arm/machine.c",
    ))
}

fn aborted(function: &str, assertion: &str) -> Explanation {
    let (means, causes, settle) = match function {
        "vmstate_load_state" => (
            "the destination's QEMU ended itself while it read a section: it took what was sent for something else".to_string(),
            vec![cause(
                "QEMU 10.0 under TCG that is given the part `cpu/wfxt-timer`, which 11.1 sends",
                "recorded with QEMU 11.1.3 and 10.0.13",
            )],
            vec![Remedy::CHECK],
        ),
        "cpu_pre_load" | "cpu_post_load" | "cpu_pre_save" => (
            "the destination's QEMU ended itself in its own handling of the register list".to_string(),
            vec![
                cause(
                    "under HVF every restore with QEMU 11.0: the arrays of the list are not set up as under KVM",
                    "QEMU commits ab2ddc7b66 and 06fd39e426",
                ),
                cause(
                    "a second load after one that failed, in the same QEMU",
                    "QEMU 11.0.3's target/arm/machine.c",
                ),
            ],
            Vec::new(),
        ),
        _ => (
            format!("the program ended itself: `{assertion}` did not hold in `{function}`"),
            Vec::new(),
            vec![Remedy::Rehearse, Remedy::Report],
        ),
    };
    Explanation {
        kind: Kind::ABORT,
        means,
        causes,
        registers: Vec::new(),
        settle,
    }
}
