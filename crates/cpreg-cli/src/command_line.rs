//! The user's command line: for the next commands of a report, and what it lacks.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use cpreg::register::{Naming, RegisterId};
use cpreg_report::command::{CommandKind, TypedCommand};
use cpreg_report::remedy::VALUE_PLACEHOLDER;

/// Values of DESTINATION, for messages.
pub(crate) const DESTINATION_ALTERNATIVES: &str = "DESTINATION is a profile or recorded host written by `cpreg probe`, a migration stream \
     written by the destination host, the name of a recorded host (`cpreg hosts` lists them), \
     libvirt:DOMAIN for the QEMU of a domain, or kvm for this machine";

/// Returns the alternatives for the arguments that a command line lacks.
pub(crate) fn missing_argument_hint(error: &clap::Error) -> Option<&'static str> {
    if error.kind() != clap::error::ErrorKind::MissingRequiredArgument {
        return None;
    }
    let missing = error.get(clap::error::ContextKind::InvalidArg)?.to_string();
    missing
        .contains("DESTINATION")
        .then_some(DESTINATION_ALTERNATIVES)
}

use crate::arguments::ConsentArgs;
#[cfg(target_os = "linux")]
use crate::arguments::Relay;
use crate::names::parse_register;

/// Returns the command that the user typed.
///
/// `from` and `loader` are values of `--from` and `--loader`. Without a `source` or `destination`
/// the commands have a placeholder.
pub(crate) fn typed(
    kind: CommandKind,
    [source, destination]: [Option<&Path>; 2],
    from: Option<&PathBuf>,
    loader: Option<&String>,
    consents: &ConsentArgs,
) -> TypedCommand {
    let placeholders = TypedCommand::default();
    let name = |path: Option<&Path>| path.map(|path| path.display().to_string());
    let words = std::env::args_os().skip(1);
    let words = without_presentation(words.map(|word| text(&word)));
    let options = shared_options(from, loader, consents);
    let can_show_secrets = words.iter().any(|word| word == "--show-secrets");
    let printable = |words: Vec<String>| {
        if can_show_secrets {
            words
        } else {
            words.into_iter().map(hide_secret).collect()
        }
    };
    TypedCommand {
        kind,
        words: printable(words),
        source: name(source).unwrap_or(placeholders.source),
        destination: name(destination).unwrap_or(placeholders.destination),
        options: printable(options),
    }
}

/// Returns the relay that the user typed.
#[cfg(target_os = "linux")]
pub(crate) fn typed_relay(arguments: &Relay) -> TypedCommand {
    typed(
        CommandKind::Relay,
        [arguments.from.as_deref(), arguments.to.as_deref()],
        None,
        arguments.loader.loader.as_ref(),
        &arguments.consents,
    )
}

/// Replaces the value of a secret register, as `--set` and `--ignore` have it, by a placeholder.
fn hide_secret(word: String) -> String {
    let (option, assignment) = match word.split_once('=') {
        Some((option, rest)) if option.starts_with("--") => (format!("{option}="), rest),
        _ => (String::new(), &*word),
    };
    let Some((target, _)) = assignment.split_once('=') else {
        return word;
    };
    let register = target.split('.').next().unwrap_or(target);
    let is_secret = [Naming::Kvm, Naming::Architectural]
        .into_iter()
        .filter_map(|naming| parse_register(register, naming).ok())
        .any(RegisterId::is_secret);
    if is_secret {
        format!("{option}{target}={VALUE_PLACEHOLDER}")
    } else {
        word
    }
}

/// Returns the words without the options for the length and the colour of a report.
///
/// The command line of a QEMU, after `--`, may hold passwords, and becomes a placeholder.
fn without_presentation(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut words = words;
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match &*word {
            "--" => {
                kept.extend([word, "COMMAND".to_owned()]);
                break;
            }
            "-v" | "--verbose" | "-q" | "--quiet" => {}
            "--color" => {
                words.next();
            }
            _ if word.starts_with("--color=") => {}
            _ => kept.push(word),
        }
    }
    kept
}

/// Returns the options that all deciding commands share, as words.
fn shared_options(
    from: Option<&PathBuf>,
    loader: Option<&String>,
    consents: &ConsentArgs,
) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |option: &str, values: &mut dyn Iterator<Item = String>| {
        for value in values {
            words.extend([option.to_owned(), value]);
        }
    };
    add(
        "--from",
        &mut from.into_iter().map(|it| text(it.as_os_str())),
    );
    add("--loader", &mut loader.into_iter().cloned());
    add("--ignore", &mut consents.ignore.iter().cloned());
    add("--drop", &mut consents.drop.iter().cloned());
    add("--set", &mut consents.set.iter().cloned());
    add("--accept", &mut consents.accept.iter().cloned());
    let files = consents.tolerances.files.iter();
    add("--tolerances", &mut files.map(|it| text(it.as_os_str())));
    if consents.tolerances.no_default_tolerances {
        words.push("--no-default-tolerances".to_owned());
    }
    words
}

fn text(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::ToleranceArgs;

    #[test]
    fn keys_are_hidden() {
        for (typed, printed) in [
            ("APIAKEYLO_EL1=0x5ec2", "APIAKEYLO_EL1=VALUE"),
            ("--set=APIAKEYLO_EL1=0x5ec2", "--set=APIAKEYLO_EL1=VALUE"),
            ("0x603000000013c108=1/0xff", "0x603000000013c108=VALUE"),
            ("PSCI_VERSION=1.1", "PSCI_VERSION=1.1"),
            ("--set=TCR_EL1.T0SZ=1", "--set=TCR_EL1.T0SZ=1"),
            ("a=b.stream", "a=b.stream"),
        ] {
            assert_eq!(hide_secret(typed.to_owned()), printed);
        }
    }

    #[test]
    fn length_and_color_are_not_passed_on() {
        let typed = "--color never rehearse vm -v --color=always --quiet --set A=1 -- qemu -v";
        let words = without_presentation(typed.split(' ').map(str::to_owned));
        assert_eq!(words.join(" "), "rehearse vm --set A=1 -- COMMAND");
    }

    #[test]
    fn options_are_passed_on() {
        let consents = ConsentArgs {
            ignore: vec!["A=1".to_owned()],
            drop: vec!["B".to_owned()],
            set: vec!["C=2".to_owned()],
            accept: vec!["low".to_owned(), "D".to_owned()],
            tolerances: ToleranceArgs {
                files: vec![PathBuf::from("t.toml")],
                no_default_tolerances: true,
            },
        };
        let from = PathBuf::from("host");
        let loader = "qemu-10.0".to_owned();
        let options = shared_options(Some(&from), Some(&loader), &consents);
        assert_eq!(
            options.join(" "),
            "--from host --loader qemu-10.0 --ignore A=1 --drop B --set C=2 --accept low \
             --accept D --tolerances t.toml --no-default-tolerances"
        );
    }
}
