//! Updates the description after an edit: list lengths and subsections of `cpu` sections.
//!
//! QEMU does not read the description; its `scripts/analyze-migration.py` and
//! [`crate::described_layout`] do. Only the changed parts are rewritten, and all other text is
//! kept.

use std::ops::Range;

use cpreg::vm::Extension;

use crate::cpu::{Cpu, Subsection};
use crate::vmdescription::StateDescription;

/// Range of the description's text and the replacement of that range.
pub(crate) type Patch = (Range<usize>, String);

/// Returns the patches that the description of one `cpu` section needs. All ranges are of `text`.
pub(crate) fn collect_patches(text: &[u8], state: &StateDescription, cpu: &Cpu) -> Vec<Patch> {
    let mut patches = Vec::new();
    let count = cpu.register_count();
    for name in ["cpreg_vmstate_indexes", "cpreg_vmstate_values"] {
        let Some(field) = state.field(name) else {
            continue;
        };
        match &field.count_text {
            _ if field.count == count as u64 => {}
            Some(range) => patches.push((range.clone(), count.to_string())),
            // QEMU writes no length for a list of one.
            None => {
                let after_name = field.name_text.end + 1;
                patches.push((after_name..after_name, format!(", \"array_len\": {count}")));
            }
        }
    }
    patches.extend(subsections_patch(text, state, cpu.subsections()));
    patches
}

/// Returns the patch of the array of subsections, if the array does not match the section.
fn subsections_patch(
    text: &[u8],
    state: &StateDescription,
    subsections: &[Subsection],
) -> Option<Patch> {
    let described = state.subsections.iter();
    let same = described.len() == subsections.len()
        && described
            .zip(subsections)
            .all(|(described, subsection)| is_described(described, subsection));
    if same {
        return None;
    }
    let objects: Vec<String> = subsections
        .iter()
        .map(|subsection| {
            let described = state
                .subsections
                .iter()
                .find(|it| it.name == subsection.name)
                .filter(|it| it.fields_size == subsection.content_range.len() as u64);
            match described {
                Some(described) => {
                    let inner = subsections_patch(text, described, &subsection.subsections);
                    let (start, end) = (described.object.start, described.object.end);
                    let patches = inner
                        .into_iter()
                        .map(|(range, new)| (range.start - start..range.end - start, new))
                        .collect();
                    let object = apply_patches(&text[start..end], patches);
                    String::from_utf8_lossy(&object).into_owned()
                }
                None => new_description(subsection),
            }
        })
        .collect();
    let array = format!("[{}]", objects.join(", "));
    Some(if let Some(range) = &state.subsections_array {
        (range.clone(), array)
    } else {
        let end = state.object.end.saturating_sub(1);
        (end..end, format!(", \"subsections\": {array}"))
    })
}

fn is_described(described: &StateDescription, subsection: &Subsection) -> bool {
    described.name == subsection.name
        && described.fields_size == subsection.content_range.len() as u64
        && described.subsections.len() == subsection.subsections.len()
        && described
            .subsections
            .iter()
            .zip(&subsection.subsections)
            .all(|(described, subsection)| is_described(described, subsection))
}

/// Returns the description of a subsection that the old description lacks.
fn new_description(subsection: &Subsection) -> String {
    let (name, kind) = if subsection.name == Extension::WFXT_TIMER {
        ("wfxt_timer", "timer")
    } else {
        ("data", "buffer")
    };
    let inner: Vec<_> = subsection.subsections.iter().map(new_description).collect();
    let inner = if inner.is_empty() {
        String::new()
    } else {
        format!(", \"subsections\": [{}]", inner.join(", "))
    };
    format!(
        "{{\"vmsd_name\": \"{}\", \"version\": {}, \"fields\": [{{\"name\": \"{name}\", \
         \"type\": \"{kind}\", \"size\": {}}}]{inner}}}",
        subsection.name.replace('\\', "\\\\").replace('"', "\\\""),
        subsection.version,
        subsection.content_range.len()
    )
}

/// Returns the text with the patches applied.
pub(crate) fn apply_patches(text: &[u8], mut patches: Vec<Patch>) -> Vec<u8> {
    patches.sort_by_key(|(range, _)| range.start);
    let mut new = Vec::with_capacity(text.len());
    let mut at = 0;
    for (range, bytes) in patches {
        new.extend(&text[at..range.start]);
        new.extend(bytes.as_bytes());
        at = range.end;
    }
    new.extend(&text[at..]);
    new
}
