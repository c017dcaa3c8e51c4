//! Timelines of registers: listed, hidden, default and writable, kernel by kernel.

use cpreg::destination::Version;
use cpreg::destination::kernel;
use cpreg::register::{Naming, RegisterId};
use cpreg_hosts::HostIndex;
use cpreg_hosts::record::AtReset;

use super::model::{HiddenRegister, RegisterTimeline, TextIndex, TimelineSpan};
use crate::explain::register::accepted_values;
use crate::explain::register::kernels::{KernelSummary, kernel_summaries};

/// Returns the timeline of a register. `text` returns the index of a text.
///
/// Returns `None` for a register that no recorded kernel lists.
pub(super) fn timeline(
    history: &HostIndex,
    id: RegisterId,
    name: TextIndex,
    mut text: impl FnMut(&str) -> TextIndex,
) -> Option<RegisterTimeline> {
    let kernels = kernel_summaries(history, id, None);
    if kernels.iter().all(|kernel| kernel.listed_recordings == 0) {
        return None;
    }
    let hidden = kernel::find_feature_gate(id).and_then(|gate| {
        let has_gate = |kernel: &KernelSummary<'_>| {
            let version = kernel.kernel.version.as_str();
            Version::from_kernel_release(version).is_some_and(|version| version >= gate.since)
        };
        let condition = format!(
            "{}.{} is {}; since {}",
            gate.id_register,
            gate.field,
            gate.low_values(),
            gate.first_version
        );
        Some(HiddenRegister {
            first_kernel: kernels.iter().position(has_gate)?,
            condition: text(&condition),
        })
    });
    let alike = kernels.chunk_by(|one, next| one.observations == next.observations);
    let spans = alike.filter_map(|chunk| {
        let it = &chunk.first()?.observations;
        let values = it.values.iter();
        let writable = it.writable.iter();
        Some(TimelineSpan {
            kernels: chunk.len(),
            guests: it.guests.as_deref().map(&mut text),
            values: values
                .map(|group| {
                    let value = describe_reset(&group.at_reset);
                    (text(&value), text(&group.guests))
                })
                .collect(),
            writable: writable
                .map(|bits| (text(&format!("{:#x}", bits.mask)), text(&bits.guests)))
                .collect(),
            write_back_errnos: it.write_back_errnos.clone(),
        })
    });
    let spans = spans.collect();
    Some(RegisterTimeline {
        name,
        purpose: id.purpose(Naming::Kvm).map(&mut text),
        accepted: text(accepted_values(id)),
        hidden,
        spans,
    })
}

/// Returns the content of a register in a fresh vCPU, in words.
fn describe_reset(at_reset: &AtReset) -> String {
    match at_reset {
        AtReset::Value(value) => value.to_string(),
        AtReset::Poison => "no value (KVM's reset poison)".to_owned(),
        AtReset::Counter => "a counter".to_owned(),
        AtReset::Unreadable(errno) => format!("cannot be read: errno {errno}"),
    }
}
