//! Comments of at most [`MAX_COLUMNS`] columns, and doc comments that begin as
//! `CONTRIBUTING.md` asks.
//!
//! The doc comment of a function begins with a verb, that of a type or field with a noun. After a
//! pronoun or an interrogative a reader learns only later what the sentence is about.

use std::path::Path;

use crate::result::{Finding, Result};
use crate::workspace::Workspace;

/// Maximum number of columns of a comment line. A line with a URL may have more.
const MAX_COLUMNS: usize = 100;

/// Words that no doc comment begins with.
const REJECTED_BEGINNINGS: &[&str] = &[
    "As", "How", "If", "It", "That", "This", "Those", "What", "Whatever", "When", "Where",
    "Whether", "Which", "Who", "Whose",
];

/// Phrases that no doc comment begins with.
const REJECTED_PHRASES: &[&str] = &["So many "];

/// Finds wide comment lines and doc comments with a rejected beginning.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in workspace.rust_files()? {
        let text = workspace.read_text(&path)?;
        findings.extend(check_text(&path, &text));
    }
    Ok(findings)
}

fn check_text(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    // This also takes lines of a string literal for comments if they begin like one.
    let mut previous = Comment::None;
    for (index, line) in text.lines().enumerate() {
        let location = format!("{}:{}", path.display(), index + 1);
        let trimmed = line.trim_start();
        let (comment, content) = Comment::parse(trimmed);
        let columns = line.chars().count();
        if comment != Comment::None && columns > MAX_COLUMNS && !line.contains("://") {
            findings.push(format!(
                "{location}: a comment of {columns} columns, more than {MAX_COLUMNS}"
            ));
        }
        if comment.is_doc() && comment != previous && is_rejected(content) {
            findings.push(format!(
                "{location}: a doc comment begins with a verb or a noun, not with: {content}"
            ));
        }
        previous = comment;
    }
    findings
}

fn is_rejected(content: &str) -> bool {
    let word = content
        .split(|character: char| !character.is_alphanumeric())
        .next();
    word.is_some_and(|word| REJECTED_BEGINNINGS.contains(&word))
        || REJECTED_PHRASES
            .iter()
            .any(|phrase| content.starts_with(phrase))
}

/// Kind of comment that a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comment {
    None,
    Plain,
    /// `///`: of the next item.
    Outer,
    /// `//!`: of the enclosing module.
    Inner,
}

impl Comment {
    fn parse(line: &str) -> (Self, &str) {
        let Some(rest) = line.strip_prefix("//") else {
            return (Self::None, "");
        };
        let (comment, content) = match rest.as_bytes().first() {
            Some(b'/') if !rest.starts_with("//") => (Self::Outer, &rest[1..]),
            Some(b'!') => (Self::Inner, &rest[1..]),
            _ => (Self::Plain, rest),
        };
        (comment, content.trim_start())
    }

    fn is_doc(self) -> bool {
        matches!(self, Self::Outer | Self::Inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings_of(text: &str) -> Vec<Finding> {
        check_text(Path::new("a.rs"), text)
    }

    #[test]
    fn the_first_line_of_a_doc_comment_decides() {
        let text = "/// Returns the limit.\n/// What is more is cut.\nfn limit() {}\n";
        assert!(findings_of(text).is_empty());
        let text = "//! Module.\n\n    /// What is cut.\n    fn cut() {}\n";
        let expected =
            ["a.rs:3: a doc comment begins with a verb or a noun, not with: What is cut."];
        assert_eq!(findings_of(text), expected);
        assert_eq!(findings_of("/// So many bytes.\n").len(), 1);
        assert!(findings_of("/// Iterator.\n// What follows is no doc comment.\n").is_empty());
    }

    #[test]
    fn wide_comments_are_found_and_urls_are_not() {
        let wide = format!("// {}\n", "a".repeat(98));
        assert_eq!(
            findings_of(&wide),
            ["a.rs:1: a comment of 101 columns, more than 100"]
        );
        assert!(findings_of(&format!("// https://{}\n", "a".repeat(98))).is_empty());
        assert!(findings_of(&format!("// {}\n", "ä".repeat(97))).is_empty());
    }
}
