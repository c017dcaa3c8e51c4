//! docs/cli.md: every command, argument and option, from clap's own definitions, and the test that it is current.
//!
//! Made by `cargo xtask gen-cli`, and by `cargo xtask bless` with the other files. What commands are for and what they print
//! is written by hand in docs/commands; a command that has a page there is linked to it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory as _};

use crate::arguments::Arguments;

const HEAD: &str = "\
# Command line

Every command with its arguments and options, as `cpreg help COMMAND` tells them. Made by `cargo xtask gen-cli` from the program's own definitions;
what the commands are for, with examples, is in [commands](README.md).
";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// The whole document.
fn reference() -> String {
    let mut command = Arguments::command();
    command.build();
    let mut text = HEAD.to_owned();
    describe(&mut text, &mut command, "cpreg");
    text
}

/// A section about this command, and one for each below it.
fn describe(text: &mut String, command: &mut Command, name: &str) {
    let about = command.get_long_about().or_else(|| command.get_about());
    let _ = write!(text, "\n## `{name}`\n\n");
    if let Some(about) = about {
        let _ = write!(text, "{}\n\n", sentence(&about.to_string()));
    }
    let page = format!("commands/{}.md", command.get_name());
    if name.matches(' ').count() == 1 && docs().join(&page).exists() {
        let _ = write!(text, "[{page}]({page})\n\n");
    }
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let _ = write!(text, "```text\n{usage}\n```\n");
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|it| !it.is_hide_set() && !matches!(it.get_id().as_str(), "help" | "version"))
        .collect();
    if !arguments.is_empty() {
        text.push_str("\n| argument | |\n|---|---|\n");
        // As in clap's help: first what has a place, then what has a name.
        let (positional, options): (Vec<_>, Vec<_>) =
            arguments.iter().partition(|it| it.is_positional());
        for argument in positional.into_iter().chain(options) {
            let _ = writeln!(
                text,
                "| `{}` | {} |",
                cell(&spelling(argument)),
                cell(&meaning(argument))
            );
        }
    }
    let below: Vec<&mut Command> = command
        .get_subcommands_mut()
        .filter(|it| !it.is_hide_set() && it.get_name() != "help")
        .collect();
    for command in below {
        let name = format!("{name} {}", command.get_name());
        describe(text, command, &name);
    }
}

/// `--output FILE`, `SOURCE`, with what may follow.
fn spelling(argument: &Arg) -> String {
    let values = if argument.get_num_args().is_some_and(|it| it.takes_values()) {
        let names = argument.get_value_names().unwrap_or_default();
        names.join(" ")
    } else {
        String::new()
    };
    let mut names = Vec::new();
    names.extend(argument.get_short().map(|short| format!("-{short}")));
    names.extend(argument.get_long().map(|long| format!("--{long}")));
    if names.is_empty() {
        return values;
    }
    let names = names.join(", ");
    if values.is_empty() {
        names
    } else {
        format!("{names} {values}")
    }
}

/// The help text, the values that there are, and the default.
fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let help = help.map(StyledStr::to_string).unwrap_or_default();
    let mut meaning = sentence(&help);
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| match value.get_help() {
            Some(help) => {
                format!("`{}` ({help})", value.get_name())
            }
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if !values.is_empty() {
        let _ = write!(meaning, " One of {}.", values.join(", "));
    }
    let defaults = argument.get_default_values();
    if argument.get_num_args().is_some_and(|it| it.takes_values()) && !defaults.is_empty() {
        let defaults: Vec<_> = defaults.iter().map(|it| it.to_string_lossy()).collect();
        let _ = write!(meaning, " Default: `{}`.", defaults.join(" "));
    }
    if argument.is_required_set() {
        meaning.push_str(" Required.");
    }
    meaning
}

/// With the full stop that clap takes away from the end of a help text.
fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.ends_with(['.', '?', '!', ':']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

/// The text on one line, for a cell of a table.
fn cell(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

#[test]
fn docs_cli_md_is_current() {
    let path = docs().join("cli.md");
    let reference = reference();
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, reference).expect("docs/cli.md can be written");
        return;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let line = there
        .lines()
        .zip(reference.lines())
        .position(|(a, b)| a != b);
    assert!(
        there == reference,
        "docs/cli.md is not what the program says, from line {} on; run cargo xtask bless, or cargo xtask gen-cli",
        line.unwrap_or_else(|| there.lines().count().min(reference.lines().count())) + 1
    );
}

#[test]
fn every_option_is_in_the_reference() {
    fn options(command: &Command, found: &mut Vec<String>) {
        let longs = command.get_arguments().filter_map(Arg::get_long);
        found.extend(longs.map(|long| format!("--{long}")));
        command
            .get_subcommands()
            .for_each(|command| options(command, found));
    }
    let mut found = Vec::new();
    options(&Arguments::command(), &mut found);
    assert!(found.len() > 20, "{found:?}");
    let reference = reference();
    let missing: Vec<_> = found
        .iter()
        .filter(|option| !reference.contains(option.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(reference.contains("--accept REG\\|SEVERITY"), "{reference}");
}
