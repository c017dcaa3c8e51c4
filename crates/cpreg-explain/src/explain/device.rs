//! What one line alone tells of a device, the interrupt controller included.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use cpreg::remedy::Remedy;

use super::explanation::{Cause, Explanation, FailureKind, cause, error_suffix};
use crate::failure::LoadFailure;
use crate::message::Symptom;

/// Explains a line about a device that is no vCPU and no RAM.
pub(super) fn explain(symptom: &Symptom, failure: &LoadFailure) -> Option<Explanation> {
    Some(match symptom {
        Symptom::FieldFailed { section, field } if section != "cpu" => {
            let says_why = |other: &&Symptom| {
                matches!(
                    other,
                    Symptom::VirtioFeatures { .. } | Symptom::PciConfig { .. }
                )
            };
            if let Some(other) = failure.symptoms().find(says_why) {
                return explain(other, failure);
            }
            device(
                format!("the field `{field}` of `{section}` could not be read"),
                command_lines(),
            )
        }
        Symptom::VirtioFeatures { incoming, allowed } => device(
            format!(
                "the guest agreed on virtio features that the destination's device has not got: \
                 bits {:#x}",
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
                "the state of `{section}` has a part `{name}` that the destination's QEMU does \
                 not know"
            ),
            cause(
                "the source's QEMU is newer, or the device there has an option set",
                "a subsection is sent only where it is needed",
            ),
        ),
        Symptom::UnknownSection { device: name, .. } if name != "cpu" && name != "cpu_common" => {
            device(
                format!(
                    "the input has a device `{name}`, and the destination has none of that name \
                     there"
                ),
                command_lines(),
            )
        }
        Symptom::SectionVersion {
            device: name,
            incoming,
            local: own,
        } => device(
            format!(
                "the state of `{name}` is in a newer format{} than the destination knows{}",
                incoming.map_or_else(String::new, |version| format!(" ({version})")),
                own.map_or_else(String::new, |version| format!(" ({version})"))
            ),
            cause(
                "the source's QEMU is newer",
                "the version stands in the section",
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

fn device(means: String, why: Cause) -> Explanation {
    let settle = vec![Remedy::SHOW, Remedy::Rehearse];
    Explanation::new(FailureKind::DEVICE, means, vec![why], settle)
}

fn command_lines() -> Cause {
    cause(
        "the two VMs' command lines differ: another device, another number of vCPUs, another \
         machine option",
        "QEMU matches sections by name and number",
    )
}

fn interrupt_controller(means: String, settle: Vec<Remedy>) -> Explanation {
    let causes = vec![
        cause(
            "another interrupt controller or another number of vCPUs or interrupts on the two \
             sides (gic-version, its)",
            "its state is in no register list",
        ),
        cause(
            "with `Bad address`: the tables of the ITS lie in the guest's RAM, and that was not \
             there yet, or a diff snapshot left it out",
            "e2b-dev/infra issue 2057",
        ),
    ];
    Explanation::new(FailureKind::INTERRUPT_CONTROLLER, means, causes, settle)
}
