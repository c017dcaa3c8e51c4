//! The model of `explain` for error lines, schema `cpreg.explained-lines/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::Difference;
use crate::scalar::{Hex, Id};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.explained-lines/2";

/// Answer of `cpreg explain LINE…`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExplainLinesReport {
    /// `"cpreg.explained-lines/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Each failure once, in the order in which they first happened.
    pub failures: Vec<Failure>,
    /// Number of failures that are not listed: too many different ones.
    pub omitted_failures: usize,
    /// Lines that are not understood; of a log, those that look like an error of a VMM.
    pub unknown_lines: Vec<UnknownLine>,
    /// Number of further ones.
    pub omitted_unknown_lines: usize,
    /// Number of lines of a log that are about other things.
    pub skipped_lines: usize,
    /// Number of lines of which only the beginning was looked at.
    pub truncated_lines: usize,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Failure {
    /// Kind of failure: `"register-count"`, `"register-only-in-input"`, `"value-not-taken"`,
    /// `"cpu-section"`, `"cpu-subsection"`, `"guest-cpu"`, `"psci-version"`, `"vcpu-init"`,
    /// `"abort"`, `"ram"`, `"machine-type"`, `"device"`, `"interrupt-controller"`, `"stream"`,
    /// `"not-saved"`, `"explain_warnings"`, `"no-reason"`.
    pub kind: String,
    /// The same in a few words.
    pub title: String,
    /// Number of times that it happened.
    pub times: usize,
    /// Its lines, each once.
    pub lines: Vec<String>,
    /// Number of further lines, which are not kept.
    pub omitted_lines: usize,
    /// The programs.
    pub emitters: Vec<ProgramVersions>,
    /// Meaning, in words.
    pub meaning: String,
    /// Registers that are named, warnings included.
    pub registers: Vec<Register>,
    /// Causes that were seen behind these words elsewhere.
    pub causes: Vec<Cause>,
    /// Commands that settle it; empty where cpreg cannot.
    pub next_steps: Vec<NextStep>,
}

/// A program that puts it so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ProgramVersions {
    /// `"QEMU"`, `"libvirt"`, `"Firecracker"` or `"Cloud Hypervisor"`.
    pub program: String,
    /// The first version that puts it so, or null.
    pub since: Option<String>,
    /// The last one, or null.
    pub until: Option<String>,
}

/// A register that is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Register {
    /// Name in the line.
    pub text: String,
    /// The register's id, or null if the name is not known.
    pub id: Option<Id>,
    /// The register's name, likewise.
    pub name: Option<String>,
    /// `"only-in-input"`, `"only-at-destination"` or `"value-not-taken"`.
    pub difference: Option<Difference>,
    /// The value that was written, or null if the line does not say or it is secret.
    pub value: Option<Hex>,
    /// The value of the destination, likewise.
    pub destination_value: Option<Hex>,
    /// `true` if an ID register of the VM hides it there.
    pub hidden: bool,
    /// Number of the entry about it in `cpreg.tolerances/2`, or null.
    pub tolerance: Option<usize>,
}

/// A cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Cause {
    /// The cause, in words.
    pub description: String,
    /// Source of that knowledge.
    pub source: String,
}

/// A command that settles it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct NextStep {
    /// A command, capitals for what is to be filled in.
    pub command: String,
    /// The result of it, in words.
    pub result: String,
}

/// A line that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnknownLine {
    /// The line.
    pub line: String,
    /// Number of times that it stands there, numbers in it aside.
    pub times: usize,
}
