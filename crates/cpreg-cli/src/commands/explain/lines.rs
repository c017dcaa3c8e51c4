//! `cpreg explain LINE…`, `--file LOG`, `-`: what error lines of a VMM mean.
//!
//! A log is read line by line and never held as a whole; of what it says, [`Failures`] keeps what is bounded.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use cpreg_explain::pattern::{LONGEST_LINE, cut};
use cpreg_explain::{Failures, Said, explain, qemu, snapshot};
use cpreg_report::explain::lines::model::{NotUnderstood, Report};
use cpreg_report::explain::lines::{Explained, text};

use crate::arguments::{self, Format};
use crate::failure::{Failure, Status};
use crate::printer::{Printer, print_json};

/// Different lines that are listed as not understood.
const MOST_NOT_UNDERSTOOD: usize = 20;
/// Bytes of such a line that are listed.
const LONGEST_LISTED: usize = 2048;

pub(crate) fn run(
    arguments: &arguments::Explain,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let mut reader = Reader::default();
    match (&arguments.file, arguments.what.as_slice()) {
        (Some(path), _) if path == Path::new("-") => {
            reader.log(io::stdin().lock(), Path::new("standard input"))?;
        }
        (Some(path), _) => {
            let file = File::open(path).map_err(|error| Failure::io("open", path, error))?;
            reader.log(BufReader::new(file), path)?;
        }
        (None, [only]) if only == "-" => {
            reader.log(io::stdin().lock(), Path::new("standard input"))?;
        }
        // A line that was pasted without quotes.
        (None, words) if words.len() > 2 && words.iter().all(|word| !word.contains(' ')) => {
            reader.line(&words.join(" "));
        }
        (None, lines) => {
            for line in lines.iter().flat_map(|line| line.lines()) {
                reader.line(line);
            }
        }
    }
    let explained = reader.finish();
    match arguments.format {
        Format::Text => text::print(printer, &explained),
        Format::Json => print_json(printer, &Report::from(&explained))?,
    }
    Ok(if explained.failures.is_empty() {
        Status::Unknown
    } else {
        Status::Done
    })
}

/// Whether a line of any program is understood.
pub(super) fn says_something(line: &str) -> bool {
    !said(line).is_empty()
}

/// What a line of any program says.
fn said(line: &str) -> Vec<Said> {
    let mut said = qemu::read(line);
    said.extend(snapshot::read(line));
    said
}

#[derive(Default)]
struct Reader {
    is_log: bool,
    failures: Failures,
    not_understood: Vec<NotUnderstood>,
    further_not_understood: usize,
    skipped: usize,
    cut: usize,
}

impl Reader {
    /// A log, in which most lines are about other things.
    fn log(&mut self, mut log: impl BufRead, path: &Path) -> Result<(), Failure> {
        self.is_log = true;
        let failed = |error| Failure::io("read", path, error);
        let mut line = Vec::new();
        loop {
            line.clear();
            let most = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
            let length = log
                .by_ref()
                .take(most)
                .read_until(b'\n', &mut line)
                .map_err(failed)?;
            if length == 0 {
                return Ok(());
            }
            if length == LONGEST_LINE && line.last() != Some(&b'\n') {
                self.cut += 1;
                skip_line(&mut log).map_err(failed)?;
            }
            self.line(&String::from_utf8_lossy(&line));
        }
    }

    fn line(&mut self, line: &str) {
        let line = line.trim();
        let said = said(line);
        if !said.is_empty() {
            self.failures.add(line, said);
        } else if line.is_empty() {
            // Between two lines of the command line there is nothing.
        } else if !self.is_log
            || qemu::looks_like_an_error(line)
            || snapshot::looks_like_an_error(line)
        {
            self.not_understood(line);
        } else {
            self.skipped += 1;
        }
    }

    fn not_understood(&mut self, line: &str) {
        let line = cut(line, LONGEST_LISTED);
        let same = self
            .not_understood
            .iter()
            .position(|other| differ_in_numbers_only(line, &other.line));
        if let Some(same) = same {
            self.not_understood[same].times += 1;
        } else if self.not_understood.len() < MOST_NOT_UNDERSTOOD {
            self.not_understood.push(NotUnderstood {
                line: line.to_owned(),
                times: 1,
            });
        } else {
            self.further_not_understood += 1;
        }
    }

    fn finish(self) -> Explained {
        let (failures, further) = self.failures.finish();
        Explained {
            failures: failures
                .into_iter()
                .map(|failure| (explain(&failure), failure))
                .collect(),
            further,
            not_understood: self.not_understood,
            further_not_understood: self.further_not_understood,
            is_log: self.is_log,
            skipped: self.skipped,
            cut: self.cut,
        }
    }
}

/// The same line at another time, of another process, is the same line.
fn differ_in_numbers_only(one: &str, other: &str) -> bool {
    let words = |line: &str| -> String {
        line.chars()
            .filter(|character| !character.is_ascii_digit())
            .collect()
    };
    words(one) == words(other)
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
