//! Command line as clap types, without any behaviour.

pub(crate) mod baseline;
mod fleet;
mod fleet_command;
#[cfg(target_os = "linux")]
mod libvirt;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod serve;
mod shared;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
#[cfg(target_os = "linux")]
use cpreg_guest_check::arguments::GuestCheckArgs;
#[cfg(target_os = "linux")]
use cpreg_relay::Address;

use baseline::BaselineArgs;
pub(crate) use fleet::{Classes, FailOn, Key, Matrix, MatrixFormat};
pub(crate) use fleet_command::{
    DrainFormat, Fleet, FleetCheck, FleetCommand, FleetDrain, FleetLabels, FleetPage, FleetPlan,
    LabelSystem, NodeArgs, PlatformName,
};
use shared::MAX_TIMEOUT_SECONDS;
pub(crate) use shared::{
    ConsentArgs, DEFAULT_TIMEOUT_SECONDS, Format, FromArgs, InspectArgs, LoaderArgs, ToleranceArgs,
    VerbosityArgs,
};

#[cfg(target_os = "linux")]
pub(crate) use libvirt::{
    Hook, HookLibvirt, HookProgram, Install, InstallLibvirt, InstallPart, InstallProgram,
};
#[cfg(target_os = "linux")]
use run::{RunPolicyArgs, RunStartArgs};
#[cfg(target_os = "linux")]
use serve::ServeArgs;

