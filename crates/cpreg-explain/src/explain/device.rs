//! Explanation of single lines about devices other than the interrupt controller.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use cpreg::errno::Errno;
use cpreg::remedy::Remedy;

use super::explanation::{Cause, Explanation, FailureKind, cause};
use crate::failure::LoadFailure;
use crate::message::Symptom;

/// Explains a line about a device other than vCPUs and RAM.
pub(super) fn explain(symptom: &Symptom, failure: &LoadFailure) -> Option<Explanation> {
    Some(match symptom {
        Symptom::FieldFailed { section, field } if section != "cpu" => {
            let is_reason = |other: &&Symptom| {
                matches!(
                    other,
                    Symptom::VirtioFeatures { .. } | Symptom::PciConfig { .. }
                )
            };
            if let Some(other) = failure.symptoms().find(is_reason) {
                return explain(other, failure);
            }
            device(
                format!("the field `{field}` of `{section}` could not be read"),
                command_lines(),
            )
        }
        Symptom::VirtioFeatures { incoming, allowed } => device(
            format!(
                "the guest negotiated virtio features that the destination's device lacks: bits \
                 {:#x}",
                incoming & !allowed
            ),
            cause(
                "another QEMU version with the same machine type, another host kernel (vhost, \
                 tap), or device options that differ",
                "KubeVirt issue 16386, QEMU 8.2",
            ),
        ),
        Symptom::PciConfig { offset } => device(
            format!(
                "a PCI device's configuration differs{} where the guest cannot have changed it",
                offset.map_or_else(String::new, |offset| format!(" at byte {offset:#x}"))
            ),
            command_lines(),
        ),
        Symptom::UnknownSubsection { name, section } if section != "cpu" => device(
            format!(
                "the state of `{section}` has a subsection `{name}` that the destination's QEMU \
                 does not know"
            ),
            cause(
                "the source's QEMU is newer, or an option of the device is set at the source",
                "QEMU sends a subsection only if it is needed",
            ),
        ),
        Symptom::UnknownSection { device: name, .. } if name != "cpu" && name != "cpu_common" => {
            device(
                format!(
                    "the input has a device `{name}`, and the destination has no device of that \
                     name"
                ),
                command_lines(),
            )
        }
        Symptom::SectionVersion {
            device: name,
            incoming,
            local,
        } => device(
            format!(
                "the state of `{name}` is in a newer format{} than the destination knows{}",
                incoming.map_or_else(String::new, |version| format!(" ({version})")),
                local.map_or_else(String::new, |version| format!(" ({version})"))
            ),
            cause(
                "the source's QEMU is newer",
                "the section contains the version",
            ),
        ),
        Symptom::SectionFailed { device: name, .. } if name != "cpu" && name != "ram" => {
            explain_failed_section(name, failure.load_error())
        }
        _ => return None,
    })
}

/// Explains a section that did not load, by the error with which QEMU ended the load.
///
/// Source of the errors: QEMU's `migration/vmstate.c` and `migration/savevm.c`.
fn explain_failed_section(name: &str, error: Option<Errno>) -> Explanation {
    const VMSTATE: &str = "QEMU's migration/vmstate.c";
    let (reason, cause) = match error {
        Some(Errno::ENOENT) => (
            ": it has a subsection that the destination's QEMU does not know (ENOENT)",
            cause(
                "the source's QEMU is newer than the destination's, or the machine type is a newer \
                 one: move the VM to the source's QEMU version or a later one",
                VMSTATE,
            ),
        ),
        Some(Errno::EINVAL) => (
            ": a part of it has another format, another length or a value that must be equal on \
             both sides (EINVAL)",
            command_lines(),
        ),
        Some(Errno::EPERM) => (
            ": it was read, but the device refused it (a hook returned -1)",
            command_lines(),
        ),
        Some(Errno::EIO) => (
            ": the stream ended inside it, or was damaged",
            cause(
                "the connection or the source ended first; the source's log has the reason",
                VMSTATE,
            ),
        ),
        Some(Errno(12)) => (
            ": the destination had not enough memory for it",
            cause("the destination's limits or its free memory", VMSTATE),
        ),
        _ => ("", command_lines()),
    };
    device(
        format!("the state of the device `{name}` could not be loaded{reason}"),
        cause,
    )
    .with_command(
        "qemu-system-aarch64 --version",
        "shows the version; run it on both hosts (RHEL: /usr/libexec/qemu-kvm --version)",
    )
}

fn device(meaning: String, cause: Cause) -> Explanation {
    let next_steps = vec![Remedy::SHOW, Remedy::Rehearse];
    Explanation::new(FailureKind::DEVICE, meaning, vec![cause], next_steps)
}

fn command_lines() -> Cause {
    cause(
        "the two VMs' command lines differ: another device, another number of vCPUs, another \
         machine option",
        "QEMU matches sections by name and instance",
    )
}
