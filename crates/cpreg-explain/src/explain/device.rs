//! Explanation of single lines about devices, including the interrupt controller.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use cpreg::remedy::Remedy;

use super::explanation::{Cause, Explanation, FailureKind, cause, error_suffix};
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
            explain_section_failed(name)
        }
        Symptom::DeviceAttribute {
            group,
            attribute,
            error,
        } => interrupt_controller(
            format!(
                "KVM refused a part of a device's state, on arm64 the interrupt controller's \
                 (group {group}, attribute {attribute:#x}{})",
                error_suffix(*error)
            ),
            vec![Remedy::Rehearse],
        ),
        Symptom::GicNotRestored { error } => interrupt_controller(
            format!(
                "KVM refused the state of the interrupt controller{}",
                error_suffix(*error)
            ),
            Vec::new(),
        ),
        _ => return None,
    })
}

fn explain_section_failed(name: &str) -> Explanation {
    if name.starts_with("arm_gic") || name == "kvm-arm-gicv3" {
        return interrupt_controller(
            format!("the state of the interrupt controller (`{name}`) could not be loaded"),
            vec![Remedy::Rehearse],
        );
    }
    device(
        format!("the state of the device `{name}` could not be loaded"),
        command_lines(),
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

fn interrupt_controller(meaning: String, next_steps: Vec<Remedy>) -> Explanation {
    let causes = vec![
        cause(
            "another interrupt controller or another number of vCPUs or interrupts on the two \
             sides (gic-version, its)",
            "its state is in no register list",
        ),
        cause(
            "with `Bad address`: the tables of the ITS are in the guest's RAM, which was not \
             loaded yet, or is missing in a diff snapshot",
            "e2b-dev/infra issue 2057",
        ),
    ];
    Explanation::new(
        FailureKind::INTERRUPT_CONTROLLER,
        meaning,
        causes,
        next_steps,
    )
}
