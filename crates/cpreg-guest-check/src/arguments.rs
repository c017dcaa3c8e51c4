//! Command line.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Arguments of `guest-check`.
#[derive(Clone, Debug, Args)]
pub struct GuestCheckArgs {
    /// Action.
    #[command(subcommand)]
    pub action: Action,
}

/// Action of `guest-check`.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Record the machine before a move, and check it.
    Record(RecordArgs),
    /// Compare the machine after a move with a record.
    Compare(CompareArgs),
    /// Watch the machine while it is moved, until SIGTERM, SIGINT or the end of a time.
    Watch(WatchArgs),
}

/// Arguments of `guest-check record`.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// File for the record, a JSON document.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Format of the report.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `guest-check compare`.
#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// Record from before the move.
    #[arg(value_name = "FILE")]
    pub record: PathBuf,
    /// Format of the report.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `guest-check watch`.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// Duration by the guest's clock. Default: until SIGTERM or SIGINT.
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u64>,
    /// Format of the report.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,
}

/// Format of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people.
    #[default]
    Text,
    /// One JSON document with a versioned schema.
    Json,
}
