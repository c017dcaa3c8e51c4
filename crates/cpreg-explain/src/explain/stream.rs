//! Explanations of log lines about the migration stream or a Firecracker snapshot.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use cpreg::remedy::Remedy;

use super::explanation::{Explanation, FailureKind, cause};
use crate::message::Symptom;

/// Explains one log line about the stream or the snapshot.
pub(super) fn explain(symptom: &Symptom) -> Option<Explanation> {
    Some(match symptom {
        Symptom::MachineType { incoming, local } => Explanation::new(
            FailureKind::MACHINE_TYPE,
            format!("the VM is a `{incoming}` and the destination was started as `{local}`"),
            vec![cause(
                "`-machine virt` without a version is a different version in every QEMU",
                "QEMU's machine types",
            )],
            vec![Remedy::SHOW],
        ),
        Symptom::Capability { name } => Explanation::new(
            FailureKind::STREAM,
            format!("`{name}` differs between the two sides of the migration"),
            vec![cause(
                "a capability or machine option that is set on one side only",
                "QEMU compares them at the start of the stream",
            )],
            vec![Remedy::SHOW],
        ),
        Symptom::MissingFooter { device } => Explanation::new(
            FailureKind::STREAM,
            match device {
                Some(name) => format!(
                    "the section of `{name}` did not end where the destination's QEMU expected: \
                     QEMU read more or less than the source wrote"
                ),
                None => "the stream ended inside a section".into(),
            },
            vec![cause(
                "the two QEMUs disagree on the format of the device's state (another version or \
                 option), or the stream was truncated",
                "QEMU checks the end of each section",
            )],
            vec![Remedy::SHOW, Remedy::Rehearse],
        ),
        Symptom::NotAStream => Explanation::new(
            FailureKind::STREAM,
            "the input of the destination is not a migration stream, or has a version that the \
             destination does not read",
            vec![cause(
                "a file that is compressed or wrapped (xz, libvirt's save image), or the output \
                 of another program",
                "a stream begins with QEVM",
            )],
            vec![Remedy::SHOW],
        ),
        Symptom::SnapshotVersion { version } => {
            let version = match version.as_str() {
                "" => String::new(),
                version => format!(" ({version})"),
            };
            Explanation::new(
                FailureKind::STREAM,
                format!(
                    "the snapshot{version} has a format that this version of Firecracker does not \
                     read"
                ),
                vec![cause(
                    "another version of Firecracker wrote it",
                    "Firecracker reads only its own format version",
                )],
                Vec::new(),
            )
        }
        _ => return None,
    })
}
