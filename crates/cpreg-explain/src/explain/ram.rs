//! Explanation of single lines about RAM.

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
            local,
        } => ram(
            format!(
                "the RAM block `{block}` has {incoming:#x} bytes in the input and {local:#x} at \
                 the destination"
            ),
            if block.contains("rom") || block.contains("flash") || block.contains("bios") {
                "a device's ROM or the firmware: another file, or another version of it, is \
                 installed at the destination"
            } else {
                "another amount of memory on the two command lines"
            },
        ),
        Symptom::RamPageSize {
            block,
            incoming,
            local,
        } => ram(
            format!(
                "the RAM block `{block}` has pages of {incoming:#x} bytes in the input and of \
                 {local:#x} at the destination; with postcopy they must be equal"
            ),
            "huge pages on one side only, or of another size; kernels with 4 KiB and with 64 KiB \
             pages",
        ),
        Symptom::UnknownRamBlock { block } => ram(
            format!(
                "the input has a RAM block `{block}`, and the destination has no block of that name"
            ),
            "a device that is only on one of the two command lines, or is in another slot",
        ),
        Symptom::SectionFailed { device, .. } if device == "ram" => {
            let is_reason = |other: &Symptom| {
                matches!(
                    other,
                    Symptom::RamSize { .. }
                        | Symptom::RamPageSize { .. }
                        | Symptom::UnknownRamBlock { .. }
                )
            };
            if failure.symptoms().any(is_reason) {
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

fn ram(meaning: String, description: &'static str) -> Explanation {
    Explanation::new(
        FailureKind::RAM,
        meaning,
        vec![cause(description, "QEMU compares the blocks by name")],
        vec![Remedy::SHOW, Remedy::Rehearse],
    )
}
