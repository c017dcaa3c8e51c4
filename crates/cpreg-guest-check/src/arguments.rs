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

impl WatchArgs {
    /// Returns the duration in milliseconds; `None` without an end.
    pub fn milliseconds(&self) -> Option<u64> {
        self.seconds.map(|seconds| seconds.saturating_mul(1000))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_limit() {
        let milliseconds = |seconds| {
            let format = Format::Text;
            WatchArgs { seconds, format }.milliseconds()
        };
        assert_eq!(milliseconds(None), None);
        assert_eq!(milliseconds(Some(3)), Some(3000));
        assert_eq!(milliseconds(Some(u64::MAX)), Some(u64::MAX));
    }
}
