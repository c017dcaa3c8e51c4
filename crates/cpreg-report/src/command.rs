//! [`TypedCommand`]: the command that the user typed; [`Step`]: what the user can do next.
//!
//! A report derives the next commands from the typed one, with the user's own names and options.

use std::path::Path;

/// Option that names the destination of `relay`; an argument names that of the other commands.
const DESTINATION_OPTION: &str = "--to";
/// Options whose values can equal the destination and name something else.
const OTHER_OPTIONS: [&str; 4] = ["--from", "--tolerances", "-o", "--output"];
/// Name of standard input as SOURCE, and of standard output as a new file.
pub(crate) const STANDARD_STREAM: &str = "-";
/// Separator of cpreg's arguments from the command line of a QEMU.
const COMMAND_SEPARATOR: &str = "--";
/// Suffixes of compressed files; a converted file is not compressed.
const COMPRESSED_SUFFIXES: [&str; 4] = [".xz", ".gz", ".zst", ".zstd"];

/// Command of cpreg that decides on the load of a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommandKind {
    /// `cpreg check`.
    #[default]
    Check,
    /// `cpreg convert`.
    Convert,
    /// `cpreg filter`.
    Filter,
    /// `cpreg relay`.
    Relay,
    /// `cpreg rehearse`.
    Rehearse,
}

/// Command that the user typed, in words that are not yet quoted for a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedCommand {
    /// Command.
    pub kind: CommandKind,
    /// All words after the program's name.
    pub words: Vec<String>,
    /// SOURCE; `SOURCE` if the VM arrives on a connection or the name must not be printed.
    pub source: String,
    /// DESTINATION, in the same form.
    pub destination: String,
    /// Options that all deciding commands share: the host of the VM, the loader, the consents.
    pub options: Vec<String>,
}

impl Default for TypedCommand {
    /// Returns a check with placeholders instead of names.
    fn default() -> Self {
        let (source, destination) = ("SOURCE".to_owned(), "DESTINATION".to_owned());
        Self {
            kind: CommandKind::default(),
            words: vec!["check".to_owned(), source.clone(), destination.clone()],
            source,
            destination,
            options: Vec::new(),
        }
    }
}

impl TypedCommand {
    /// Returns the same command with further options.
    pub fn with_options(&self, options: &[String]) -> String {
        let is_separator = |word: &String| word == COMMAND_SEPARATOR;
        let end = self.words.iter().position(is_separator);
        let (own, others) = self.words.split_at(end.unwrap_or(self.words.len()));
        join(own.iter().chain(options).chain(others))
    }

    /// Returns the same command without an option.
    pub fn without(&self, option: &str) -> String {
        join(self.words.iter().filter(|word| *word != option))
    }

    /// Returns the same command with `replacement` in place of the destination.
    pub fn with_destination(&self, destination: &Path, replacement: &str) -> String {
        let option = format!("{DESTINATION_OPTION}={}", destination.display());
        let mut is_other = false;
        let words = self.words.iter().map(|word| {
            let is_value_of_other = std::mem::replace(
                &mut is_other,
                OTHER_OPTIONS.iter().any(|option| word == option),
            );
            if !is_value_of_other && Path::new(word) == destination {
                replacement.to_owned()
            } else if *word == option {
                format!("{DESTINATION_OPTION}={replacement}")
            } else {
                word.clone()
            }
        });
        join(&words.collect::<Vec<_>>())
    }

    /// Returns the check of a VM at a destination, with the user's options.
    pub fn check(&self, source: &str, destination: &str) -> String {
        let words = ["check", source, destination].map(str::to_owned);
        join(words.iter().chain(&self.options))
    }

    /// Returns the conversion of a VM to a new file, with the user's options.
    pub fn convert(&self, source: &str, output: &str) -> String {
        let words = ["convert", source, &self.destination, "-o", output];
        let words = words.map(str::to_owned);
        join(words.iter().chain(&self.options))
    }

