//! Arguments of `cpreg baseline` that no other command has.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Hosts, and wishes of the user.
#[derive(Debug, Args)]
pub(crate) struct BaselineArgs {
    /// Hosts among which VMs will move: recorded hosts by name or file, profiles, directories of
    /// such files, `all`, or a name that several recorded hosts match (linux-6.12/n1, graviton2).
    /// At least two.
    #[arg(value_name = "HOST", required = true, num_args = 1..)]
    pub(crate) hosts: Vec<PathBuf>,
    /// Print only the settings in the form of this program.
    #[arg(
        long = "for",
        value_enum,
        value_name = "PROGRAM",
        conflicts_with = "format"
    )]
    pub(crate) target: Option<BaselineTarget>,
    /// Version of QEMU for `--for qemu`: qemu-10.0. Default: the options of QEMU 11.0 and later.
    #[arg(long, value_name = "NAME-VERSION")]
    pub(crate) loader: Option<String>,
    /// Feature that the guest keeps (pmu, sve, ptrauth, mte, el2), or field with its best value
    /// (REG.FIELD); repeatable. A host without it is named.
    #[arg(long, value_name = "FEATURE|REG.FIELD")]
    pub(crate) keep: Vec<String>,
    /// Accept changes of value at each move, as `check` does; repeatable.
    #[arg(long, value_name = "REG|SEVERITY")]
    pub(crate) accept: Vec<String>,
}

/// Program whose form the settings have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BaselineTarget {
    /// Options of QEMU.
    Qemu,
    /// Elements of a libvirt domain, for QEMU 11.0 and later.
    Libvirt,
    /// Custom CPU template of Firecracker.
    Firecracker,
    /// File for `cpreg run --baseline`.
    Run,
}
