//! Explanation of machine types that differ.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use cpreg::remedy::Remedy;

use super::explanation::{Explanation, FailureKind, cause};
use crate::failure::LoadFailure;
use crate::message::{LoadInput, Symptom};

/// Number of major releases after which QEMU removes a machine type.
const REMOVAL_MAJORS: u32 = 6;
/// First release that removes machine types by that rule.
const FIRST_WITH_REMOVAL: (u32, u32) = (10, 1);

/// Explains different machine types, with the command that starts the right one.
pub(super) fn explain(incoming: &str, local: &str, failure: &LoadFailure) -> Explanation {
    let is_snapshot = failure.symptoms().any(|symptom| {
        matches!(
            symptom,
            Symptom::LoadFailed {
                input: LoadInput::Snapshot,
                ..
            }
        )
    });
    let versions = describe_versions(incoming);
    let explanation = Explanation::new(
        FailureKind::MACHINE_TYPE,
        format!(
            "the VM is a `{incoming}` and the destination was started as `{local}`. Its state \
             loads only into a `{incoming}`, which {versions} can start"
        ),
        vec![cause(
            "`-machine virt` without a version is a different version in every QEMU",
            "QEMU's machine types",
        )],
        if is_snapshot {
            vec![]
        } else {
            vec![Remedy::SHOW]
        },
    );
    let explanation = explanation.with_command(
        format!("qemu-system-aarch64 -machine help | grep {incoming}"),
        "shows whether this QEMU still has the machine type",
    );
    if is_snapshot {
        explanation
            .with_command(
                format!("qemu-system-aarch64 -machine {incoming} … -loadvm SNAPSHOT"),
                "loads the state; all other options stay as they were",
            )
            .with_command(
                "cp DISK.qcow2 COPY.qcow2 && qemu-img snapshot -l COPY.qcow2",
                "makes a copy of the disk, which is intact, and lists the snapshots in it",
            )
            .with_command(
                "qemu-img snapshot -d SNAPSHOT COPY.qcow2",
                "removes the saved state from the copy. The VM then boots from the copy, as after \
                 a power failure, on any QEMU",
            )
    } else {
        explanation.with_command(
            format!("qemu-system-aarch64 -machine {incoming} … -incoming ADDRESS"),
            "starts the destination with the VM's machine type (libvirt: \
             <type machine='…'> in <os>)",
        )
    }
}

/// Returns the QEMU versions that have a machine type of upstream: `QEMU 6.2 to 12.1`.
///
/// QEMU removes a machine type six major releases after its own.
fn describe_versions(machine: &str) -> String {
    let version = machine
        .strip_prefix("virt-")
        .and_then(|version| version.split_once('.'))
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let Some((major, minor)) = version else {
        return "the distribution's QEMU that made it".to_string();
    };
    let (last_major, last_minor) = last_with((major, minor));
    format!("QEMU {major}.{minor} to {last_major}.{last_minor}")
}

/// Returns the last release before the one that removes the machine type of a release. A year has
/// three releases: M.0, M.1 and M.2.
fn last_with((major, minor): (u32, u32)) -> (u32, u32) {
    const LAST_MINOR: u32 = 2;
    let removal = (major.saturating_add(REMOVAL_MAJORS), minor).max(FIRST_WITH_REMOVAL);
    match removal {
        (major, 0) => (major - 1, LAST_MINOR),
        (major, minor) => (major, minor - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU 11.1 has the machine types from 5.2 on.
    #[test]
    fn removal_is_six_majors_later() {
        assert_eq!(last_with((5, 1)), (11, 0));
        assert_eq!(last_with((5, 2)), (11, 1));
        assert_eq!(last_with((6, 2)), (12, 1));
        assert_eq!(last_with((8, 0)), (13, 2));
        assert_eq!(last_with((2, 12)), (10, 0));
        assert_eq!(describe_versions("virt-6.2"), "QEMU 6.2 to 12.1");
        assert!(describe_versions("virt-rhel9.2.0").contains("distribution"));
        assert!(describe_versions("pc-q35-jammy").contains("distribution"));
    }
}