/// Moves arm64 virtual machines between hosts that do not expose the same registers.
///
/// Exit status: 0 the VM loads or converts, or the command succeeded; 1 refused (diff: the inputs
/// differ; show: a register is absent); 2 bad usage or bad input; 3 unknown: not enough
/// information to decide.
#[derive(Debug, Parser)]
#[command(name = "cpreg", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Colour of the output. `auto` colours a terminal, and honours NO_COLOR and CLICOLOR_FORCE.
    #[arg(long, global = true, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the vCPUs, registers and fields in a stream or profile, or describe a recorded host.
    Show(Show),
    /// Check if a VM loads at the destination, what blocks it, and what to do.
    Check(Check),
    /// Check many VMs against many destinations: a table with one symbol for each pair.
    Matrix(Matrix),
    /// Group hosts that are the same for every VM, and show which class takes the VMs of which.
    Classes(Classes),
    /// Print a short key of everything about a host that decides if a VM loads there.
    ///
    /// Hosts with equal keys load the same VMs. The key does not contain the kernel's version, so
    /// it fits names of snapshots that depend on the kernel today.
    Key(Key),
    /// Plan for a fleet of nodes: check all VMs, drain a node, upgrade node by node, and label
    /// nodes for schedulers.
    Fleet(Fleet),
    /// Load the VM, without its RAM, into a paused copy of the destination's QEMU, and report the
    /// result.
    Rehearse(Rehearse),
    /// Convert the VM so that it loads at the destination, and write it.
    Convert(Convert),
    /// Convert a stream from standard input to standard output, so that it loads at the
    /// destination.
    ///
    /// `-incoming "exec:cpreg filter DESTINATION < FILE"` converts while the destination
    /// loads; `migrate "exec:cpreg filter DESTINATION > FILE"` converts while the source
    /// saves. RAM is forwarded as it arrives. The device state is held until all of it has arrived
    /// and is decided. If the VM is refused, no device state is written, and the destination cannot
    /// load the truncated stream. If the machine type or a RAM block already blocks the load,
    /// nothing is written. The report goes to standard error.
    Filter(Filter),
    /// Relay a live migration between two QEMUs, converted so that it loads at the destination.
    ///
    /// The relay forwards the return path, every multifd and postcopy channel, and RAM as it
    /// arrives. It holds the device state until it has decided about every vCPU, and the last part
    /// until it has checked every device. If the VM is refused, the relay never sends the last
    /// part, and without that part the destination cannot run the VM. The relay notifies both
    /// sides, and the report names the side that has the VM. Log lines go to standard error, the
    /// report to standard output.
    #[cfg(target_os = "linux")]
    Relay(Relay),
    /// Start a VMM with cpreg at its KVM calls, so that an incoming VM loads.
    ///
    /// A VMM that starts to receive a VM (QEMU: -incoming, -loadvm) lists the registers that the VM
    /// may have, and ignores their values if the table of tolerances says that this is right. If
    /// the VM is refused, the load fails before the guest runs. The command becomes the VMM.
    #[cfg(target_os = "linux")]
    Run(Run),
    /// Install cpreg for a program that runs VMs, or remove it.
    #[cfg(target_os = "linux")]
    Install(Install),
    /// Act on an event of a program that runs VMs, which calls this command.
    #[cfg(target_os = "linux")]
    Hook(Hook),
    /// Find the settings with which new VMs move among hosts, in both directions.
    ///
    /// A value counts if every host accepts and keeps it. Before the command prints the settings,
    /// it plans each ordered pair of hosts with the new VM, as `check` does. Exit status 1: a pair
    /// is not ready.
    Baseline(Baseline),
    /// Compare two streams, profiles or recorded hosts by register and field.
    Diff(Diff),
    /// Explain an error line of a VMM, or a register.
    Explain(Explain),
    /// Print the table of harmless differences, with conditions and reasons.
    Tolerances(Tolerances),
    /// Record a destination: a QEMU with its command line, or this machine's KVM.
    Probe(Probe),
    /// List the recorded hosts, which can be named as DESTINATION.
    Hosts(Hosts),
    /// Write the VM without RAM and secrets, as a small file and as text for an issue.
    ///
    /// In the file: every register that a decision uses; the machine type, the list of RAM blocks,
    /// the devices and their state; with DESTINATION also that and the result of `cpreg check`.
    ///
    /// Not in the file: RAM; pointer-authentication keys; general and vector registers; addresses
    /// of the guest's kernel and programs; keyboard input and screen contents; the UUID; the names
    /// of the input, of the destination and of this machine. Names of RAM blocks and devices, and
    /// MAC addresses, stay in the file. Look at it before you publish it.
    ///
    /// `show`, `check`, `diff` and `rehearse` read the file like the stream, and `check` gives the
    /// same verdict.
    Report(Report),
    /// Check inside an arm64 Linux guest that a move changed nothing that the guest relies on.
    ///
    /// A guest's kernel reads many properties of its CPU once, at boot, and programs use them. The
    /// command executes instructions and compares the results with these properties, and with a
    /// record from before the move. The program `cpreg-guest-check` is the same, without the rest
    /// of cpreg. Exit status: 0 nothing found; 1 a difference was found; 3 a check was not
    /// possible.
    #[cfg(target_os = "linux")]
    GuestCheck(GuestCheckArgs),
    /// Print the script that completes cpreg's arguments in a shell.
    ///
    /// The script completes names of hosts, registers, severities, features and loaders. It calls
    /// `cpreg` for them, so they are those of the installed version.
    ///
    /// bash: `cpreg completions bash > ~/.local/share/bash-completion/completions/cpreg`;
    /// zsh: `cpreg completions zsh > DIRECTORY/_cpreg`, with a DIRECTORY of `$fpath`;
    /// fish: `cpreg completions fish > ~/.config/fish/completions/cpreg.fish`.
    Completions(Completions),
    /// Write the man pages of all commands, for packages.
    #[command(name = "__man-pages", hide = true)]
    ManPages(ManPages),
    #[cfg(target_os = "linux")]
    /// Guard process of `relay`, which starts it: requests on standard input, replies on standard
    /// output.
    #[command(name = "__relay-guard", hide = true)]
    RelayGuard,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// File with a migration stream, saved VM, report, profile or recorded host, also compressed
    /// with xz, gzip or zstd; `-` for standard input; or the name of a recorded host
    /// (linux-6.12.107/neoverse-n1). Append /FEATURES to a host (…/pmu) to show its registers for a
    /// guest with these features.
    pub(crate) file: PathBuf,
    /// Show only this register or field (REG.FIELD); repeatable.
    #[arg(long = "register", value_name = "REG")]
    pub(crate) registers: Vec<String>,
    /// Show only this vCPU, counted from 0.
    #[arg(long)]
    pub(crate) vcpu: Option<usize>,
    /// Decode the fields of every register.
    #[arg(long)]
    pub(crate) fields: bool,
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// VM to check: a migration stream, a saved VM of libvirt or in a qcow2 disk image (FILE#NAME
    /// if the file has several), a file of `cpreg report`, the monitor socket of a running QEMU, or
    /// a running domain (libvirt:DOMAIN). To check a new VM of a host, name the host instead: a
    /// recorded host with features (linux-6.12.107/neoverse-n1/pmu), its file, or a profile.
    pub(crate) source: PathBuf,
    /// Destination: a profile, a stream written by the destination host, a recorded host
    /// (linux-6.12.107/neoverse-n1, or its file), the QEMU of a domain of this machine's libvirt
    /// (libvirt:DOMAIN), or kvm for this machine's KVM: cpreg queries it, and loads the converted
    /// registers into a temporary VM.
    pub(crate) destination: PathBuf,
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
    #[command(flatten)]
    pub(crate) from: FromArgs,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Rehearse {
    /// VM to load: a migration stream, a saved VM, a file of `cpreg report`, the monitor socket of
    /// a running QEMU, or a running domain (libvirt:DOMAIN).
    pub(crate) source: PathBuf,
    /// Load the output of `convert` instead of the VM itself.
    #[arg(long)]
    pub(crate) converted: bool,
    /// Keep an option of the command line unchanged, whatever it touches; repeatable.
    #[arg(long, value_name = "OPTION")]
    pub(crate) allow_option: Vec<String>,
    /// Timeout of each step, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TIMEOUT_SECONDS, value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT_SECONDS))]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
    #[command(flatten)]
    pub(crate) from: FromArgs,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
    /// Command line of the destination's QEMU, after `--`. Its disks, networks and sockets are not
    /// touched.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// VM to convert: a migration stream, or a file or folder of another program with a saved VM
    /// (FILE#NAME if the file has several): a save image of libvirt, a qcow2 disk image.
    pub(crate) source: PathBuf,
    /// Destination: a profile, a stream written by the destination host, a recorded host
    /// (linux-6.12.107/neoverse-n1, or its file), or kvm for this machine's KVM.
    pub(crate) destination: PathBuf,
    /// File to write, atomically; `-` for standard output, with the report on standard error.
    #[arg(long, short, value_name = "FILE", conflicts_with = "in_place")]
    pub(crate) output: Option<PathBuf>,
    /// Change the stream itself, atomically.
    #[arg(long)]
    pub(crate) in_place: bool,
    /// Replace the output file if it exists.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
    #[command(flatten)]
    pub(crate) from: FromArgs,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Destination: a profile, a stream written by the destination host, a recorded host
    /// (linux-6.12.107/neoverse-n1, or its file), or kvm for this machine's KVM.
    pub(crate) destination: PathBuf,
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
    #[command(flatten)]
    pub(crate) from: FromArgs,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
    /// Format of the report.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Print pointer-authentication keys, which are secrets of the guest.
    #[arg(long)]
    pub(crate) show_secrets: bool,
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
#[command(
    override_usage = "cpreg relay [OPTIONS] --listen <ADDRESS> --connect <ADDRESS> --to <DESTINATION>\n       \
     cpreg relay [OPTIONS] --serve"
)]
pub(crate) struct Relay {
    /// Address on which the relay accepts the source's QEMU: tcp:HOST:PORT, unix:PATH,
    /// vsock:CID:PORT, fd:N, stdio:. Without HOST only this machine can connect (tcp::4444).
    /// Default with --serve: the socket of the service manager, or tcp:[::]:49151.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address, required_unless_present = "serve")]
    pub(crate) listen: Option<Address>,
    /// Address on which the destination's QEMU listens (its -incoming).
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address, required_unless_present = "serve")]
    pub(crate) connect: Option<Address>,
    /// Destination: a profile, a stream written by the destination host, a recorded host
    /// (linux-6.12.107/neoverse-n1, or its file), or kvm for this machine's KVM. Default with
    /// --serve: the QEMU that listens at the address of the migration.
    #[arg(long, value_name = "DESTINATION", required_unless_present = "serve")]
    pub(crate) to: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) service: ServeArgs,
    /// Source to check before a connection is accepted: a stream of the VM or of a similar VM; the
    /// monitor socket of the QEMU that runs the VM; or the VM's host: a recorded host with the VM's
    /// features (linux-6.1.176/neoverse-n1/pmu), its file, or a profile.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) from: Option<PathBuf>,
    /// Monitor socket of the source's QEMU (-qmp unix:SOCKET,server=on,wait=off). The switchover
    /// guard starts the migration and ensures that the VM runs on exactly one side.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) source_qmp: Option<PathBuf>,
    /// Monitor socket of the destination's QEMU. The switchover guard keeps the VM paused at the
    /// destination until the source has completed the migration.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) destination_qmp: Option<PathBuf>,
    /// Relay one migration after another until Ctrl-C.
    #[arg(long, conflicts_with_all = ["source_qmp", "destination_qmp"])]
    pub(crate) repeat: bool,
    /// Begin a migration without return path, or with postcopy. A refusal can then leave the VM
    /// stopped at the source.
    #[arg(long)]
    pub(crate) allow_no_return_path: bool,
    /// Format of the log lines.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) log_format: Format,
    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
    /// Format of the report.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Print pointer-authentication keys, which are secrets of the guest.
    #[arg(long)]
    pub(crate) show_secrets: bool,
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Treat the VMM as one that starts to receive a VM (true) or not (false), whatever its
    /// arguments are.
    #[arg(long, value_enum, value_name = "true|false")]
    pub(crate) receiving: Option<TrueFalse>,
    #[command(flatten)]
    pub(crate) policy: RunPolicyArgs,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
    #[command(flatten)]
    pub(crate) start: RunStartArgs,
    /// Format of the lines of --log.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) log_format: Format,
    /// Format of the report of --status.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Baseline {
    #[command(flatten)]
    pub(crate) search: BaselineArgs,
    #[command(flatten)]
    pub(crate) tolerances: ToleranceArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// First stream, profile or recorded host.
    pub(crate) a: PathBuf,
    /// Second stream, profile or recorded host.
    pub(crate) b: PathBuf,
    /// Also compare registers that guests change as they run.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub(crate) struct Report {
    /// VM to report: a migration stream, a saved VM, the monitor socket of a running QEMU, or
    /// a running domain (libvirt:DOMAIN).
    pub(crate) source: PathBuf,
    /// Destination of the VM, to report the result of `check` too: a profile, a stream written by
    /// the destination host, or a recorded host (linux-6.12.107/neoverse-n1, or its file).
    pub(crate) destination: Option<PathBuf>,
    /// File to write, atomically.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) from: FromArgs,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
    /// Keep general and vector registers, and addresses, to debug the guest. They may hold keys of
    /// its programs.
    #[arg(long)]
    pub(crate) general_registers: bool,
    /// Add the kernel release and architecture of this machine, but not its name.
    #[arg(long)]
    pub(crate) host: bool,
    /// Replace the output file if it exists.
    #[arg(long)]
    pub(crate) force: bool,
    /// Output format: text for an issue, or the content of the file.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Also scan the stream as a whole, including all of RAM, and check that both readings agree.
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the option is --tolerances")]
pub(crate) struct Tolerances {
    /// Print only entries for this register; repeatable.
    #[arg(value_name = "REG")]
    pub(crate) registers: Vec<String>,
    #[command(flatten)]
    pub(crate) tolerances: ToleranceArgs,
    /// Export the table for another program.
    #[arg(long, value_enum, value_name = "TARGET", conflicts_with = "format")]
    pub(crate) export: Option<Export>,
    /// Export only what this saved VM needs at this destination (for `--export firecracker`).
    #[arg(long = "for", num_args = 2, value_names = ["SOURCE", "DESTINATION"], requires = "export", conflicts_with = "registers")]
    pub(crate) pair: Option<Vec<PathBuf>>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Export {
    /// C for target/arm of QEMU 11.1 and later.
    Qemu,
    /// Shell script that runs Firecracker's snapshot-editor.
    Firecracker,
    /// Every entry with all members, as `--format json`.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Register (in any spelling) or field (REG.FIELD), with an optional value to decode; or lines
    /// printed by QEMU, libvirt, Firecracker or Cloud Hypervisor; or `-` for a log on standard
    /// input.
    #[arg(value_name = "REG [VALUE] | LINE", required_unless_present = "file")]
    pub(crate) query: Vec<String>,
    /// Log that contains such lines.
    #[arg(long, value_name = "LOG", conflicts_with = "query")]
    pub(crate) file: Option<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Hosts {
    /// List only hosts that match this name or part of a name: linux-6.12.107/neoverse-n1,
    /// linux-6/n1, linux-6.12, ubuntu-24.04, graviton3.
    pub(crate) name: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Probe {
    #[command(subcommand)]
    pub(crate) target: ProbeTarget,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProbeTarget {
    /// Start the destination's QEMU paused, with its own command line, and record its registers
    /// before a guest runs.
    Qemu(ProbeQemu),
    /// Start the QEMU that libvirt would start for a domain, paused and isolated, and record its
    /// registers. No domain is started or changed.
    Libvirt(ProbeLibvirt),
    /// Record the registers, values and accepted values of this machine's KVM, for each set of vCPU
    /// features.
    Kvm(ProbeKvm),
}

#[derive(Debug, Args)]
pub(crate) struct ProbeKvm {
    /// File to write, atomically; default: standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Name of the CPU, such as neoverse-n1; default: the name of the CPU model that MIDR_EL1
    /// identifies.
    #[arg(long, value_name = "NAME")]
    pub(crate) cpu: Option<String>,
    /// Declare the CPU emulated (true) or real (false), if cpreg cannot detect it. A record of
    /// an emulated CPU proves nothing about the values of real hardware.
    #[arg(long, value_enum, value_name = "true|false")]
    pub(crate) emulated: Option<TrueFalse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrueFalse {
    True,
    False,
}

/// Options of `probe qemu` and `probe libvirt`.
#[derive(Debug, Args)]
pub(crate) struct ProbeOptionArgs {
    /// Profile to write; default: standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Name of the destination in reports.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Do not record RAM blocks and devices, so that the profile serves VMs with other memory and
    /// devices. `check` then does not compare them.
    #[arg(long)]
    pub(crate) without_devices: bool,
    /// Keep an option of the command line unchanged, whatever it touches; repeatable.
    #[arg(long, value_name = "OPTION")]
    pub(crate) allow_option: Vec<String>,
    /// Timeout of each step, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TIMEOUT_SECONDS, value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT_SECONDS))]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeLibvirt {
    /// Domain that libvirt has, or a file with the XML of a domain.
    #[arg(value_name = "DOMAIN|FILE")]
    pub(crate) domain: PathBuf,
    /// Connection URI of libvirt, such as qemu:///system; default: that of virsh.
    #[arg(long, short, value_name = "URI")]
    pub(crate) connect: Option<String>,
    #[command(flatten)]
    pub(crate) options: ProbeOptionArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeQemu {
    #[command(flatten)]
    pub(crate) options: ProbeOptionArgs,
    /// Command line of the destination's QEMU, after `--`. Its disks, networks and sockets are not
    /// touched.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Shell that will load the script.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

#[derive(Debug, Args)]
pub(crate) struct ManPages {
    /// Folder to write to; it is created.
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}

/// Parses an address. The error is one line with its hint.
#[cfg(target_os = "linux")]
fn parse_address(text: &str) -> Result<Address, String> {
    text.parse()
        .map_err(|error: cpreg_relay::Error| error.to_string_with_hint())
}
