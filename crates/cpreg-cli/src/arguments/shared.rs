//! Options that several commands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cpreg_report::printer::Verbosity;

/// Timeout of each step of a QEMU, in seconds, if the user gives none.
pub(crate) const DEFAULT_TIMEOUT_SECONDS: u64 = 60;
/// Longest accepted `--timeout`, a day. Adding it to an `Instant` must not overflow.
pub(super) const MAX_TIMEOUT_SECONDS: u64 = 24 * 60 * 60;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people.
    #[default]
    Text,
    /// One JSON document with a versioned schema.
    Json,
}

/// Amount of text in a report.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct VerbosityArgs {
    /// Report everything: also the copied and the tolerated registers, and the behaviour of each
    /// loader without cpreg.
    #[arg(long, short, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Report only the verdict.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

impl VerbosityArgs {
    pub(crate) const fn verbosity(self) -> Verbosity {
        match self {
            Self { quiet: true, .. } => Verbosity::Quiet,
            Self { verbose: true, .. } => Verbosity::Verbose,
            _ => Verbosity::Short,
        }
    }
}

/// Options for reading inputs and printing reports.
#[derive(Debug, Default, Args)]
pub(crate) struct InspectArgs {
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Print pointer-authentication keys, which are secrets of the guest.
    #[arg(long)]
    pub(crate) show_secrets: bool,
    /// Also scan streams as a whole, including all of RAM, and check that both readings agree.
    #[arg(long)]
    pub(crate) verify: bool,
}

/// Consents that only the user can give.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConsentArgs {
    /// Ignore a register that blocks the load; with =VALUE[/MASK] only if it has that value.
    /// Repeatable.
    #[arg(long, value_name = "REG[=VALUE[/MASK]]")]
    pub(crate) ignore: Vec<String>,
    /// Remove a register, or an extension by name, from the VM; repeatable.
    #[arg(long, value_name = "REG")]
    pub(crate) drop: Vec<String>,
    /// Change a register or one of its fields; repeatable.
    #[arg(long, value_name = "REG[.FIELD]=VALUE")]
    pub(crate) set: Vec<String>,
    /// Accept the adjustment proposed for a register, or all up to a severity: low, medium.
    /// Repeatable.
    #[arg(long, value_name = "REG|SEVERITY")]
    pub(crate) accept: Vec<String>,
    #[command(flatten)]
    pub(crate) tolerances: ToleranceArgs,
}

/// Files with additional tolerances.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ToleranceArgs {
    /// File with additional tolerances (TOML); repeatable. Its entries come before those of the
    /// default files.
    #[arg(long = "tolerances", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Do not read the default files: the files in CPREG_TOLERANCES, cpreg/tolerances.toml in
    /// $XDG_CONFIG_HOME or ~/.config, and /etc/cpreg/tolerances.toml. Root reads only the last.
    #[arg(long)]
    pub(crate) no_default_tolerances: bool,
}

/// Host that the VM ran on.
#[derive(Debug, Default, Args)]
pub(crate) struct FromArgs {
    /// Host that the VM ran on, for what a stream does not hold (counter frequency, SVE vector
    /// lengths): a recorded host (linux-6.12.107/neoverse-n1), its file, or a profile.
    #[arg(long, value_name = "HOST")]
    pub(crate) from: Option<PathBuf>,
}

/// Loader at the destination.
#[derive(Debug, Args)]
pub(crate) struct LoaderArgs {
    /// Program that will load the VM, if DESTINATION does not name it: qemu-10.0, or cpreg for a
    /// VMM that loads through cpreg.
    #[arg(long, value_name = "NAME-VERSION")]
    pub(crate) loader: Option<String>,
}
