//! Model of `explain` for error lines, schema `cpreg.explained-lines/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::FieldReport;
use crate::names::Difference;
use crate::scalar::{Hex, Id};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.explained-lines/2";

/// Report of `cpreg explain LINE…`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExplainLinesReport {
    /// `"cpreg.explained-lines/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Each failure once, ordered by its first occurrence.
    pub failures: Vec<Failure>,
    /// Number of failures that are omitted, because there are too many different ones.
    pub omitted_failures: usize,
    /// Unknown lines; of a log, only those that look like an error of a VMM.
    pub unknown_lines: Vec<UnknownLine>,
    /// Number of unknown lines that are omitted.
    pub omitted_unknown_lines: usize,
    /// Number of unrelated lines of a log.
    pub skipped_lines: usize,
    /// Number of lines of which only the beginning was parsed.
    pub truncated_lines: usize,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Failure {
    /// Kind of failure: `"register-count"`, `"register-source-only"`, `"value-not-accepted"`,
    /// `"cpu-section"`, `"cpu-subsection"`, `"guest-cpu"`, `"psci-version"`, `"vcpu-init"`,
    /// `"abort"`, `"ram"`, `"machine-type"`, `"device"`, `"interrupt-controller"`, `"stream"`,
    /// `"not-saved"`, `"warnings"`, `"no-reason"`, `"start"`, `"snapshot"`, `"register"`,
    /// `"guest"`, `"front-end"`, `"migration-blocked"`, `"postcopy"`.
    pub kind: String,
    /// Activity that failed: `"start"`, `"migration"`, `"postcopy"`, `"restore"`, `"load"` (a
    /// migration or a restore), `"start-or-load"`, `"save"`, `"guest"` or `"unknown"`.
    #[serde(default)]
    pub situation: String,
    /// Place and state of the VM after the failure, in words, or null if the lines do not tell.
    #[serde(default)]
    pub vm_state: Option<String>,
    /// Title of the kind.
    pub title: String,
    /// Number of occurrences.
    pub times: usize,
    /// Lines of the failure, each once.
    pub lines: Vec<String>,
    /// Number of further lines, which are omitted.
    pub omitted_lines: usize,
    /// Programs that print such lines.
    pub emitters: Vec<ProgramVersions>,
    /// Meaning, in words.
    pub meaning: String,
    /// Registers that the lines name, including those of warnings.
    pub registers: Vec<Register>,
    /// Known causes of such lines.
    pub causes: Vec<Cause>,
    /// Commands that narrow down or repair the failure; at least one.
    pub next_steps: Vec<NextStep>,
}

/// A program that printed the lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ProgramVersions {
    /// `"QEMU"`, `"libvirt"`, `"Firecracker"`, `"Cloud Hypervisor"` or another program's name;
    /// `"another program"` if the line does not name it.
    pub program: String,
    /// The first version that prints them, or null.
    pub since: Option<String>,
    /// The last version that prints them, or null.
    pub until: Option<String>,
}

/// A register that the lines name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Register {
    /// Name in the line.
    pub text: String,
    /// The register's id, or null if the name is not known.
    pub id: Option<Id>,
    /// The register's name, or null if the name in the line is not known.
    pub name: Option<String>,
    /// `"source-only"`, `"destination-only"` or `"value-not-accepted"`.
    pub difference: Option<Difference>,
    /// Written value, or null if the line does not contain it or it is secret.
    pub value: Option<Hex>,
    /// Fields of the written value, most significant first; empty if there is no value.
    #[serde(default)]
    pub fields: Vec<FieldReport>,
    /// Value of the destination, or null if the line does not contain it or it is secret.
    pub destination_value: Option<Hex>,
    /// `true` if an ID register of the VM hides the register at the destination.
    pub hidden: bool,
    /// Number of the register's entry in `cpreg.tolerances/2`, or null.
    pub tolerance: Option<usize>,
}

/// A cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Cause {
    /// The cause, in words.
    pub description: String,
    /// Source of the knowledge.
    pub source: String,
}

/// A command that narrows down or repairs the failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct NextStep {
    /// Command line. Arguments to fill in are in capitals.
    pub command: String,
    /// Result of the command, in words.
    pub result: String,
}

/// An unknown line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnknownLine {
    /// The line.
    pub line: String,
    /// Number of occurrences; lines that differ only in numbers count as the same.
    pub times: usize,
}
