//! Explanation of lines about the interrupt controller.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use cpreg::errno::Errno;
use cpreg::remedy::Remedy;

use super::explanation::{Cause, Explanation, FailureKind, cause, error_suffix};
use super::vgic;
use crate::message::{AttributeAccess, Emitter, Symptom};
use crate::situation::Situation;

/// Explains a line about the interrupt controller.
pub(super) fn explain(symptom: &Symptom, emitter: Emitter) -> Option<Explanation> {
    Some(match symptom {
        Symptom::DeviceAttribute {
            access,
            group,
            attribute,
            error,
        } => explain_attribute(*access, *group, *attribute, *error),
        Symptom::GicNotRestored { error } => explain_vmm(emitter, *error),
        Symptom::SectionFailed { device, .. }
            if device.starts_with("arm_gic") || device == "kvm-arm-gicv3" =>
        {
            new(
                format!("the state of the interrupt controller (`{device}`) could not be loaded"),
                general_causes(),
                vec![Remedy::Rehearse],
            )
        }
        _ => return None,
    })
}

fn explain_attribute(
    access: AttributeAccess,
    group: u32,
    attribute: u64,
    error: Option<Errno>,
) -> Explanation {
    let decoded = vgic::attribute(access, group, attribute);
    let meaning = format!(
        "KVM refused to {} ({}, attribute {attribute:#x} of group {group}){}",
        decoded.meaning,
        decoded.name,
        error_suffix(error)
    );
    if vgic::is_table_save(group, attribute) && error == Some(Errno(13)) {
        return new(
            format!(
                "{meaning}. An interrupt of a passed-through device is injected directly (GICv4), \
                 and KVM cannot read its state. QEMU saves the tables whenever the VM stops: at a \
                 shutdown the message is harmless; a migration or a save needs the device detached"
            ),
            vec![cause(
                "a VF or another device passed through by VFIO, on a host with GICv4",
                "Linux's arch/arm64/kvm/vgic/vgic-its.c returns EACCES for such interrupts",
            )],
            Vec::new(),
        )
        .with_command(
            "virsh detach-device VM DEVICE.xml --live",
            "detaches the device before a migration; QEMU's monitor: device_del ID",
        );
    }
    let causes = match error {
        Some(Errno::EFAULT) => vec![table_cause()],
        Some(Errno(6)) => vec![cause(
            "ENXIO: this kernel does not know the attribute, or it belongs to another kind of \
             controller",
            "Linux's Documentation/virt/kvm/devices",
        )],
        Some(Errno::EBUSY) => vec![cause(
            "EBUSY: a vCPU runs, or the controller is already initialized",
            "Linux's Documentation/virt/kvm/devices",
        )],
        _ if decoded.situation == Situation::Start => vec![cause(
            "the host's interrupt controller does not support what the VM asks for: another \
             gic-version, or more vCPUs or interrupts than it has",
            "KVM checks it when QEMU starts",
        )],
        _ => general_causes(),
    };
    let explanation = new(meaning, causes, vec![Remedy::Rehearse]);
    if decoded.situation == Situation::Start {
        return explanation.with_command(
            "qemu-system-aarch64 -machine virt,gic-version=host -accel kvm -cpu host …",
            "starts the VM with the host's version of the controller (libvirt: <gic/> in \
             <features>)",
        );
    }
    explanation
}

fn explain_vmm(emitter: Emitter, error: Option<Errno>) -> Explanation {
    let meaning = format!(
        "KVM refused the state of the interrupt controller{}",
        error_suffix(error)
    );
    let causes = match error {
        Some(Errno::EFAULT) => vec![table_cause()],
        _ => general_causes(),
    };
    let explanation = new(meaning, causes, Vec::new());
    if emitter == Emitter::CLOUD_HYPERVISOR {
        explanation.with_command(
            "ch-remote --api-socket SOCKET info",
            "shows the source's number of vCPUs, which must be that of the destination",
        )
    } else {
        explanation.with_command(
            "snapshot-editor info-vmstate vm-state --vmstate-path VMSTATE",
            "shows the saved state with the version of the controller; it must be the host's. A \
             snapshot needs the memory file that was written with it",
        )
    }
}

fn general_causes() -> Vec<Cause> {
    vec![
        cause(
            "another interrupt controller or another number of vCPUs or interrupts on the two \
             sides (gic-version, its)",
            "its state is in no register list",
        ),
        table_cause(),
    ]
}

fn table_cause() -> Cause {
    cause(
        "with `Bad address`: the tables of the ITS are in the guest's RAM, which was not loaded \
         yet, or is missing in a diff snapshot",
        "e2b-dev/infra issue 2057",
    )
}

fn new(meaning: String, causes: Vec<Cause>, remedies: Vec<Remedy>) -> Explanation {
    Explanation::new(FailureKind::INTERRUPT_CONTROLLER, meaning, causes, remedies)
}
