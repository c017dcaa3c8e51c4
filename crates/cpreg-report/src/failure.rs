//! Model of the error of a command, schema `cpreg.error/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::FailureKind;
use crate::scalar::Hex;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.error/2";

/// Error of a command with `--format json`, in place of its report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ErrorReport {
    /// `"cpreg.error/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Version of cpreg.
    pub cpreg_version: String,
    /// Subject of the error: [the kinds](#kinds-of-errors).
    pub kind: FailureKind,
    /// Message, one line.
    pub message: String,
    /// Causes, outermost first; a cause may have several lines.
    pub causes: Vec<String>,
    /// Advice: what to do next.
    pub hints: Vec<String>,
    /// File or socket with the error; null if the error has none, or it is not known.
    pub path: Option<String>,
    /// Offset of the error in that stream, in bytes; null if the error has none.
    pub offset: Option<Hex>,
    /// Exit status of the command.
    pub exit_status: u8,
}

impl ErrorReport {
    /// Creates the report of an error without causes and hints.
    pub fn new(version: &str, kind: FailureKind, message: String, exit_status: u8) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            cpreg_version: version.to_owned(),
            kind,
            message,
            causes: Vec::new(),
            hints: Vec::new(),
            path: None,
            offset: None,
            exit_status,
        }
    }
}
