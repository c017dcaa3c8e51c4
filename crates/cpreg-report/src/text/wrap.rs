//! Lines of a given width: prose, and lists with commas between the items.

use std::borrow::Cow;

use textwrap::core::Fragment;
use textwrap::wrap_algorithms::wrap_first_fit;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// Wraps prose at spaces to lines of `width` columns. A longer word gets a line of its own.
///
/// Line ends of the text become spaces, so that text in an exported comment cannot end the
/// comment.
pub(crate) fn prose(text: &str, width: usize) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        return Vec::new();
    }
    let options = Options::new(width)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    let text = words.join(" ");
    let lines = textwrap::wrap(&text, options);
    lines.into_iter().map(Cow::into_owned).collect()
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
