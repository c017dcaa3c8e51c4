//! Form and place of a command's error: text for people on standard error and, with
//! `--format json`, a document in the place of the report.

use std::ffi::{OsStr, OsString};

use cpreg_report::failure::ErrorReport;
use cpreg_report::json;
use cpreg_report::names::FailureKind;

use crate::arguments::Format;
use crate::failure::Failure;
use crate::printer::{self, Printer};

/// Form and place of a command's error.
///
/// They follow from the words of the command line, because clap may reject it before it is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorOutput {
    format: Format,
    /// `true` if standard output carries a stream, so that reports go to standard error.
    is_stdout_stream: bool,
}

impl ErrorOutput {
    /// Returns the form and place for the words after `cpreg`.
    pub(crate) fn from_words(words: impl Iterator<Item = OsString>) -> Self {
        // The words after `--` are of another program.
        let words: Vec<OsString> = words.take_while(|word| word != "--").collect();
        let formats = words.windows(2).filter(|pair| pair[0] == "--format");
        let is_json = formats.clone().any(|pair| pair[1] == "json")
            || words.iter().any(|word| word == "--format=json");
        let is_stdio = |word: &OsString| {
            let text = word.to_str();
            text.is_some_and(|text| text == "stdio:" || text.ends_with("=stdio:"))
        };
        let is_output =
            |pair: &[OsString]| (pair[0] == "-o" || pair[0] == "--output") && pair[1] == "-";
        let is_converted = words.windows(2).any(is_output)
            || words
                .iter()
                .any(|word| word == "-o-" || word == "-o=-" || word == "--output=-");
        let command = command_word(&words);
        Self {
            format: if is_json { Format::Json } else { Format::Text },
            is_stdout_stream: command == Some(OsStr::new("filter"))
                || (command == Some(OsStr::new("convert")) && is_converted)
                || words.iter().any(is_stdio),
        }
    }

    /// Prints the error of a command.
    pub(crate) fn print(self, failure: &Failure) {
        if self.format == Format::Text || !self.is_stdout_stream {
            printer::print_failure(failure);
        }
        self.print_document(failure);
    }

    /// Prints the document of an error whose text is printed, if the user wants JSON.
    pub(crate) fn print_document(self, failure: &Failure) {
        if self.format == Format::Text {
            return;
        }
        let mut printer = Printer::default();
        if self.is_stdout_stream {
            printer.report_to_stderr();
        }
        if let Ok(document) = json::document(&ErrorReport::from(failure)) {
            printer.json(&document);
        }
        // The text of the error is printed. A further error can be reported nowhere.
        let _ = printer.finish();
    }

    /// Returns `true` if clap's message is printed as text.
    pub(crate) fn has_text(self) -> bool {
        self.format == Format::Text || !self.is_stdout_stream
    }
}

/// Returns the name of the command: the first word that is neither an option for all commands nor
/// its value.
fn command_word(words: &[OsString]) -> Option<&OsStr> {
    let mut words = words.iter();
    loop {
        let word = words.next()?;
        if word == "--color" {
            words.next();
        } else if !word.to_string_lossy().starts_with('-') {
            return Some(word);
        }
    }
}

/// Returns the error for a command line that clap rejects with this message.
pub(crate) fn usage_failure(message: &str) -> Failure {
    let mut paragraphs = message.split("\n\n").map(|paragraph| {
        let lines = paragraph.lines().map(str::trim);
        lines.collect::<Vec<_>>().join(" ").trim().to_owned()
    });
    let first = paragraphs.next().unwrap_or_default();
    let text = first.strip_prefix("error: ").unwrap_or(&first);
    let hints = paragraphs.filter(|hint| !hint.is_empty());
    hints.fold(
        Failure::new(text).with_kind(FailureKind::USAGE),
        |failure, hint| failure.with_hint(hint.strip_prefix("tip: ").unwrap_or(&hint)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(words: &str) -> (Format, bool) {
        let words = words.split(' ').map(OsString::from);
        let output = ErrorOutput::from_words(words);
        (output.format, output.is_stdout_stream)
    }

    #[test]
    fn form_and_place_follow_from_the_words() {
        for (words, format, is_stdout_stream) in [
            ("check a b", Format::Text, false),
            ("check a b --format json", Format::Json, false),
            ("check a b --format=json --no-such", Format::Json, false),
            ("rehearse a -- qemu --format json", Format::Text, false),
            ("filter --format json", Format::Json, true),
            ("--color never filter --format json", Format::Json, true),
            ("check filter b --format json", Format::Json, false),
            ("convert a b -o - --format json", Format::Json, true),
            ("convert a b --output=- --format json", Format::Json, true),
            ("convert - b -o c --format json", Format::Json, false),
            ("relay --listen stdio: --format json", Format::Json, true),
            ("relay --connect=stdio:", Format::Text, true),
            ("relay --log-format json", Format::Text, false),
        ] {
            assert_eq!(output(words), (format, is_stdout_stream), "{words}");
        }
    }

    #[test]
    fn a_message_of_clap_is_split() {
        let failure = usage_failure(
            "error: unexpected argument '--registers' found\n\n  tip: a similar argument exists: \
             '--register'\n\nUsage: cpreg show <FILE>\n\nFor more information, try '--help'.\n",
        );
        assert_eq!(
            failure.to_string(),
            "unexpected argument '--registers' found"
        );
        assert_eq!(
            failure.hints()[0],
            "a similar argument exists: '--register'"
        );
        let failure = usage_failure(
            "error: the following required arguments were not provided:\n  <DESTINATION>\n\nUsage:",
        );
        let message = "the following required arguments were not provided: <DESTINATION>";
        assert_eq!(failure.to_string(), message);
    }
}
