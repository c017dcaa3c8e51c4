//! Report of `guest-check`: JSON document and text.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::check::{Check, CheckResult};
use crate::error::Error;
use crate::state::{GuestState, WatchState};

/// Name and version of the document.
pub const SCHEMA: &str = "cpreg.guest-check/1";
/// Maximum length of a record in bytes. The record of a guest with 1024 CPUs is shorter.
pub const MAX_RECORD_LEN: u64 = 1 << 20;

/// Report of `guest-check`, and the record that `compare` reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct GuestCheckReport {
    /// `"cpreg.guest-check/1"`.
    pub schema: String,
    /// `"unchanged"`, `"found"` or `"unknown"`: the most serious result of a check.
    pub result: CheckResult,
    /// All checks.
    pub checks: Vec<Check>,
    /// Everything that the program saw.
    pub state: GuestState,
    /// Observations of `guest-check watch`; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchState>,
}

impl GuestCheckReport {
    /// Returns the report of these checks.
    pub fn new(checks: Vec<Check>, state: GuestState, watch: Option<WatchState>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            result: CheckResult::of_all(&checks),
            checks,
            state,
            watch,
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is no record, or exceeds [`MAX_RECORD_LEN`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_RECORD_LEN + 1).read_to_end(&mut bytes))
            .map_err(|error| Error::io(path.display().to_string(), error))?;
        let record = |reason: String| Error::Record {
            path: path.to_owned(),
            reason,
        };
        if bytes.len() as u64 > MAX_RECORD_LEN {
            return Err(record(format!("it has more than {MAX_RECORD_LEN} bytes")));
        }
        let document: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| record(error.to_string()))?;
        let schema = document.get("schema").and_then(serde_json::Value::as_str);
        if schema != Some(SCHEMA) {
            let schema = schema.unwrap_or("none");
            return Err(record(format!("its schema is {schema}, not {SCHEMA}")));
        }
        serde_json::from_value(document).map_err(|error| record(error.to_string()))
    }

    /// Returns the JSON document, with a line end.
    ///
    /// # Errors
    /// Returns an error if a value has no JSON form; every value of this crate has one.
    pub fn document(&self) -> Result<String, Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Writes the report as text.
    ///
    /// # Errors
    /// Returns an error if the output fails.
    pub fn write_text(&self, output: &mut impl Write) -> io::Result<()> {
        let count = |result| self.checks.iter().filter(|it| it.result == result).count();
        let total = self.checks.len();
        match self.result {
            CheckResult::Found => {
                let found = count(CheckResult::Found);
                writeln!(
                    output,
                    "found: {found} of {total} checks found a difference"
                )?;
            }
            CheckResult::Unknown => {
                let unknown = count(CheckResult::Unknown);
                writeln!(
                    output,
                    "unknown: {unknown} of {total} checks were not possible"
                )?;
            }
            CheckResult::Unchanged | CheckResult::Absent => {
                writeln!(output, "unchanged: no check of {total} found a difference")?;
            }
        }
        for check in &self.checks {
            let (result, name) = (check.result.text(), check.name.text());
            writeln!(output, "  {result:<10} {name:<19} {}", check.reason)?;
        }
        if let Some(watch) = &self.watch {
            writeln!(
                output,
                "watch: {} samples in {} ms; greatest gap {} ms of the guest's clock",
                watch.samples, watch.milliseconds, watch.max_gap_milliseconds
            )?;
        }
        Ok(())
    }
}

/// Returns the name and the schema of the document.
pub fn schema(generator: SchemaGenerator) -> (&'static str, Schema) {
    (SCHEMA, generator.into_root_schema_for::<GuestCheckReport>())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_report_is_a_record() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("record.json");
        let report: GuestCheckReport =
            serde_json::from_str(include_str!("../tests/record.json")).expect("a recorded report");
        fs::write(&path, report.document().expect("JSON")).expect("a file");
        assert_eq!(GuestCheckReport::read(&path).expect("a record"), report);

        let error = |text: &str| {
            fs::write(&path, text).expect("a file");
            let error = GuestCheckReport::read(&path).expect_err(text).to_string();
            error.split(": ").skip(1).collect::<Vec<_>>().join(": ")
        };
        assert_eq!(
            error("{}"),
            "no record of guest-check: its schema is none, not cpreg.guest-check/1"
        );
        assert_eq!(
            error("{\"schema\":\"cpreg.check/2\"}"),
            "no record of guest-check: its schema is cpreg.check/2, not cpreg.guest-check/1"
        );
        assert!(error("[").starts_with("no record of guest-check: EOF"));
        let missing = error("{\"schema\":\"cpreg.guest-check/1\"}");
        assert!(missing.contains("missing field"), "{missing}");
        let spaces = |len| " ".repeat(usize::try_from(len).expect("a length"));
        assert!(error(&spaces(MAX_RECORD_LEN)).starts_with("no record of guest-check: EOF"));
        assert_eq!(
            error(&spaces(MAX_RECORD_LEN + 1)),
            "no record of guest-check: it has more than 1048576 bytes"
        );
        fs::remove_file(&path).expect("the file");
        assert!(GuestCheckReport::read(&path).is_err());
    }
}
