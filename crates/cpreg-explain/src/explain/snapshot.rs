//! Explanation of saved VMs that a program does not read.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::explanation::{Explanation, FailureKind, cause};
use crate::message::Symptom;

/// Explains a line about a saved VM of a program other than QEMU.
pub(super) fn explain(symptom: &Symptom) -> Option<Explanation> {
    Some(match symptom {
        Symptom::SnapshotVersion { version } => explain_version(version),
        Symptom::SnapshotMissing { name } => explain_missing(name),
        Symptom::CounterFrequency { saved, host } => explain_counter_frequency(*saved, *host),
        Symptom::VirtualizationRestore => explain_virtualization(),
        _ => return None,
    })
}

fn explain_counter_frequency(saved: u64, host: u64) -> Explanation {
    let meaning = format!(
        "the guest measures time with a counter of {saved} Hz, and the counter of this host has \
         {host} Hz. KVM does not convert, so the guest's clocks would run at another speed. Cloud \
         Hypervisor refuses the VM"
    );
    let causes = vec![cause(
        "the host has another CPU or firmware than the one that saved the VM",
        "`restore_clock` in Cloud Hypervisor's hypervisor/src/kvm/mod.rs, v53.0",
    )];
    Explanation::new(FailureKind::SNAPSHOT, meaning, causes, Vec::new()).with_command(
        "cpreg probe kvm",
        "shows the counter frequency of a host; restore the VM on one with the same frequency",
    )
}

fn explain_missing(name: &str) -> Explanation {
    let meaning = format!(
        "no disk of the VM has a saved state `{name}`, or not every disk has it. Nothing was \
         loaded; the VM can boot from its disks"
    );
    let causes = vec![cause(
        "the save did not finish, the state was deleted, or a disk was replaced since",
        "QEMU's block/snapshot.c; loadvm needs the state in every writable disk",
    )];
    Explanation::new(FailureKind::SNAPSHOT, meaning, causes, Vec::new()).with_command(
        "qemu-img snapshot -l DISK.qcow2",
        "lists the saved states of a disk; compare all disks of the VM (Android emulator: \
         emulator -avd NAME -no-snapshot-load boots without it)",
    )
}

fn explain_virtualization() -> Explanation {
    let meaning = "Apple's Virtualization framework does not restore the saved VM. Only the \
                   framework can read the file, and the file is bound to the machine and to the \
                   VM's configuration: another Mac, another release of macOS or a changed device \
                   makes it useless";
    let causes = vec![cause(
        "the VM's settings, macOS or the Mac changed after the VM was saved",
        "Apple's documentation of VZVirtualMachine.restoreMachineStateFrom",
    )];
    Explanation::new(FailureKind::SNAPSHOT, meaning, causes, Vec::new())
        .with_command(
            "sw_vers -productVersion",
            "shows the release of macOS; restore on the Mac, with the release and the settings \
             that saved the VM",
        )
        .with_command(
            "mv SAVED-STATE SAVED-STATE.old",
            "sets the saved state aside. The VM then boots from its disk, which is intact (Tart: \
             ~/.tart/vms/NAME/state.vzvmsave)",
        )
}

/// Releases of Firecracker with the version of the snapshots that they write and read.
const FIRECRACKER_VERSIONS: [(u32, &str); 10] = [
    (1, "1.7"),
    (2, "1.8"),
    (3, "1.9"),
    (4, "1.10"),
    (5, "1.11"),
    (6, "1.12"),
    (8, "1.13 and 1.14"),
    (9, "1.15"),
    (10, "1.16"),
    (11, "the release after 1.16"),
];

fn explain_version(version: &str) -> Explanation {
    let major = version.split('.').next().and_then(|it| it.parse().ok());
    let known = FIRECRACKER_VERSIONS
        .iter()
        .find(|(number, _)| Some(*number) == major);
    let meaning = match (version, known) {
        ("", _) => {
            "this Firecracker cannot decode the file: another release wrote it, it is damaged, or \
                    it is of another architecture"
                .to_string()
        }
        (version, Some((_, release))) => format!(
            "the snapshot has version {version}, which Firecracker {release} writes. This \
             Firecracker reads another version: the first number must be equal, and the second not \
             higher"
        ),
        (version, None) => format!(
            "the snapshot has version {version}, which this Firecracker does not read: the first \
             number must be equal, and the second not higher"
        ),
    };
    let releases: Vec<_> = FIRECRACKER_VERSIONS
        .iter()
        .map(|(number, release)| format!("{number}: {release}"))
        .collect();
    Explanation::new(
        FailureKind::SNAPSHOT,
        meaning,
        vec![cause(
            format!(
                "another release of Firecracker wrote the snapshot. Versions and releases: {}",
                releases.join(", ")
            ),
            "Firecracker's SNAPSHOT_VERSION in its releases from 1.7",
        )],
        Vec::new(),
    )
    .with_command(
        "firecracker --describe-snapshot VMSTATE",
        "shows the version of the snapshot",
    )
    .with_command(
        "firecracker --snapshot-version",
        "shows the version that this Firecracker reads; restore with the release that wrote the \
         snapshot",
    )
}
