//! Arguments of the commands about many hosts and VMs.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::shared::{ConsentArgs, Format, FromArgs, LoaderArgs, ToleranceArgs, VerbosityArgs};

#[derive(Debug, Args)]
pub(crate) struct Matrix {
    /// VMs to check: each SOURCE that `cpreg check` takes, a directory of such files, `all` for a
    /// new VM of every recorded host, or a name that several recorded hosts match (linux-6.12, n1).
    #[arg(value_name = "SOURCE", required_unless_present = "list")]
    pub(crate) sources: Vec<PathBuf>,
    /// Destinations: recorded hosts by name or file, profiles, streams written by a destination,
    /// directories of such files, or `all`.
    #[arg(long, value_name = "DESTINATION", num_args = 1.., required = true)]
    pub(crate) to: Vec<PathBuf>,
    /// File with further sources, one a line; `-` for standard input. Repeatable.
    #[arg(long, value_name = "FILE")]
    pub(crate) list: Vec<PathBuf>,
    /// End with exit status 1 if a cell is refused, or changes what the guest sees by this severity
    /// or a higher one; with `unknown`, also if a cell is unknown or an input is left out.
    /// Repeatable.
    #[arg(long, value_enum, value_name = "SEVERITY|unknown")]
    pub(crate) fail_on: Vec<FailOn>,
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
    #[command(flatten)]
    pub(crate) from: FromArgs,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: MatrixFormat,
}

/// Format of a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MatrixFormat {
    /// Table for people.
    #[default]
    Text,
    /// Comma-separated values, one line for each cell.
    Csv,
    /// JSON Lines with a versioned schema, one line for each VM.
    Json,
    /// One page for a browser, with the details of every cell, that needs no network.
    Html,
}

/// Result that makes the command fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// A refused cell, or a change of severity low or higher.
    Low,
    /// A refused cell, or a change of severity medium or higher.
    Medium,
    /// A refused cell, or a change of severity high or higher.
    High,
    /// A refused cell, or a fatal change (`--set`).
    Fatal,
    /// An unknown cell, or an input that was left out.
    Unknown,
}

#[derive(Debug, Args)]
pub(crate) struct Classes {
    /// Hosts to group: recorded hosts by name or file, profiles, directories of such files, `all`,
    /// or a name that several recorded hosts match (linux-6.12, n1).
    #[arg(value_name = "HOST", required = true)]
    pub(crate) hosts: Vec<PathBuf>,
    /// Features of the guests (pmu,sve; none); repeatable. Default: those that QEMU gives a guest
    /// of each host.
    #[arg(long, value_name = "FEATURES")]
    pub(crate) features: Vec<String>,
    /// List all registers that separate two classes.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
    #[command(flatten)]
    pub(crate) tolerances: ToleranceArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Key {
    /// Hosts: recorded hosts by name or file, profiles. Append /FEATURES (…/pmu) for guests with
    /// these features; default: those that QEMU gives a guest of the host.
    #[arg(value_name = "HOST", required = true)]
    pub(crate) hosts: Vec<PathBuf>,
    /// Also print the lines whose digest is the key.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}
