//! `cpreg explain LINE…`, `--file LOG`, `-`: explains error lines of a VMM.
//!
//! The reader holds one line of a log at a time. [`LoadFailures`] keeps a bounded number of
//! statements.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use cpreg_explain::pattern::{MAX_LINE_LEN, truncate};
use cpreg_explain::{
    LoadFailures, Statement, Symptom, explain, is_setting_only, may_matter, parse_line, qemu,
    snapshot,
};
use cpreg_report::explain::lines::model::{ExplainLinesReport, UnknownLine};
use cpreg_report::explain::lines::{LinesExplanation, text};

use crate::arguments::{self, Format};
use crate::failure::{Failure, Status};
use crate::printer::{Printer, print_json};

/// Maximum number of different unknown lines in the report.
const MAX_UNKNOWN_LINES: usize = 20;
/// Maximum length of the first half of a broken line, in bytes.
const MAX_FRAGMENT_LEN: usize = 4096;
/// Maximum length of an unknown line in the report, in bytes.
const MAX_LISTED_LINE_LEN: usize = 2048;

pub(crate) fn run(
    arguments: &arguments::Explain,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let mut reader = LineReader::default();
    match (&arguments.file, arguments.query.as_slice()) {
        (Some(path), _) if path == Path::new("-") => {
            reader.read_log(io::stdin().lock(), Path::new("standard input"))?;
        }
        (Some(path), _) => {
            let file = File::open(path).map_err(|error| Failure::io("open", path, error))?;
            reader.read_log(BufReader::new(file), path)?;
        }
        (None, [word]) if word == "-" => {
            reader.read_log(io::stdin().lock(), Path::new("standard input"))?;
        }
        // The words are one line that the user pasted without quotes.
        (None, words) if words.len() > 2 && words.iter().all(|word| !word.contains(' ')) => {
            reader.read_line(&words.join(" "));
        }
        (None, lines) => {
            for line in lines.iter().flat_map(|line| line.lines()) {
                reader.read_line(line);
            }
        }
    }
    let explanation = reader.finish();
    match arguments.format {
        Format::Text => text::print(printer, &explanation),
        Format::Json => print_json(printer, &ExplainLinesReport::from(&explanation))?,
    }
    Ok(if explanation.failures.is_empty() {
        Status::Unknown
    } else {
        Status::Success
    })
}

/// Returns `true` if cpreg knows the line as a message of any program.
pub(super) fn is_known_line(line: &str) -> bool {
    !parse_line(line).is_empty()
}

#[derive(Default)]
struct LineReader {
    is_log: bool,
    failures: LoadFailures,
    /// Unknown line that may be the first half of a broken line.
    fragment: Option<String>,
    unknown_lines: Vec<UnknownLine>,
    further_unknown_lines: usize,
    skipped_lines: usize,
    truncated_lines: usize,
}

impl LineReader {
    /// Reads a log, in which most lines are not errors.
    fn read_log(&mut self, mut log: impl BufRead, path: &Path) -> Result<(), Failure> {
        self.is_log = true;
        let read_failure = |error| Failure::io("read", path, error);
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = u64::try_from(MAX_LINE_LEN).unwrap_or(u64::MAX);
            let length = log
                .by_ref()
                .take(limit)
                .read_until(b'\n', &mut line)
                .map_err(read_failure)?;
            if length == 0 {
                return Ok(());
            }
            if length == MAX_LINE_LEN && line.last() != Some(&b'\n') {
                self.truncated_lines += 1;
                skip_line(&mut log).map_err(read_failure)?;
            }
            if self.fragment.is_none() && !may_matter(&line) {
                let is_blank = line.iter().all(u8::is_ascii_whitespace);
                self.skipped_lines += usize::from(!is_blank);
            } else {
                self.read_line(&String::from_utf8_lossy(&line));
            }
        }
    }

    fn read_line(&mut self, line: &str) {
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        let statements = parse_line(line);
        let is_mention =
            |statement: &Statement| matches!(statement.symptom, Symptom::RegisterMention { .. });
        // KVM prints a message and the register on two lines.
        let is_second_half = !statements.is_empty() && statements.iter().all(is_mention);
        let may_complete = is_second_half
            || is_setting_only(&statements) && (!self.is_log || is_continuation(line));
        if may_complete && self.complete_fragment(line, &statements) {
            return;
        }
        self.close_fragment();
        if !is_setting_only(&statements) {
            self.failures.add(line, statements);
        } else if self.is_log && !may_matter(line.as_bytes()) {
            self.skipped_lines += 1;
        } else if statements.is_empty() {
            self.fragment = Some(truncate(line, MAX_FRAGMENT_LEN).to_owned());
        } else {
            self.failures.add(line, statements);
            self.skipped_lines += 1;
        }
    }

    /// Joins the line to the line before it, if the two are one line that was broken. Returns
    /// `true` if the joined line states more than this line alone, which states `known`.
    fn complete_fragment(&mut self, line: &str, known: &[Statement]) -> bool {
        let Some(fragment) = &self.fragment else {
            return false;
        };
        for separator in ["", " "] {
            let joined = format!("{fragment}{separator}{line}");
            let statements = parse_line(&joined);
            if !is_setting_only(&statements) && statements != known {
                self.failures.add(&joined, statements);
                self.fragment = None;
                return true;
            }
        }
        false
    }

    /// Counts or reports the unknown line that no further line completed.
    fn close_fragment(&mut self) {
        let Some(line) = self.fragment.take() else {
            return;
        };
        if !self.is_log || qemu::looks_like_an_error(&line) || snapshot::looks_like_an_error(&line)
        {
            self.add_unknown_line(&line);
        } else {
            self.skipped_lines += 1;
        }
    }

    fn add_unknown_line(&mut self, line: &str) {
        let line = truncate(line, MAX_LISTED_LINE_LEN);
        let same = self
            .unknown_lines
            .iter()
            .position(|other| is_same_except_numbers(line, &other.line));
        if let Some(same) = same {
            self.unknown_lines[same].times += 1;
        } else if self.unknown_lines.len() < MAX_UNKNOWN_LINES {
            self.unknown_lines.push(UnknownLine {
                line: line.to_owned(),
                times: 1,
            });
        } else {
            self.further_unknown_lines += 1;
        }
    }

    fn finish(mut self) -> LinesExplanation {
        self.close_fragment();
        let (failures, omitted_failures) = self.failures.finish();
        LinesExplanation {
            failures: failures
                .into_iter()
                .map(|failure| (explain(&failure), failure))
                .collect(),
            omitted_failures,
            unknown_lines: self.unknown_lines,
            omitted_unknown_lines: self.further_unknown_lines,
            is_log: self.is_log,
            skipped_lines: self.skipped_lines,
            truncated_lines: self.truncated_lines,
        }
    }
}

/// Returns `true` if a line of a log has no time or program in front, so that it may be the second
/// half of a broken line.
fn is_continuation(line: &str) -> bool {
    line.starts_with(|first: char| first.is_ascii_lowercase() || "_(<='`".contains(first))
}

/// Returns `true` if two lines differ only in their digits, such as times and process ids.
fn is_same_except_numbers(a: &str, b: &str) -> bool {
    let without_digits = |line: &str| -> String {
        line.chars()
            .filter(|character| !character.is_ascii_digit())
            .collect()
    };
    without_digits(a) == without_digits(b)
}

fn skip_line(log: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = log.fill_buf()?;
        let (used, ends) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        log.consume(used);
        if ends {
            return Ok(());
        }
    }
}
