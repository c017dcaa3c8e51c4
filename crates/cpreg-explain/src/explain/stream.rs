//! Explanations of log lines about the migration stream.

use alloc::format;
use alloc::vec;

use cpreg::remedy::Remedy;

use super::explanation::{Explanation, FailureKind, cause};
use super::machine_type;
use crate::failure::LoadFailure;
use crate::message::Symptom;

/// Explains one log line about the stream.
pub(super) fn explain(symptom: &Symptom, failure: &LoadFailure) -> Option<Explanation> {
    Some(match symptom {
        Symptom::MachineType { incoming, local } => machine_type::explain(incoming, local, failure),
        Symptom::TargetPageBits { incoming, local } => Explanation::new(
            FailureKind::STREAM,
            format!(
                "the VM's pages have 2^{incoming} bytes and those of the destination's machine \
                 2^{local}"
            ),
            vec![cause(
                "another machine type or CPU on the two command lines",
                "QEMU compares the page lengths at the start of the stream",
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
        _ => return None,
    })
}
