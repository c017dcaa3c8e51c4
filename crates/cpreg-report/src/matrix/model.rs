//! Model of a line of `matrix --format json`, schema `cpreg.matrix/1`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::ErrorReport;
use crate::names::{Severity, UnchangedLoad, Verdict};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.matrix/1";

/// Line of `cpreg matrix --format json`.
///
/// The first line is `destinations` and the last one `summary`, with a line for each source
/// between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct MatrixLine {
    /// `"cpreg.matrix/1"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// The line.
    #[serde(flatten)]
    pub line: LineDetails,
}

impl From<LineDetails> for MatrixLine {
    fn from(line: LineDetails) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            line,
        }
    }
}

/// A line with its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "line", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LineDetails {
    /// The destinations of all rows.
    Destinations {
        /// Version of cpreg.
        cpreg_version: String,
        /// Loader named with `--loader`, or null.
        loader: Option<String>,
        /// Names of the destinations.
        destinations: Vec<String>,
        /// Destinations that cannot be used.
        left_out_destinations: Vec<LeftOutSource>,
    },
    /// One VM.
    Row {
        /// Name of the VM, or of the host of a new VM with the features of its guest.
        source: String,
        /// Number of vCPUs.
        vcpus: usize,
        /// One cell for each destination, in their order.
        cells: Vec<CellReport>,
    },
    /// Source that cannot be used. The other sources are planned.
    LeftOut {
        /// Name of the source, as given.
        name: String,
        /// The error, [`cpreg.error/2`](#cpregerror2).
        error: ErrorReport,
    },
    /// The counts.
    Summary {
        /// Number of rows.
        rows: usize,
        /// Number of sources and destinations that were left out.
        left_out: usize,
        /// Number of cells by symbol.
        symbols: BTreeMap<String, usize>,
        /// Exit status of the command.
        exit_status: u8,
    },
}

impl From<MatrixHeader> for LineDetails {
    fn from(header: MatrixHeader) -> Self {
        Self::Destinations {
            cpreg_version: header.cpreg_version,
            loader: header.loader,
            destinations: header.destinations,
            left_out_destinations: header.left_out,
        }
    }
}

impl From<MatrixRow> for LineDetails {
    fn from(row: MatrixRow) -> Self {
        Self::Row {
            source: row.source,
            vcpus: row.vcpus,
            cells: row.cells,
        }
    }
}

impl From<LeftOutSource> for LineDetails {
    fn from(source: LeftOutSource) -> Self {
        Self::LeftOut {
            name: source.name,
            error: source.error,
        }
    }
}

impl From<&MatrixSummary> for LineDetails {
    fn from(summary: &MatrixSummary) -> Self {
        Self::Summary {
            rows: summary.rows,
            left_out: summary.left_out,
            symbols: summary.symbols.clone(),
            exit_status: summary.exit_status,
        }
    }
}

/// Destinations of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "`matrix` fills it")]
pub struct MatrixHeader {
    /// Version of cpreg.
    pub cpreg_version: String,
    /// Loader named with `--loader`, or null.
    pub loader: Option<String>,
    /// Names of the destinations.
    pub destinations: Vec<String>,
    /// Destinations that cannot be read.
    pub left_out: Vec<LeftOutSource>,
}

/// One VM at all destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MatrixRow {
    /// Name of the VM, or of the host of a new VM with the features of its guest.
    pub source: String,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// One cell for each destination, in their order.
    pub cells: Vec<CellReport>,
}

/// One VM at one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CellReport {
    /// Name of the destination.
    pub destination: String,
    /// Verdict of `cpreg check`.
    pub verdict: Verdict,
    /// Symbol in tables: `"+"` loads, `"c"` converts, `"n"` loads or converts with a change of
    /// severity medium or high that the guest could notice, `"l"` refused unless `--accept low`,
    /// `"a"` refused unless the proposed consents are given, `"-"` refused, `"?"` unknown.
    pub symbol: String,
    /// Highest severity of what the guest could notice although it loads; absent if that is
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Highest severity of the proposed changes, if consent to all of them resolves all blockers;
    /// else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolving_consent: Option<Severity>,
    /// Registers, extensions, properties of the hosts or parts of the machine that block the load
    /// or lack a decision; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blockers: Vec<String>,
    /// Reason of the first blocker, or the fact that is not known; absent for a VM that loads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Result of loading the VM without cpreg, by the destination's loader or, if that is not
    /// known, by every loader that it can be: `"loads"`, `"loses-registers"` (the loader continues,
    /// but loses registers), `"fails"` or `"unknown"`.
    pub without_cpreg: UnchangedLoad,
}

/// Source or destination that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::exhaustive_structs, reason = "`matrix` fills it")]
pub struct LeftOutSource {
    /// Name of the input, as given.
    pub name: String,
    /// The error, [`cpreg.error/2`](#cpregerror2).
    pub error: ErrorReport,
}

/// Counts of a matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "`matrix` fills it")]
pub struct MatrixSummary {
    /// Number of rows.
    pub rows: usize,
    /// Number of sources and destinations that were left out.
    pub left_out: usize,
    /// Number of cells by symbol.
    pub symbols: BTreeMap<String, usize>,
    /// Exit status of the command.
    pub exit_status: u8,
}

impl MatrixSummary {
    /// Counts a row.
    pub fn add(&mut self, row: &MatrixRow) {
        self.rows += 1;
        for cell in &row.cells {
            *self.symbols.entry(cell.symbol.clone()).or_default() += 1;
        }
    }
}
