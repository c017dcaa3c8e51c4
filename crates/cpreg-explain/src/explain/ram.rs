//! What one line alone tells of RAM.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use cpreg::remedy::Remedy;

use super::explanation::{Explanation, FailureKind, cause};
use crate::failure::LoadFailure;
use crate::message::Symptom;

/// Explains a line about RAM.
pub(super) fn explain(symptom: &Symptom, failure: &LoadFailure) -> Option<Explanation> {
    Some(match symptom {
        Symptom::RamSize {
            block,
            incoming,
            local: own,
        } => ram(
            format!(
                "the RAM block `{block}` has {incoming:#x} bytes in the input and {own:#x} at the \
                 destination"
            ),
            if block.contains("rom") || block.contains("flash") || block.contains("bios") {
                "a device's ROM or the firmware: another file, or another version of it, is \
                 installed there"
            } else {
                "another amount of memory on the two command lines"
            },
        ),
        Symptom::RamPageSize {
            block,
            incoming,
            local: own,
        } => ram(
            format!(
                "the RAM block `{block}` has pages of {incoming:#x} bytes in the input and of \
                 {own:#x} at the destination; with postcopy they must be equal"
            ),
            "huge pages on one side only, or of another size; kernels with 4 KiB and with 64 KiB \
             pages",
        ),
        Symptom::UnknownRamBlock { block } => ram(
            format!("the input has a RAM block `{block}`, and the destination none of that name"),
            "a device that is only on one of the two command lines, or stands in another slot",
        ),
        Symptom::SectionFailed { device, .. } if device == "ram" => {
            let says_why = |other: &Symptom| {
                matches!(
                    other,
                    Symptom::RamSize { .. }
                        | Symptom::RamPageSize { .. }
                        | Symptom::UnknownRamBlock { .. }
                )
            };
            if failure.symptoms().any(says_why) {
                return None;
            }
            ram(
                "RAM could not be loaded".into(),
                "blocks of other lengths, or a stream that was cut off",
            )
        }
        _ => return None,
    })
}

fn ram(means: String, what: &'static str) -> Explanation {
    Explanation::new(
        FailureKind::RAM,
        means,
        vec![cause(what, "QEMU compares the blocks by name")],
        vec![Remedy::SHOW, Remedy::Rehearse],
    )
}
