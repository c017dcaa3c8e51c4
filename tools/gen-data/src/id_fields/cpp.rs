//! Parsing of C source: removal of comments, and the arguments of macros.

/// Returns the source with each comment replaced by a space.
pub(super) fn strip_comments(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("/*") {
        let (before, comment) = rest.split_at(start);
        out.push_str(before);
        out.push(' ');
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}

/// Returns the text between `open` and its counterpart, where `text` begins after `open`.
pub(super) fn enclosed(text: &str, open: char, close: char) -> Option<&str> {
    let mut depth = 1_usize;
    for (index, character) in text.char_indices() {
        if character == open {
            depth += 1;
        } else if character == close {
            depth -= 1;
            if depth == 0 {
                return text.get(..index);
            }
        }
    }
    None
}

/// Returns the arguments of every use of a macro, each without surrounding space.
///
/// A name that only ends in `name` is another macro.
pub(super) fn macro_uses<'a>(source: &'a str, name: &str) -> Vec<Vec<&'a str>> {
    let open = format!("{name}(");
    let uses = source.match_indices(&open).filter_map(|(start, _)| {
        let is_whole = !source[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let arguments = enclosed(&source[start + open.len()..], '(', ')')?;
        is_whole.then(|| split_arguments(arguments))
    });
    uses.collect()
}

/// Splits arguments at the commas that are not within parentheses.
fn split_arguments(arguments: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let parts = arguments.split(|character: char| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    });
    parts.map(str::trim).collect()
}
