//! The user's command line: with another destination, and what it lacks.

use std::ffi::OsString;
use std::path::Path;

/// Values of DESTINATION, for messages.
pub(crate) const DESTINATION_ALTERNATIVES: &str = "DESTINATION is a profile or recorded host written by `cpreg probe`, a migration stream \
     written by the destination host, the name of a recorded host (`cpreg hosts` lists them), or \
     kvm for this machine";

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

/// Option that names the destination of `relay`; an argument names that of the other commands.
const DESTINATION_OPTION: &str = "--to";
/// Options whose values can equal the destination and name something else.
const OTHER_OPTIONS: [&str; 4] = ["--from", "--tolerances", "-o", "--output"];

/// Returns the command line of this process with `replacement` in place of `destination`, in a
/// form that a shell reads.
pub(crate) fn with_destination(destination: &Path, replacement: &str) -> String {
    replace_destination(std::env::args_os().skip(1), destination, replacement)
}

fn replace_destination(
    arguments: impl Iterator<Item = OsString>,
    destination: &Path,
    replacement: &str,
) -> String {
    let mut words = vec!["cpreg".to_owned()];
    let with_option = format!("{DESTINATION_OPTION}={}", destination.display());
    let mut is_other = false;
    for argument in arguments {
        words.push(match argument.to_str() {
            _ if !is_other && Path::new(&argument) == destination => quote(replacement),
            Some(text) if text == with_option => {
                format!("{DESTINATION_OPTION}={}", quote(replacement))
            }
            _ => quote(&argument.to_string_lossy()),
        });
        is_other = OTHER_OPTIONS.iter().any(|option| argument == *option);
    }
    words.join(" ")
}

/// Quotes a word for a POSIX shell, if the shell would change it.
fn quote(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(words: &[&str]) -> String {
        let words = words.iter().map(OsString::from);
        replace_destination(words, Path::new("a host"), "a host/pmu")
    }

    #[test]
    fn only_the_destination_is_replaced() {
        for (given, expected) in [
            (
                &["check", "vm", "a host"][..],
                "cpreg check vm 'a host/pmu'",
            ),
            (
                &["check", "vm", "a host", "--from", "a host"],
                "cpreg check vm 'a host/pmu' --from 'a host'",
            ),
            (
                &["convert", "vm", "a host", "-o", "it's"],
                "cpreg convert vm 'a host/pmu' -o 'it'\\''s'",
            ),
            (
                &["convert", "vm", "a host", "-o", "a host"],
                "cpreg convert vm 'a host/pmu' -o 'a host'",
            ),
            (
                &["relay", "--to", "a host"],
                "cpreg relay --to 'a host/pmu'",
            ),
            (&["relay", "--to=a host"], "cpreg relay --to='a host/pmu'"),
        ] {
            assert_eq!(replaced(given), expected);
        }
    }
}
