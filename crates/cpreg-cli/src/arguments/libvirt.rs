//! Arguments of `hook` and `install`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::shared::ConsentArgs;

#[derive(Debug, Args)]
pub(crate) struct Hook {
    #[command(subcommand)]
    pub(crate) program: HookProgram,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HookProgram {
    /// Act on an event of libvirt's QEMU driver. The XML of the domain is on standard input.
    ///
    /// `migrate begin`: ends with status 1, and the reasons on standard error, if the XML and this
    /// host prove that the VM cannot run here. `restore begin`: converts the save image that
    /// libvirt has open, in its file, if the image does not load as it is. Nothing is written to
    /// standard output. Log lines go to the system's log (`journalctl -t cpreg`).
    Libvirt(HookLibvirt),
}

#[derive(Debug, Default, Args)]
pub(crate) struct HookLibvirt {
    /// Name of the domain.
    pub(crate) domain: String,
    /// Operation, such as `restore`. Others than `migrate` and `restore` are ignored.
    pub(crate) operation: String,
    /// Sub-operation, such as `begin`. Others than `begin` are ignored.
    pub(crate) suboperation: String,
    /// Further arguments of libvirt, which are ignored.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) extra: Vec<String>,
    /// Destination of save images, as in `cpreg convert`. Default: this machine's KVM for domains
    /// of type `kvm`; for others the domain's emulator, which is queried.
    #[arg(long, value_name = "DESTINATION")]
    pub(crate) to: Option<PathBuf>,
    /// Also append the log lines to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    #[command(subcommand)]
    pub(crate) program: InstallProgram,
}

#[derive(Debug, Subcommand)]
pub(crate) enum InstallProgram {
    /// Install cpreg for this host's libvirt: the hook for saved VMs, and the relay for live
    /// migrations.
    ///
    /// Prints each action. A file that cpreg did not write, or that was changed since, is never
    /// replaced or removed. `/etc/cpreg/install-libvirt.json` lists what was written.
    Libvirt(InstallLibvirt),
}

#[derive(Debug, Args)]
pub(crate) struct InstallLibvirt {
    #[command(flatten)]
    pub(crate) mode: InstallModeArgs,
    /// Install or remove only this part; repeatable. Default: all parts.
    #[arg(long = "part", value_enum, value_name = "PART")]
    pub(crate) parts: Vec<InstallPart>,
    /// Folder in place of `/`, for tests and images of machines. No program is started then.
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Path of cpreg on the host. Default: that of this program.
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
    /// Destination of the VMs, as in `cpreg relay --to`. Default: this machine's KVM for domains of
    /// type `kvm`; for others the domain's QEMU, which is queried.
    #[arg(long, value_name = "DESTINATION")]
    pub(crate) to: Option<PathBuf>,
    /// Folder with the certificates of QEMU's TLS, such as /etc/pki/qemu, for the relay.
    #[arg(long, value_name = "DIR")]
    pub(crate) tls_creds: Option<PathBuf>,
    /// Let the relay begin migrations with postcopy, or without return path. A refusal can then
    /// leave the VM stopped at the source.
    #[arg(long)]
    pub(crate) allow_no_return_path: bool,
    /// File to which the hook appends its log lines, beside the system's log.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
}

/// Action of `install`.
#[derive(Clone, Copy, Debug, Default, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct InstallModeArgs {
    /// Print the actions and the files, and change nothing.
    #[arg(long)]
    pub(crate) print: bool,
    /// Write the files, and start what they describe. Again: bring them up to date.
    #[arg(long)]
    pub(crate) apply: bool,
    /// Remove what was written, if it is unchanged.
    #[arg(long)]
    pub(crate) remove: bool,
}

/// Part of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum InstallPart {
    /// Hook of libvirt: saved VMs, and early refusals of migrations.
    Hook,
    /// Relay with its systemd units and nftables rule: live migrations.
    Relay,
}
