//! Lines of a given width: prose, and lists with commas between the items.

use std::borrow::Cow;

use textwrap::core::{Fragment, Word};
use textwrap::wrap_algorithms::wrap_first_fit;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// Wraps prose at spaces to lines of `width` columns. A longer word gets a line of its own.
///
/// Text between backticks is one word, so that a command can be copied.
///
/// Line ends of the text become spaces, so that text in an exported comment cannot end the
/// comment.
pub(crate) fn prose(text: &str, width: usize) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    columns(&words.join(" "), width)
}

/// Wraps a line like [`prose`], and keeps several spaces between two columns of it.
pub(crate) fn columns(text: &str, width: usize) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let options = Options::new(width)
        .break_words(false)
        .word_separator(WordSeparator::Custom(quoted_words))
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    let lines = textwrap::wrap(text, options);
    lines.into_iter().map(Cow::into_owned).collect()
}

/// Divides text at the spaces outside of backticks.
fn quoted_words(text: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    let mut rest = text;
    Box::new(std::iter::from_fn(move || {
        let mut is_quoted = false;
        let end = rest.char_indices().find(|(_, character)| {
            is_quoted ^= *character == '`';
            *character == ' ' && !is_quoted
        });
        // A backtick without its partner quotes nothing.
        let end = match end {
            None if is_quoted => rest.find(' '),
            end => end.map(|(at, _)| at),
        };
        let spaces = |at: usize| rest[at..].len() - rest[at..].trim_start_matches(' ').len();
        let (word, others) = rest.split_at(end.map_or(rest.len(), |at| at + spaces(at)));
        rest = others;
        (!word.is_empty()).then(|| Word::from(word))
    }))
}

/// An item of a list.
#[derive(Debug)]
pub(crate) struct Item {
    /// Text of the item, with its styles.
    pub(crate) text: String,
    /// Columns of the item, without its styles.
    pub(crate) width: usize,
}

/// Separator of the items of a list. A line ends with the comma, without the space.
const SEPARATOR: &str = ", ";

impl Fragment for Item {
    #[expect(clippy::cast_precision_loss, reason = "no item is that wide")]
    fn width(&self) -> f64 {
        self.width as f64
    }

    /// Returns the width of [`SEPARATOR`].
    fn whitespace_width(&self) -> f64 {
        2.0
    }

    fn penalty_width(&self) -> f64 {
        0.0
    }
}

/// Joins items with commas, and wraps the list.
///
/// A line has at most `width` columns, without the comma at its end. A longer item gets a line of
/// its own.
pub(crate) fn list(items: &[Item], width: usize) -> Vec<String> {
    if items.is_empty() {
        return Vec::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "no line is that wide")]
    let lines = wrap_first_fit(items, &[width as f64]);
    let last = lines.len() - 1;
    let lines = lines.iter().enumerate().map(|(number, line)| {
        let texts: Vec<&str> = line.iter().map(|item| &*item.text).collect();
        let end = if number == last { "" } else { "," };
        format!("{}{end}", texts.join(SEPARATOR))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_lines_joined() {
        assert_eq!(prose("one two\nthree", 8), ["one two", "three"]);
        assert_eq!(prose("a-long-word b", 4), ["a-long-word", "b"]);
        assert!(prose(" \n", 4).is_empty());
    }

    #[test]
    fn commands_are_kept_whole() {
        assert_eq!(
            prose("run `a long command`, then `b`", 12),
            ["run", "`a long command`,", "then `b`"]
        );
        assert_eq!(prose("a ` b c d", 3), ["a `", "b c", "d"]);
        assert_eq!(columns("NAME  value `a b`", 11), ["NAME  value", "`a b`"]);
    }

    #[test]
    fn items_are_kept_whole() {
        let items = ["one 1", "two 2", "three 3"].map(|text| Item {
            text: text.to_owned(),
            width: text.len(),
        });
        assert_eq!(list(&items, 12), ["one 1, two 2,", "three 3"]);
        assert_eq!(list(&items, 11), ["one 1,", "two 2,", "three 3"]);
        assert_eq!(list(&items, 100), ["one 1, two 2, three 3"]);
        assert!(list(&[], 9).is_empty());
    }
}
