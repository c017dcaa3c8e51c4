//! Model of `rehearse`, schema `cpreg.rehearsal/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer, ser};

use crate::check;
use crate::names::{RehearsalOutcome, Verdict};
use crate::scalar::{Id, Vcpus};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.rehearsal/2";

/// Report of `cpreg rehearse SOURCE --format json -- COMMAND`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RehearsalReport {
    /// `"cpreg.rehearsal/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Verdict on the stream that was loaded: `"loads"`, `"converts"`, `"refused"` or `"unknown"`.
    pub verdict: Verdict,
    /// Meaning of the verdict, in a sentence.
    pub meaning: String,
    /// Parts of the VM that the verdict covers, in words.
    pub scope: String,
    /// Version of the QEMU that loaded the stream, `"10.0.13"`.
    pub qemu: String,
    /// Package version of that QEMU; may be empty.
    pub package: String,
    /// `true` if the converted VM was rehearsed (`--converted`).
    pub converted: bool,
    /// `"loaded"`, `"failed"`, or `"not-tried"` if nothing was loaded; `meaning` has the reason.
    pub outcome: RehearsalOutcome,
    /// Lines that QEMU wrote to standard error during the load, with `(secret)` in place of a key's
    /// value.
    pub stderr: Vec<String>,
    /// Explanations of these lines, as [`cpreg explain`](commands/explain.md) gives them.
    pub explanations: Vec<FailureExplanation>,
    /// Registers and extensions whose content after the load differs from the plan.
    pub deviations: Vec<Deviation>,
    /// Parts of the VM that the rehearsal does not verify.
    pub not_verified: Vec<UnverifiedPart>,
    /// Changes to the user's command line.
    pub replacements: Vec<Replacement>,
    /// Command line that was run, beginning with the program; cpreg appended its own monitor and
    /// `-incoming defer`.
    pub command: Vec<String>,
    /// Reason why the CPU state of that QEMU before the load is not known, in words; null if it is
    /// known.
    pub initial_state_error: Option<String>,
    /// Reason why the CPU state after the load is not known, in words; null if it is known, or if
    /// there was no load.
    pub final_state_error: Option<String>,
    /// cpreg's plan for that QEMU, as a [`cpreg.check/2`](#cpregcheck2). Its `verdict` is a
    /// prediction. Null if `initial_state_error` is set.
    #[serde(serialize_with = "serialize_sorted")]
    pub check: Option<check::model::CheckReport>,
}

/// A failure that QEMU's lines report.
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

/// A register or extension whose content differs from the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Deviation {
    /// The vCPUs: `"0-3,5"`.
    pub vcpus: Vcpus,
    /// The register's id; null for an extension.
    pub id: Option<Id>,
    /// Name of the register or extension.
    pub name: String,
    /// Value according to the plan; null if secret, or for an extension.
    pub expected: Option<String>,
    /// Value after the load; null if missing, if secret, or for an extension.
    pub actual: Option<String>,
    /// `true` if the register or extension is present after the load.
    pub present: bool,
}

/// A part of the VM that the rehearsal does not verify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnverifiedPart {
    /// Name of the part.
    pub part: String,
    /// Reason, in words.
    pub reason: String,
    /// `true` if the part was loaded, but a failure would prove nothing; `false` if its sections
    /// were omitted.
    pub loaded: bool,
    /// Sections of the stream that belong to the part.
    pub sections: Vec<String>,
}

/// A change to the user's command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replacement {
    /// Arguments of the user, without passwords; empty for an addition.
    pub before: Vec<String>,
    /// Arguments that were run, without passwords; empty for an omission.
    pub after: Vec<String>,
    /// Reason, in words.
    pub reason: String,
}

/// Serialises the members of the plan's document in the order of their names, as in every nested
/// document.
#[expect(clippy::ref_option, reason = "serde hands the member over")]
fn serialize_sorted<S: Serializer>(
    check: &Option<check::model::CheckReport>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let check = check.as_ref().map(serde_json::to_value);
    let check = check.transpose().map_err(ser::Error::custom)?;
    check.serialize(serializer)
}
