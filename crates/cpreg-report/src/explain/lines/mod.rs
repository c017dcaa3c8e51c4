//! Report of `explain` for error lines.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the explanation, for both forms |
//! | [`model`] | its model, schema `cpreg.explained-lines/2` |
//! | `json` | conversion of the explanation to the model |
//! | [`text`] | text of the explanation |

mod json;
pub mod model;
pub mod text;

use std::borrow::Cow;

use cpreg::tolerance::RegisterDifference;
use cpreg_explain::explain::{AffectedRegister, NextStep};
use cpreg_explain::{Emitter, Explanation, LoadFailure, VersionRange};

use crate::remedy;
use crate::tolerance::text as tolerance_text;
use model::UnknownLine;

/// Explanation of error lines.
#[derive(Debug)]
pub struct LinesExplanation {
    /// Explanations with their failures, each failure once, ordered by its first occurrence.
    pub failures: Vec<(Explanation, LoadFailure)>,
    /// Number of different failures beyond the limit, which the report omits.
    pub omitted_failures: usize,
    /// Lines that cpreg does not know.
    pub unknown_lines: Vec<UnknownLine>,
    /// Number of unknown lines beyond the limit, which the report omits.
    pub omitted_unknown_lines: usize,
    /// `true` if the lines come from a log, where most lines are unrelated to a failed load.
    pub is_log: bool,
    /// Number of unrelated lines of the log.
    pub skipped_lines: usize,
    /// Number of lines that cpreg truncated and then parsed.
    pub truncated_lines: usize,
}

/// Returns the programs that printed a failure, each with its possible versions.
pub(super) fn emitters(failure: &LoadFailure) -> Vec<(Emitter, VersionRange)> {
    let mut emitters: Vec<(Emitter, VersionRange)> = Vec::new();
    for statement in &failure.statements {
        match emitters
            .iter_mut()
            .find(|(emitter, _)| *emitter == statement.emitter)
        {
            Some((_, versions)) => *versions = versions.intersection(statement.versions),
            None => emitters.push((statement.emitter, statement.versions)),
        }
    }
    // An empty range means that lines of two versions were merged: no version prints both.
    for (_, versions) in &mut emitters {
        if versions
            .first
            .zip(versions.last)
            .is_some_and(|(since, until)| since > until)
        {
            *versions = VersionRange::ANY;
        }
    }
    emitters
}

/// Returns the command of a next step.
pub(super) fn step_command(step: &NextStep) -> Cow<'_, str> {
    match step {
        NextStep::Remedy(remedy) => Cow::Owned(remedy::command(remedy)),
        NextStep::Command { command, .. } => Cow::Borrowed(command),
    }
}

/// Returns the result of a next step, in words.
pub(super) fn step_result(step: &NextStep) -> &str {
    match step {
        NextStep::Remedy(remedy) => remedy::purpose(remedy),
        NextStep::Command { result, .. } => result,
    }
}

/// Returns the difference of a register between input and destination in words.
pub(super) fn describe_difference(register: &AffectedRegister) -> &'static str {
    match register.difference {
        Some(RegisterDifference::ValueNotAccepted) if register.hidden => {
            "hidden at the destination by an ID register"
        }
        Some(difference) => tolerance_text::difference(difference),
        None => "",
    }
}
