//! Completion of arguments in a shell: names of hosts, registers, severities, features and loaders.
//!
//! The shell's script calls cpreg itself, with [`VARIABLE`] in the environment and the words of the
//! command line. The names are therefore those of the installed cpreg. [`script`] returns the
//! script, and `complete` answers the call.
//!
//! A completer belongs to the id of an argument, so the definitions in [`crate::arguments`] need no
//! change. A test checks that every argument with a value is completed or is free text.

use std::ffi::OsStr;
use std::io;

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use clap_complete::{ArgValueCompleter, CompleteEnv, CompletionCandidate, PathCompleter};
use cpreg::destination::Features;
use cpreg::destination::loader::Loader;
use cpreg::register::{Naming, RegisterId};
use cpreg::severity::Severity;
use cpreg_hosts::{HostIndex, IndexedHost};

use crate::arguments::{Arguments, Shell};
use clap_complete::engine::ValueCompleter as _;

/// Environment variable with the shell's name, set only by the scripts.
///
/// clap's default is `COMPLETE`, which another program may have exported. cpreg would then print a
/// script instead of running.
const VARIABLE: &str = "CPREG_COMPLETE";

/// Argument for this machine's KVM.
const KVM: &str = "kvm";

/// Maximum number of kernels whose hosts are listed at once. Of more kernels, only the names are
/// listed.
const MAX_LISTED_KERNELS: usize = 1;

/// Answers a call of the shell's script and ends the process. Returns if this is no such call.
pub(crate) fn complete() {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

/// Returns the script that a shell loads.
pub(crate) fn script(shell: Shell) -> io::Result<String> {
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "cpreg", "cpreg", "cpreg", &mut script)?;
    let mut script = String::from_utf8(script).map_err(io::Error::other)?;
    if shell == Shell::Zsh {
        // In a folder of `fpath` the file is the body of the function `_cpreg`, which zsh calls for
        // the first completion. The body above only defines the function for the following ones.
        script.push_str(
            "if [[ ${funcstack[1]} == _cpreg ]]; then\n    \
             _clap_dynamic_completer_cpreg \"$@\"\nfi\n",
        );
    }
    Ok(script)
}

/// Returns the command line, with a completer at each argument that has one.
fn command() -> Command {
    with_completers(Arguments::command())
}

fn with_completers(command: Command) -> Command {
    let name = command.get_name().to_owned();
    command
        .mut_args(|argument| match completer(&name, &argument) {
            Some(completer) => argument.add(completer),
            None => argument,
        })
        .mut_subcommands(with_completers)
}

/// Returns the completer of an argument, or `None` if clap's own completion fits: the values of an
/// enumeration, and paths.
fn completer(command: &str, argument: &Arg) -> Option<ArgValueCompleter> {
    let function: fn(&OsStr) -> Vec<CompletionCandidate> = match argument.get_id().as_str() {
        // A VM with RAM: no host has one.
        "source" if matches!(command, "convert" | "rehearse" | "report") => return None,
        "sources" | "hosts" | "source" | "from" => complete_host_or_file,
        "destination" | "to" => complete_destination,
        "a" | "b" => complete_host_or_file,
        "keep" => complete_kept,
        "file" if command == "show" => complete_host_or_file,
        "name" if command == "hosts" => complete_host,
        "cpu" => complete_cpu,
        "loader" => complete_loader,
        "accept" => complete_consent,
        "registers" | "query" | "ignore" | "drop" | "set" | "born_with" => complete_register,
        _ => return None,
    };
    Some(ArgValueCompleter::new(function))
}

fn candidates(names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn complete_host(current: &OsStr) -> Vec<CompletionCandidate> {
    let index = HostIndex::built_in().ok();
    let names = index.zip(current.to_str());
    candidates(names.map_or_else(Vec::new, |(index, text)| host_names(&index, text)))
}

fn complete_host_or_file(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut candidates = complete_host(current);
    candidates.extend(PathCompleter::any().complete(current));
    candidates
}

fn complete_destination(current: &OsStr) -> Vec<CompletionCandidate> {
    let is_kvm = current.to_str().is_some_and(|text| KVM.starts_with(text));
    let mut candidates = candidates(is_kvm.then(|| KVM.to_owned()));
    candidates.extend(complete_host_or_file(current));
    candidates
}

/// Returns the names of hosts that begin with `text`.
///
/// A name is completed part by part, as a path is: kernel, CPU, features of the guest.
fn host_names(index: &HostIndex, text: &str) -> Vec<String> {
    let hosts = index.hosts();
    let with_features = hosts.iter().find_map(|host| {
        let name = host.name();
        let features = text.strip_prefix(&name)?.strip_prefix('/')?;
        Some((name, features, host.record()))
    });
    if let Some((name, features, record)) = with_features {
        let recorded = record.guests.keys().map(Features::to_string);
        return recorded
            .filter(|recorded| recorded.starts_with(features))
            .map(|recorded| format!("{name}/{recorded}"))
            .collect();
    }
    let names: Vec<String> = hosts
        .iter()
        .map(IndexedHost::name)
        .filter(|name| name.starts_with(text))
        .collect();
    let kernels = names.iter().filter_map(|name| name.split_once('/'));
    let mut kernels: Vec<String> = kernels.map(|(kernel, _)| format!("{kernel}/")).collect();
    kernels.dedup();
    if kernels.len() > MAX_LISTED_KERNELS {
        kernels
    } else {
        names
    }
}

/// Returns the registers that begin with `text`, or the fields after `REGISTER.`.
///
/// Registers that a recorded KVM lists come first: others differ between hosts of an emulator only.
fn register_names(text: &str) -> Vec<String> {
    if let Some((register, field)) = text.split_once('.') {
        let id = RegisterId::parse_in(register, Naming::Kvm);
        let fields = id.map(RegisterId::fields).unwrap_or_default();
        let names = fields.iter().map(|field| field.name());
        return names
            .filter(|name| starts_with(name, field))
            .map(|name| format!("{register}.{name}"))
            .collect();
    }
    let index = HostIndex::built_in().ok();
    let recorded = index.iter().flat_map(HostIndex::registers);
    let mut names: Vec<String> = recorded
        .filter_map(RegisterId::name)
        .filter(|name| starts_with(name, text))
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        let all = RegisterId::all_names().filter(|name| starts_with(name, text));
        names = all.map(str::to_owned).collect();
    }
    names.sort();
    names.dedup();
    names
}

