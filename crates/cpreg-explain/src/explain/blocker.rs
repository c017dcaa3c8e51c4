//! Explanation of migrations that the source refuses, and of a postcopy migration that stopped.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::explanation::{Explanation, FailureKind, cause};
use crate::message::{BlockerReason, Symptom};

/// Explains a line about a refused or stopped migration.
pub(super) fn explain(symptom: &Symptom) -> Option<Explanation> {
    Some(match symptom {
        Symptom::MigrationBlocked { reason } => explain_blocker(reason),
        Symptom::PostcopyPaused => Explanation::new(
            FailureKind::POSTCOPY,
            "the connection ended after the switchover of a postcopy migration: the VM is paused, \
             and each side has a part of its RAM. Neither side can run it alone; a new connection \
             continues the migration",
            vec![cause(
                "the network between the hosts, or a relay between them, ended the connection",
                "QEMU's migration/migration.c",
            )],
            Vec::new(),
        )
        .with_command(
            "virsh migrate VM DESTINATION-URI --postcopy-resume",
            "continues the migration (QEMU's monitors: migrate_recover at the destination, then \
             migrate -r at the source)",
        ),
        _ => return None,
    })
}

fn explain_blocker(reason: &BlockerReason) -> Explanation {
    let blocked = |meaning, causes| {
        Explanation::new(FailureKind::MIGRATION_BLOCKED, meaning, causes, Vec::new())
    };
    match reason {
        BlockerReason::Mte => blocked(
            "the VM has MTE (memory tagging). QEMU does not transfer the tags of a guest under \
             KVM, so it refuses to migrate or to save the VM"
                .into(),
            vec![cause(
                "`-machine virt,mte=on` or `-cpu host,mte=on`: the guest may use tags",
                "QEMU's target/arm/kvm.c, kvm_arm_enable_mte",
            )],
        )
        .with_command(
            "qemu-system-aarch64 -machine virt,mte=off -cpu host,mte=off …",
            "starts the VM without MTE; it must be shut down first. It can then be migrated",
        ),
        BlockerReason::Device(device) => blocked(
            format!("the VM has a device that QEMU cannot migrate: `{device}`"),
            vec![cause(
                "a passed-through or vhost device whose state QEMU cannot read",
                "QEMU's migration/savevm.c",
            )],
        )
        .with_command(
            "virsh detach-device VM DEVICE.xml --live",
            "detaches the device before the migration (QEMU's monitor: device_del ID)",
        ),
        BlockerReason::InterruptController => blocked(
            "the source's kernel cannot save the state of the interrupt controller, so QEMU \
             refuses to migrate the VM"
                .into(),
            vec![cause(
                "a kernel older than Linux 4.14, or one without this part",
                "QEMU's hw/intc/arm_gicv3_kvm.c and arm_gicv3_its_kvm.c",
            )],
        )
        .with_command("uname -r", "shows the kernel of the source"),
    }
}
