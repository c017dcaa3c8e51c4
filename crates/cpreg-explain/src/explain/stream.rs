//! What one line alone tells of the stream or the snapshot as a whole.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use cpreg::remedy::Remedy;

use super::explanation::{Explanation, FailureKind, cause};
use crate::message::Symptom;

/// Explains a line about the stream or the snapshot.
pub(super) fn explain(symptom: &Symptom) -> Option<Explanation> {
    Some(match symptom {
        Symptom::MachineType {
            incoming,
            local: own,
        } => Explanation::new(
            FailureKind::MACHINE_TYPE,
            format!("the VM is a `{incoming}` and the destination was started as `{own}`"),
            vec![cause(
                "`-machine virt` without a version means another one in every QEMU",
                "QEMU's machine types",
            )],
            vec![Remedy::SHOW],
        ),
        Symptom::Capability { name } => Explanation::new(
            FailureKind::STREAM,
            format!("`{name}` differs between the two sides of the migration"),
            vec![cause(
                "a capability or machine option that is set on one side only",
                "it stands at the stream's beginning",
            )],
            vec![Remedy::SHOW],
        ),
        Symptom::MissingFooter { device } => Explanation::new(
            FailureKind::STREAM,
            match device {
                Some(name) => format!(
                    "the section of `{name}` did not end where the destination's QEMU expected: \
                     it read more or less than was written"
                ),
                None => "the stream ended inside a section".into(),
            },
            vec![cause(
                "the two QEMUs take the device's state for something else (another version or \
                 option), or the stream was cut off",
                "QEMU checks the end of each section",
            )],
            vec![Remedy::SHOW, Remedy::Rehearse],
        ),
        Symptom::NotAStream => Explanation::new(
            FailureKind::STREAM,
            "what the destination was given is no migration stream, or one of a version that it \
             does not read",
            vec![cause(
                "a file that is packed or wrapped (xz, libvirt's save image), or another \
                 program's output",
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
                    "the snapshot{version} is in a format that this version of the program does \
                     not read"
                ),
                vec![cause(
                    "another version of the program wrote it",
                    "Firecracker reads its own format version only",
                )],
                Vec::new(),
            )
        }
        _ => return None,
    })
}
