//! Suggestions for unknown names.

use alloc::vec::Vec;

/// Returns up to three of `names` that are most similar to `text`. Similar names begin with `text`,
/// end with `text` as whole words, or differ from it by a few edits.
pub(super) fn suggest(text: &str, names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    const MAX_NAME_LEN: usize = 40;
    // `EL1` is the end of most names.
    const MIN_ENDING_LEN: usize = 3;
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_NAME_LEN {
        return Vec::new();
    }
    let text = text.to_ascii_uppercase();
    // Allow edits in a third of the letters, and at least two edits.
    let max_distance = (text.len() / 3).max(2);
    let mut matches: Vec<(usize, &'static str)> = names
        .filter(|name| !name.contains('<') && name.len() <= MAX_NAME_LEN)
        .filter_map(|name| {
            let upper = name.to_ascii_uppercase();
            let continues_text = upper
                .strip_prefix(text.as_str())
                .is_some_and(|r| r.starts_with("_EL"));
            let ends_with_text = text.len() > MIN_ENDING_LEN
                && upper
                    .strip_suffix(text.as_str())
                    .is_some_and(|rest| rest.ends_with('_'));
            let distance = if continues_text || ends_with_text {
                0
            } else {
                edit_distance(&text, &upper)
            };
            (distance <= max_distance && distance < text.len()).then_some((distance, name))
        })
        .collect();
    matches.sort_unstable();
    matches.dedup();
    matches.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Returns the number of letters to add, remove or change to turn one text into the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            left = (diagonal + usize::from(x != y))
                .min(above + 1)
                .min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    use crate::register::RegisterId;
    use crate::{Error, ErrorKind};

    fn parse_error(text: &str) -> Error {
        text.parse::<RegisterId>().expect_err(text)
    }

    #[test]
    fn similar_names_are_suggested() {
        for (text, first) in [
            ("TCR3_EL1", "TCR_EL1"),
            ("TCR2", "TCR2_EL1"),
            ("ID_AA64MFR3_EL1", "ID_AA64MMFR3_EL1"),
            ("PSCI_VERSON", "PSCI_VERSION"),
            ("VENDOR_HYP_BMAP_3", "VENDOR_HYP_BMAP_2"),
            ("WORKAROUND_2", "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2"),
        ] {
            let error = parse_error(text);
            assert_eq!(error.kind(), ErrorKind::UnknownName);
            assert!(
                error.suggestions().iter().any(|s| s == first),
                "{text}: {error:?}"
            );
        }
        assert_eq!(
            parse_error("nothing like it").suggestions(),
            &[] as &[String]
        );
    }

    #[test]
    fn edit_distances() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "ABC", 3),
            ("ABC", "", 3),
            ("TCR2_EL1", "TCR2_EL1", 0),
            ("TCR2_EL1", "TCR_EL1", 1),
            ("KITTEN", "SITTING", 3),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }
}