    /// Returns the name of a new file for the converted SOURCE, in the current folder:
    /// `vm.converted.stream` for `/save/vm.stream.xz`.
    pub fn output(&self) -> String {
        let name = Path::new(&self.source).file_name();
        let name = name.map_or_else(|| "vm".into(), |name| name.to_string_lossy());
        let plain = COMPRESSED_SUFFIXES
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        let name = plain.unwrap_or(&name);
        match name.rsplit_once('.') {
            Some((stem, suffix)) if !stem.is_empty() => format!("{stem}.converted.{suffix}"),
            _ => format!("{name}.converted"),
        }
    }
}

/// A step that the user can take next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Purpose of the step, in words.
    pub purpose: String,
    /// Commands of the step, in their order. Words in capitals stand for arguments that only the
    /// user knows. Empty if the step is no command.
    pub commands: Vec<String>,
}

impl Step {
    /// Returns a step with its purpose and its commands.
    pub fn new(purpose: impl Into<String>, commands: impl IntoIterator<Item = String>) -> Self {
        Self {
            purpose: purpose.into(),
            commands: commands.into_iter().collect(),
        }
    }

    /// Returns the step in one line, each command between backticks.
    pub fn text(&self) -> String {
        let commands: Vec<_> = self.commands.iter().map(|it| format!("`{it}`")).collect();
        if commands.is_empty() {
            self.purpose.clone()
        } else {
            format!("{}: {}", self.purpose, commands.join(", then "))
        }
    }
}

/// Returns a command line of cpreg.
fn join<'a>(words: impl IntoIterator<Item = &'a String>) -> String {
    let words = words.into_iter().map(|word| quote(word));
    let words: Vec<_> = std::iter::once("cpreg".to_owned()).chain(words).collect();
    words.join(" ")
}

/// Quotes a word for a POSIX shell, if the shell would change it.
pub fn quote(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &[&str]) -> TypedCommand {
        TypedCommand {
            words: words.iter().copied().map(str::to_owned).collect(),
            ..TypedCommand::default()
        }
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quote("snapshot.id=1"), "snapshot.id=1");
        assert_eq!(quote("my disk"), "'my disk'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
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
            (&["relay", "--to=a host"], "cpreg relay '--to=a host/pmu'"),
            (
                &["relay", "--to", "a host"],
                "cpreg relay --to 'a host/pmu'",
            ),
        ] {
            let replaced = typed(given).with_destination(Path::new("a host"), "a host/pmu");
            assert_eq!(replaced, expected);
        }
    }

    #[test]
    fn options_precede_the_command_line_of_qemu() {
        let accept = ["--accept", "low"].map(str::to_owned);
        assert_eq!(
            typed(&["rehearse", "vm", "--", "qemu", "-S"]).with_options(&accept),
            "cpreg rehearse vm --accept low -- qemu -S"
        );
        assert_eq!(
            typed(&["check", "a vm", "b"]).with_options(&accept),
            "cpreg check 'a vm' b --accept low"
        );
    }

    #[test]
    fn steps_are_lines_with_commands() {
        let step = Step::new("look", ["a".to_owned(), "b c".to_owned()]);
        assert_eq!(step.text(), "look: `a`, then `b c`");
        assert_eq!(Step::new("look", []).text(), "look");
    }

    #[test]
    fn names_are_those_of_the_user() {
        let command = TypedCommand {
            source: "/save/my vm.stream.xz".to_owned(),
            destination: "there.json".to_owned(),
            options: ["--accept", "low"].map(str::to_owned).to_vec(),
            ..TypedCommand::default()
        };
        assert_eq!(
            command.convert(&command.source, &command.output()),
            "cpreg convert '/save/my vm.stream.xz' there.json -o 'my vm.converted.stream' \
             --accept low"
        );
        assert_eq!(command.check("vm", "b"), "cpreg check vm b --accept low");
        for (source, output) in [("vm", "vm.converted"), (".vm", ".vm.converted")] {
            let command = TypedCommand {
                source: source.to_owned(),
                ..TypedCommand::default()
            };
            assert_eq!(command.output(), output);
        }
    }
}
