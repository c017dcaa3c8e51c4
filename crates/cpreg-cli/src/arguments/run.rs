//! Options of `cpreg run` that no other command has.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// Decisions about the VMM's calls.
#[derive(Debug, Args)]
pub(crate) struct RunPolicyArgs {
    /// Host from which a VM may come: a recorded host (linux-6.12.107/neoverse-n1), its file, or a
    /// profile. Repeatable; default: all recorded hosts.
    #[arg(long, value_name = "HOST|PROFILE")]
    pub(crate) from: Vec<PathBuf>,
    /// Set a register or one of its fields when a vCPU is initialised; repeatable.
    #[arg(long, value_name = "REG[.FIELD]=VALUE")]
    pub(crate) born_with: Vec<String>,
    /// File with such settings (JSON, cpreg.baseline/1); repeatable.
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Vec<PathBuf>,
    /// File with the decisions of all options (JSON, cpreg.run-policy/1), in their place.
    #[arg(long, value_name = "FILE", conflicts_with_all = DECISIONS)]
    pub(crate) policy: Option<PathBuf>,
}

/// Options whose decisions a policy file has.
const DECISIONS: [&str; 9] = [
    "from",
    "born_with",
    "baseline",
    "ignore",
    "drop",
    "set",
    "accept",
    "files",
    "no_default_tolerances",
];

/// Options about the start of the VMM, or about a VMM that was started.
#[derive(Debug, Args)]
pub(crate) struct RunStartArgs {
    /// Library to preload; default: libcpreg_interpose.so beside cpreg, or in ../lib/cpreg.
    #[arg(long, value_name = "FILE")]
    pub(crate) library: Option<PathBuf>,
    /// Also write the events to a file (appended), or to the open descriptor N (fd:N).
    #[arg(long, value_name = "FILE|fd:N")]
    pub(crate) log: Option<PathBuf>,
    /// Print the policy of these options, and start nothing.
    #[arg(long, group = "task")]
    pub(crate) print_policy: bool,
    /// Print the elements for a libvirt domain, and start nothing.
    #[arg(long, group = "task")]
    pub(crate) print_libvirt: bool,
    /// Report the registers that were ignored, set, remembered and dropped in the VM of a process
    /// that `cpreg run` started.
    #[arg(long, value_name = "PID", group = "task")]
    pub(crate) status: Option<u32>,
    /// Command line of the VMM, after `--`.
    #[arg(last = true, required_unless_present = "task", value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}