/// Returns `true` if the name begins with `text`, in upper or lower case.
fn starts_with(name: &str, text: &str) -> bool {
    let start = name.get(..text.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(text))
}

fn complete_register(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current.to_str().map_or_else(Vec::new, register_names))
}

/// Completes a register, or a severity that `--accept` takes as a whole.
fn complete_consent(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_str().unwrap_or_default();
    let severities = [Severity::Low, Severity::Medium].map(Severity::name);
    let severities = severities.into_iter().filter(|name| name.starts_with(text));
    let mut candidates = candidates(severities.map(str::to_owned));
    candidates.extend(complete_register(current));
    candidates
}

/// Completes a feature of the guest, or a field.
fn complete_kept(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_str().unwrap_or_default();
    let features = ["pmu", "sve", "ptrauth", "mte", "el2"].into_iter();
    let features = features.filter(|name| name.starts_with(text));
    let mut candidates = candidates(features.map(str::to_owned));
    candidates.extend(complete_register(current));
    candidates
}

fn complete_loader(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_str().unwrap_or_default();
    let loaders = Loader::MODELLED.into_iter().chain(Loader::OTHER_VMMS);
    let names = loaders.chain([Loader::CPREG]);
    let names = names.map(|loader| loader.to_string());
    candidates(names.filter(|name| name.starts_with(text)))
}

fn complete_cpu(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_str().unwrap_or_default();
    let index = HostIndex::built_in().ok();
    let hosts = index.iter().flat_map(HostIndex::hosts);
    let mut models: Vec<String> = hosts.map(|host| host.model().to_owned()).collect();
    models.sort();
    models.dedup();
    candidates(models.into_iter().filter(|model| model.starts_with(text)))
}

#[cfg(test)]
mod tests {
    use clap::builder::ValueHint;

    use super::*;

    /// Arguments that only the user knows.
    const FREE_TEXT: [&str; 17] = [
        "features",
        "timeout",
        "seconds",
        "status",
        "vcpu",
        "name",
        "listen",
        "connect",
        "command",
        "allow_option",
        "subcommand",
        "domain",
        "operation",
        "suboperation",
        "extra",
        "node",
        "valid_days",
    ];

    #[test]
    fn every_argument_with_a_value_is_completed() {
        fn check(command: &Command, missing: &mut Vec<String>) {
            for argument in command.get_arguments() {
                let takes_value = argument.get_num_args().is_none_or(|n| n.takes_values());
                let is_completed = argument.get::<ArgValueCompleter>().is_some()
                    || !argument.get_possible_values().is_empty()
                    || argument.get_value_hint() != ValueHint::Unknown
                    || FREE_TEXT.contains(&argument.get_id().as_str());
                if takes_value && !is_completed {
                    missing.push(format!("{} {}", command.get_name(), argument.get_id()));
                }
            }
            command
                .get_subcommands()
                .for_each(|command| check(command, missing));
        }
        let mut command = command();
        command.build();
        let mut missing = Vec::new();
        check(&command, &mut missing);
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn hosts_are_completed_part_by_part() {
        let index = HostIndex::built_in().expect("the built-in hosts");
        let kernels = host_names(&index, "linux-6.1");
        assert!(
            kernels.contains(&"linux-6.12.107/".to_owned()),
            "{kernels:?}"
        );
        assert!(kernels.iter().all(|name| name.ends_with('/')));
        let hosts = host_names(&index, "linux-6.12.107/neo");
        assert!(
            hosts.contains(&"linux-6.12.107/neoverse-n1".to_owned()),
            "{hosts:?}"
        );
        let features = host_names(&index, "linux-6.12.107/neoverse-n1/p");
        assert!(
            features.contains(&"linux-6.12.107/neoverse-n1/pmu".to_owned()),
            "{features:?}"
        );
        // Every completed name resolves.
        for name in hosts.iter().chain(&features) {
            assert!(index.resolve(name).is_ok(), "{name}");
        }
        assert!(host_names(&index, "no-such-host").is_empty());
    }

    #[test]
    fn registers_are_completed_in_any_case_and_with_fields() {
        assert!(register_names("tcr2").contains(&"TCR2_EL1".to_owned()));
        assert!(
            register_names("TCR2_EL1.")
                .iter()
                .all(|name| name.starts_with("TCR2_EL1."))
        );
        assert!(!register_names("ID_AA64MMFR0_EL1.").is_empty());
        assert!(register_names("NO_SUCH_").is_empty());
        // A register that no recorded KVM lists.
        assert!(register_names("ACTLR2").contains(&"ACTLR2".to_owned()));
    }
}
