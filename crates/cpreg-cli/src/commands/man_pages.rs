//! `cpreg __man-pages FOLDER`: writes a man page for `cpreg` and for each command.
//!
//! The pages are not checked in: packages make them from the program that they contain, so a page
//! never describes another version. `cargo xtask gen-man` calls this command.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::arguments::{self, Arguments};
use crate::failure::{Failure, Status};
use crate::printer::Printer;

pub(crate) fn run(
    arguments: &arguments::ManPages,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let folder = &arguments.folder;
    fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder, error))?;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let count = write_pages(&command, None, folder)?;
    printer.line(format_args!("{}: {count} man pages", folder.display()));
    Ok(Status::Success)
}

/// Writes the pages of a command and its sub-commands, and returns their number.
fn write_pages(command: &Command, parent: Option<&str>, folder: &Path) -> Result<usize, Failure> {
    let name = match parent {
        Some(parent) => format!("{parent}-{}", command.get_name()),
        None => command.get_name().to_owned(),
    };
    let path = folder.join(format!("{name}.1"));
    let page = page(command, &name, parent);
    page.and_then(|page| fs::write(&path, page))
        .map_err(|error| Failure::io("write", &path, error))?;
    let mut count = 1;
    for subcommand in command.get_subcommands() {
        if !subcommand.is_hide_set() {
            count += write_pages(subcommand, Some(&name), folder)?;
        }
    }
    Ok(count)
}

/// Returns the page of a command. `parent` is the name of the page that lists the command.
fn page(command: &Command, name: &str, parent: Option<&str>) -> io::Result<Vec<u8>> {
    let version = env!("CARGO_PKG_VERSION");
    // clap_mangen prints the version of the program only.
    let command = command.clone().version(version);
    let mut page = Vec::new();
    Man::new(command)
        .title(name.to_uppercase())
        .date(date())
        .source(format!("cpreg {version}"))
        .manual("cpreg")
        .render(&mut page)?;
    let mut sections = Roff::new();
    sections.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in EXIT_STATUSES {
        sections.control("TP", []);
        sections.text([bold(status)]);
        sections.text([roman(meaning)]);
    }
    if let Some(parent) = parent {
        sections.control("SH", ["SEE ALSO"]);
        sections.text([bold(parent), roman("(1)")]);
    }
    sections.to_writer(&mut page)?;
    Ok(tidy(&String::from_utf8_lossy(&page)).into_bytes())
}

/// Returns the page in the form that `mandoc -T lint` accepts.
///
/// Input lines have at most 80 columns and no blanks at their ends. No paragraph between a text and
/// the possible values is empty.
fn tidy(page: &str) -> String {
    const MAX_LINE_LEN: usize = 80;
    let mut tidied = String::new();
    let mut is_paragraph = false;
    for line in page.lines() {
        let is_request = line.starts_with(['.', '\'']);
        if line.trim().is_empty() || (is_paragraph && matches!(line, ".br" | ".sp")) {
            continue;
        }
        is_paragraph = matches!(line, ".br" | ".sp");
        if is_request {
            tidied.push_str(line);
        } else {
            let mut column = 0;
            for word in line.split_whitespace() {
                if column > 0 && column + 1 + input_len(word) > MAX_LINE_LEN {
                    tidied.push('\n');
                    column = 0;
                } else if column > 0 {
                    tidied.push(' ');
                    column += 1;
                }
                // At the start of a line these begin a request.
                if column == 0 && word.starts_with(['.', '\'']) {
                    tidied.push_str("\\&");
                    column += 2;
                }
                tidied.push_str(word);
                column += input_len(word);
            }
        }
        tidied.push('\n');
    }
    tidied
}

/// Returns the length of a word as mandoc counts it: a letter outside ASCII becomes `\[u2026]`.
fn input_len(word: &str) -> usize {
    let lengths = word
        .chars()
        .map(|letter| if letter.is_ascii() { 1 } else { 8 });
    lengths.sum()
}

/// Exit statuses of every command.
const EXIT_STATUSES: [(&str, &str); 4] = [
    ("0", "The VM loads or converts, or the command succeeded."),
    ("1", "The VM is refused, or the compared inputs differ."),
    (
        "2",
        "Bad usage or bad input, or output that could not be written.",
    ),
    ("3", "Not enough information to decide."),
];

/// Returns the date of the pages, `2026-11-28`: that of `SOURCE_DATE_EPOCH`, so that a package can
/// be built twice with the same content, or the current date.
fn date() -> String {
    let epoch = env::var("SOURCE_DATE_EPOCH").ok();
    let seconds = epoch.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| now.as_secs())
    });
    format_date(seconds)
}

/// Returns the date of a time in seconds since 1970, in UTC.
fn format_date(seconds: u64) -> String {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // Years begin in March, so that a leap day is the last day of its year.
    const DAYS_FROM_YEAR_0: u64 = 719_468;
    let days = seconds / 86_400 + DAYS_FROM_YEAR_0;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_tidied() {
        let words = "word ".repeat(30);
        let tidied = tidy(&format!(".TP\n{words}\n.br\n\n.br\ntext .so\n"));
        assert!(
            tidied
                .lines()
                .all(|line| line.len() <= 80 && line == line.trim_end())
        );
        assert_eq!(tidied.matches("word").count(), 30);
        assert!(tidied.ends_with("word\n.br\ntext .so\n"), "{tidied}");
        let long = tidy(&format!("{} .so\n", "x".repeat(79)));
        assert!(long.ends_with("\n\\&.so\n"), "{long}");
    }

    #[test]
    fn dates_are_formatted() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_735_689_599, "2024-12-31"),
            (1_795_000_000, "2026-11-18"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(format_date(seconds), date);
        }
    }
}
