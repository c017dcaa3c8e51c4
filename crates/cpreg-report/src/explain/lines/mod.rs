//! What error lines mean: the answer, for both forms.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the answer |
//! | [`model`] | its model, schema `cpreg.explained-lines/1` |
//! | `json` | the answer as its model |
//! | [`text`] | its text |

mod json;
pub mod model;
pub mod text;

use cpreg::tolerance::Difference;
use cpreg_explain::explain::Concerned;
use cpreg_explain::{Explanation, Failure, Speaker, Versions};

use model::NotUnderstood;

/// The answer about some lines.
#[derive(Debug)]
pub struct Explained {
    /// Each failure once, in the order in which they first happened.
    pub failures: Vec<(Explanation, Failure)>,
    /// How many failures are not among them because there are too many different ones.
    pub further: usize,
    /// Lines that are not understood.
    pub not_understood: Vec<NotUnderstood>,
    /// Number of further ones.
    pub further_not_understood: usize,
    /// Whether the lines come from a log, most of which is about other things.
    pub is_log: bool,
    /// Lines of the log that are about other things.
    pub skipped: usize,
    /// Lines whose end was not looked at.
    pub cut: usize,
}

/// Who speaks in a failure, and which versions put it so.
pub(super) fn speakers(failure: &Failure) -> Vec<(Speaker, Versions)> {
    let mut speakers: Vec<(Speaker, Versions)> = Vec::new();
    for said in &failure.said {
        match speakers
            .iter_mut()
            .find(|(speaker, _)| *speaker == said.speaker)
        {
            Some((_, versions)) => *versions = versions.and(said.versions),
            None => speakers.push((said.speaker, said.versions)),
        }
    }
    // Lines of two programs that were taken for one: no version says both.
    for (_, versions) in &mut speakers {
        if versions
            .since
            .zip(versions.until)
            .is_some_and(|(since, until)| since > until)
        {
            *versions = Versions::ANY;
        }
    }
    speakers
}

/// What is wrong with a register, in words.
pub(super) fn role(register: &Concerned) -> &'static str {
    match register.difference {
        Some(Difference::OnlyInInput) => "only in the input",
        Some(Difference::OnlyAtDestination) => "only at the destination",
        Some(Difference::ValueNotTaken) if register.hidden => "hidden there by an ID register",
        Some(Difference::ValueNotTaken) => "value not taken",
        None => "",
    }
}
