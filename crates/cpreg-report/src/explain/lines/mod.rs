//! What error lines mean: the answer, for both forms.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the answer |
//! | [`model`] | its model, schema `cpreg.explained-lines/2` |
//! | `json` | the answer as its model |
//! | [`text`] | its text |

mod json;
pub mod model;
pub mod text;

use cpreg::tolerance::RegisterDifference;
use cpreg_explain::explain::AffectedRegister;
use cpreg_explain::{Emitter, Explanation, LoadFailure, VersionRange};

use model::UnknownLine;

/// The answer about some lines.
#[derive(Debug)]
pub struct LinesExplanation {
    /// Each failure once, in the order in which they first happened.
    pub failures: Vec<(Explanation, LoadFailure)>,
    /// How many failures are not among them because there are too many different ones.
    pub omitted_failures: usize,
    /// Lines that are not understood.
    pub unknown_lines: Vec<UnknownLine>,
    /// Number of further ones.
    pub omitted_unknown_lines: usize,
    /// Whether the lines come from a log, most of which is about other things.
    pub is_log: bool,
    /// Lines of the log that are about other things.
    pub skipped_lines: usize,
    /// Lines whose end was not looked at.
    pub truncated_lines: usize,
}

/// Who speaks in a failure, and which versions put it so.
pub(super) fn emitters(failure: &LoadFailure) -> Vec<(Emitter, VersionRange)> {
    let mut speakers: Vec<(Emitter, VersionRange)> = Vec::new();
    for said in &failure.statements {
        match speakers
            .iter_mut()
            .find(|(speaker, _)| *speaker == said.emitter)
        {
            Some((_, versions)) => *versions = versions.intersection(said.versions),
            None => speakers.push((said.emitter, said.versions)),
        }
    }
    // Lines of two programs that were taken for one: no version says both.
    for (_, versions) in &mut speakers {
        if versions
            .first
            .zip(versions.last)
            .is_some_and(|(since, until)| since > until)
        {
            *versions = VersionRange::ANY;
        }
    }
    speakers
}

/// What is wrong with a register, in words.
pub(super) fn describe_difference(register: &AffectedRegister) -> &'static str {
    match register.difference {
        Some(RegisterDifference::OnlyInInput) => "only in the input",
        Some(RegisterDifference::OnlyAtDestination) => "only at the destination",
        Some(RegisterDifference::ValueNotTaken) if register.hidden => {
            "hidden there by an ID register"
        }
        Some(RegisterDifference::ValueNotTaken) => "value not taken",
        None => "",
    }
}
