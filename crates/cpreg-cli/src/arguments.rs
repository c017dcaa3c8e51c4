//! The command line: clap's types, nothing that acts.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
#[cfg(target_os = "linux")]
use cpreg_relay::Address;

/// The longest that a step may be given: a day. What is added to a point in time must not run over.
const MAX_TIMEOUT_SECONDS: u64 = 24 * 60 * 60;

/// Moves arm64 virtual machines between hosts that do not expose the same registers.
///
/// Exit status: 0 it loads or converts, or what was asked for is done; 1 refused (diff: they differ); 2 bad usage or bad input;
/// 3 unknown: what is known does not tell.
#[derive(Debug, Parser)]
#[command(name = "cpreg", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What a stream or profile holds: vCPUs, registers, decoded fields; what a recorded host is.
    Show(Show),
    /// Will it load there? Why not? What to do?
    Check(Check),
    /// Load it, without its RAM, into the real destination QEMU, paused, and say what happened.
    Rehearse(Rehearse),
    /// Write the VM so that it loads there.
    Convert(Convert),
    /// Pass a stream on, from standard input to standard output, so that it loads there.
    ///
    /// One way, for files and pipes: `-incoming "exec:cpreg filter --to DESTINATION < FILE"`, or `migrate "exec:cpreg filter --to DESTINATION >
    /// FILE"`. RAM passes as it comes; the device state is held back until all of it is there and has been decided about. If it is
    /// refused nothing of it is written, and the destination cannot load what it got. The report goes to standard error.
    Filter(Filter),
    /// Pass a live migration on between two QEMUs, repaired so that it loads there.
    ///
    /// Both ways, over as many connections as the QEMUs make. RAM passes as it comes; the device state is held back until all vCPUs are
    /// there and have been decided about, and its end until all of it has. If it is refused its end never goes on, without which the
    /// destination cannot run the VM, both sides are told, and the report says where the VM is. Log lines go to standard error, the
    /// report to standard output.
    #[cfg(target_os = "linux")]
    Relay(Relay),
    /// What differs between two streams or profiles, by name and field.
    Diff(Diff),
    /// What an error line of a VMM means, or what is known about a register.
    Explain(Explain),
    /// The table of differences that are harmless, when, and why.
    Tolerances(Tolerances),
    /// Record a destination.
    Probe(Probe),
    /// The recorded hosts, which can be named as DESTINATION.
    Hosts(Hosts),
    /// A VM without RAM and secrets: a small file, and text, to ask for help with.
    ///
    /// In the file: every register that a decision looks at; the machine type, the list of RAM blocks, the devices and their
    /// state; with --to the destination, and what `cpreg check` says of the two.
    ///
    /// Not in the file: RAM; pointer-authentication keys; general and vector registers, addresses of the guest's kernel and
    /// programs; what was typed or drawn; the UUID; the names of the input, of the destination and of this machine. What may
    /// still tell something: names of RAM blocks and devices, MAC addresses. Look at it before you publish it.
    ///
    /// `show`, `check`, `diff` and `rehearse` read the file like the stream, and `check` gives the same verdict.
    Report(Report),
    #[cfg(target_os = "linux")]
    /// The guard of `relay`, which starts it: orders on standard input, answers on standard output.
    #[command(name = "__relay-guard", hide = true)]
    RelayGuard,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON document with a versioned schema.
    Json,
}

/// How inputs are read and answers are written.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// How to answer.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Print pointer-authentication keys; they are the guest's secrets.
    #[arg(long)]
    pub(crate) show_secrets: bool,
    /// Read streams from the front as well, all of RAM included, and see that both ways agree.
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A migration stream, a profile or a recorded host, also compressed with xz, gzip or zstd; `-` for standard input; or a recorded
    /// host by name (linux-6.12.107/neoverse-n1). A host with /FEATURES behind it (…/pmu): what it gives to such a guest.
    pub(crate) file: PathBuf,
    /// Only this register, or field (REG.FIELD); may be given several times.
    #[arg(long = "register", value_name = "REG")]
    pub(crate) registers: Vec<String>,
    /// Only this vCPU.
    #[arg(long)]
    pub(crate) vcpu: Option<usize>,
    /// Decode every register's fields.
    #[arg(long)]
    pub(crate) fields: bool,
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
}

