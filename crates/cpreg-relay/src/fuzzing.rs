//! Parsers that no program outside calls, for the fuzz targets of the repository.

use crate::return_path_parser::ReturnPathParser;

/// Returns what the destination's SHUT says in these pieces of a return path, if it came, and
/// whether a message ends where they end.
pub fn parse_return_path<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Option<u32>, bool) {
    let mut answers = ReturnPathParser::default();
    for piece in pieces {
        answers.feed(piece);
    }
    (answers.shut(), answers.is_at_message_boundary())
}
