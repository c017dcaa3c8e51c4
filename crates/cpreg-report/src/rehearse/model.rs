//! The model of `rehearse`, schema `cpreg.rehearsal/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer, ser};

use crate::check;
use crate::names::{RehearsalOutcome, Verdict};
use crate::scalar::{Id, Vcpus};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.rehearsal/2";

/// Answer of `cpreg rehearse SOURCE -- COMMAND --format json` (before the `--`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RehearsalReport {
    /// `"cpreg.rehearsal/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// `"loads"`, `"converts"`, `"refused"` or `"unknown"`; of what was tried.
    pub verdict: Verdict,
    /// The verdict in a sentence.
    pub meaning: String,
    /// Subject of the verdict, in words.
    pub scope: String,
    /// Version of the QEMU that was asked, `"10.0.13"`.
    pub qemu: String,
    /// Name that its builder gives it; may be empty.
    pub package: String,
    /// `true` if the stream that `convert` would write was to be tried (`--converted`).
    pub converted: bool,
    /// `"loaded"`, `"failed"`; `"not-tried"` if the plan stands in the way of a repair.
    pub outcome: RehearsalOutcome,
    /// Lines that QEMU wrote to its standard error while it loaded, in its words; `(secret)` in
    /// place of a key's value.
    pub stderr: Vec<String>,
    /// Meaning of these lines, as [`cpreg explain`](commands/explain.md) says it.
    pub explanations: Vec<FailureExplanation>,
    /// Registers and extensions that after the load do not hold what the plan would leave there.
    pub deviations: Vec<Deviation>,
    /// Parts of the VM of which the rehearsal tells nothing.
    pub not_verified: Vec<UnverifiedPart>,
    /// Words of the command line that are not as they were given.
    pub replacements: Vec<Replacement>,
    /// The command line that was run, the program first; cpreg's own monitor and `-incoming defer`
    /// came behind it.
    pub command: Vec<String>,
    /// Reason why that QEMU could not say what it has, in words; null if it could.
    pub initial_state_error: Option<String>,
    /// Reason why it could not say what it holds after the load, in words; null if it could, or if
    /// there was no load.
    pub final_state_error: Option<String>,
    /// The plan of cpreg for that QEMU: a whole [`cpreg.check/2`](#cpregcheck2), in whose terms
    /// `verdict` is a prediction; null if `initial_state_error` is not.
    #[serde(serialize_with = "serialize_sorted")]
    pub check: Option<check::model::CheckReport>,
}

/// A failure that QEMU's lines are about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FailureExplanation {
    /// Kind of failure.
    pub kind: String,
    /// Meaning, in words.
    pub meaning: String,
    /// Usual causes.
    pub causes: Vec<String>,
}

/// A register or extension that does not hold what the plan would leave there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Deviation {
    /// The vCPUs: `"0-3,5"`.
    pub vcpus: Vcpus,
    /// The register's id; null for an extension.
    pub id: Option<Id>,
    /// The name.
    pub name: String,
    /// The value that the plan would leave there; null if secret, or for an extension.
    pub expected: Option<String>,
    /// The value that is there; null if nothing, if secret, or for an extension.
    pub actual: Option<String>,
    /// `true` if it is there at all.
    pub present: bool,
}

/// A part of the VM of which the rehearsal tells nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnverifiedPart {
    /// The part.
    pub part: String,
    /// The reason.
    pub reason: String,
    /// `true` if it was loaded all the same, so that a failure of it is not believed; else its
    /// sections were left out.
    pub loaded: bool,
    /// Sections of the stream that this is about.
    pub sections: Vec<String>,
}

/// Words of the command line that are not as they were given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replacement {
    /// The words as they were given, without passwords; none if something was added.
    pub before: Vec<String>,
    /// The words that were run, without passwords; none if they are left out.
    pub after: Vec<String>,
    /// The reason.
    pub reason: String,
}

/// Writes the members of the plan's document in the order of their names, as a document inside
/// another always had them.
#[expect(clippy::ref_option, reason = "serde hands the member over")]
fn serialize_sorted<S: Serializer>(
    check: &Option<check::model::CheckReport>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let check = check.as_ref().map(serde_json::to_value);
    let check = check.transpose().map_err(ser::Error::custom)?;
    check.serialize(serializer)
}