/// What only the user can decide.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConsentArgs {
    /// Ignore a register that stands in the way; with =VALUE[/MASK] only if it holds that.
    #[arg(long, value_name = "REG[=VALUE[/MASK]]")]
    pub(crate) ignore: Vec<String>,
    /// Leave a register out of what is sent, or an extension by its name.
    #[arg(long, value_name = "REG")]
    pub(crate) drop: Vec<String>,
    /// Change a register or one field of it.
    #[arg(long, value_name = "REG[.FIELD]=VALUE")]
    pub(crate) set: Vec<String>,
    /// Take the adjustment that is proposed for a register, or all up to a severity: low, medium, high.
    #[arg(long, value_name = "REG|SEVERITY")]
    pub(crate) accept: Vec<String>,
    /// A file of further tolerances (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) tolerances: Vec<PathBuf>,
}

/// Where the VM goes.
#[derive(Debug, Args)]
pub(crate) struct LoaderArgs {
    /// The program that will load it, where DESTINATION does not tell: qemu-10.0, or cpreg for a VMM that loads through cpreg.
    #[arg(long, value_name = "NAME-VERSION")]
    pub(crate) loader: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The VM: a migration stream.
    pub(crate) source: PathBuf,
    /// Where it goes: a profile, a stream that stands for the host that wrote it, a recorded host (linux-6.12.107/neoverse-n1, or its
    /// file), or kvm: this machine's, which is asked, and has to load the plan into a VM that is thrown away.
    pub(crate) destination: PathBuf,
    /// List every register, also those that are simply copied.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Rehearse {
    /// The VM: a migration stream.
    pub(crate) source: PathBuf,
    /// Load what `convert` would write, instead of the VM as it is.
    #[arg(long)]
    pub(crate) converted: bool,
    /// Leave an option of the command line as it is, whatever it touches; may be given several times.
    #[arg(long, value_name = "OPTION")]
    pub(crate) allow_option: Vec<String>,
    /// How long each step may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT_SECONDS))]
    pub(crate) timeout: u64,
    /// List every register, also those that are simply copied.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
    /// The command line of the destination's QEMU, after `--`. Nothing on its disks, networks or sockets is touched.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// The VM: a migration stream.
    pub(crate) source: PathBuf,
    /// Where it goes: a profile, a stream that stands for the host that wrote it, a recorded host (linux-6.12.107/neoverse-n1, or its
    /// file), or kvm for this machine's.
    #[arg(long, value_name = "DESTINATION")]
    pub(crate) to: PathBuf,
    /// The file to write. It appears whole or not at all.
    #[arg(
        long,
        short,
        value_name = "FILE",
        conflicts_with = "in_place",
        required_unless_present = "in_place"
    )]
    pub(crate) output: Option<PathBuf>,
    /// Change the stream itself: wholly or not at all.
    #[arg(long)]
    pub(crate) in_place: bool,
    /// Replace the output if it is there.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Where it goes: a profile, a stream that stands for the host that wrote it, or a recorded host (linux-6.12.107/neoverse-n1).
    #[arg(long, value_name = "DESTINATION")]
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Print pointer-authentication keys; they are the guest's secrets.
    #[arg(long)]
    pub(crate) show_secrets: bool,
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
pub(crate) struct Relay {
    /// Where the source's QEMU connects: tcp:HOST:PORT, unix:PATH, vsock:CID:PORT, fd:N, stdio:. Without a HOST only this machine
    /// can connect (tcp::4444).
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) listen: Address,
    /// Where the destination's QEMU waits (its -incoming).
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) connect: Address,
    /// Where the VM goes: a profile, a stream that stands for the host that wrote it, a recorded host (linux-6.12.107/neoverse-n1),
    /// or kvm for this machine.
    #[arg(long, value_name = "DESTINATION")]
    pub(crate) to: PathBuf,
    /// Where the VM comes from, so that what is certain is said before RAM flows: a stream of it, or of a VM like it; the monitor
    /// socket of the QEMU that runs it; or a recorded host with the VM's features (linux-6.1.176/neoverse-n1/pmu).
    #[arg(long, value_name = "SOURCE")]
    pub(crate) from: Option<PathBuf>,
    /// The monitor socket of the source's QEMU (-qmp unix:SOCKET,server=on,wait=off): the drain guard starts the migration, and has the
    /// VM run on exactly one side whatever happens.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) source_qmp: Option<PathBuf>,
    /// The monitor socket of the destination's QEMU: the drain guard holds it until the source has given the VM up.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) destination_qmp: Option<PathBuf>,
    /// Go on with one migration after the other, until Ctrl-C.
    #[arg(long, conflicts_with_all = ["source_qmp", "destination_qmp"])]
    pub(crate) repeat: bool,
    /// Begin although the VM would stand still at the source if it had to be refused: without a return path, or with postcopy.
    #[arg(long)]
    pub(crate) allow_no_return_path: bool,
    /// How log lines are written.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) log_format: Format,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
    #[command(flatten)]
    pub(crate) consents: ConsentArgs,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Print pointer-authentication keys; they are the guest's secrets.
    #[arg(long)]
    pub(crate) show_secrets: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// A stream, profile or recorded host.
    pub(crate) a: PathBuf,
    /// Another one.
    pub(crate) b: PathBuf,
    /// Also registers whose values guests change as they run.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) inspect: InspectArgs,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub(crate) struct Report {
    /// The VM: a migration stream.
    pub(crate) source: PathBuf,
    /// The file to write. It appears whole or not at all.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Where the VM is to go: a profile, a stream that stands for the host that wrote it, or a recorded host (linux-6.12.107/neoverse-n1).
    #[arg(long, value_name = "DESTINATION")]
    pub(crate) to: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) loader: LoaderArgs,
    /// Keep general and vector registers, and addresses: for those who debug the guest. They may hold keys of its programs.
    #[arg(long)]
    pub(crate) general_registers: bool,
    /// Say which kernel and architecture this machine has; its name is not said.
    #[arg(long)]
    pub(crate) host: bool,
    /// Replace the output if it is there.
    #[arg(long)]
    pub(crate) force: bool,
    /// How to answer: text for an issue, or what is in the file.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Read the stream from the front as well, all of RAM included, and see that both ways agree.
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the option is --tolerances")]
pub(crate) struct Tolerances {
    /// Only entries about this register; may be given several times.
    #[arg(value_name = "REG")]
    pub(crate) registers: Vec<String>,
    /// A file of further tolerances (TOML), printed with the others.
    #[arg(long, value_name = "FILE")]
    pub(crate) tolerances: Vec<PathBuf>,
    /// The table for a program that keeps one of its own.
    #[arg(long, value_enum, value_name = "TARGET", conflicts_with = "format")]
    pub(crate) export: Option<Export>,
    /// How to answer.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Export {
    /// C for target/arm of QEMU 11.1 and later.
    Qemu,
    /// A shell script that runs Firecracker's snapshot-editor.
    Firecracker,
    /// The same as `--format json`: every entry with all that it says.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A register in any spelling, or a field of one (REG.FIELD), and perhaps a value to be decoded. Or lines that QEMU,
    /// libvirt, Firecracker or Cloud Hypervisor printed, as they stand in a log; `-`: a log on standard input.
    #[arg(value_name = "REG [VALUE] | LINE", required_unless_present = "file")]
    pub(crate) query: Vec<String>,
    /// A log with such lines among others.
    #[arg(long, value_name = "LOG", conflicts_with = "query")]
    pub(crate) file: Option<PathBuf>,
    /// How to answer.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Hosts {
    /// Only those that this may be the name of: linux-6.12.107/neoverse-n1, linux-6.12, linux-6/n1.
    pub(crate) name: Option<String>,
    /// How to answer.
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
    /// Start a QEMU with its own command line, paused, and record what it lists before a guest runs.
    Qemu(ProbeQemu),
    /// Record what this machine's KVM gives to guests: registers, values, and what else it takes, for each set of vCPU features.
    Kvm(ProbeKvm),
}

#[derive(Debug, Args)]
pub(crate) struct ProbeKvm {
    /// The file to write, which appears whole or not at all; standard output without it.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// What to call the CPU: neoverse-n1. Else its name by MIDR_EL1.
    #[arg(long, value_name = "NAME")]
    pub(crate) cpu: Option<String>,
    /// Whether the CPU is an emulator's, where cpreg does not see it: such a record proves nothing about a real machine's values.
    #[arg(long, value_enum, value_name = "true|false")]
    pub(crate) emulated: Option<TrueFalse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrueFalse {
    /// It is.
    True,
    /// It is not.
    False,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeQemu {
    /// The profile to write; standard output without it.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// What to call the destination in reports.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// How long each step may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT_SECONDS))]
    pub(crate) timeout: u64,
    /// The command line of the destination's QEMU, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Reads an address; what is wrong with it stands in one line with what to give.
#[cfg(target_os = "linux")]
fn parse_address(text: &str) -> Result<Address, String> {
    text.parse()
        .map_err(|error: cpreg_relay::Error| error.to_string_with_hint())
}
