//! Parsers that only the fuzz targets of the repository call from outside.

use crate::return_path_parser::ReturnPathParser;

/// Parses a return path given in pieces. Returns the value of the destination's SHUT, if present,
/// and `true` if the last piece ends at a message boundary.
pub fn parse_return_path<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Option<u32>, bool) {
    let mut parser = ReturnPathParser::default();
    for piece in pieces {
        parser.feed(piece);
    }
    (parser.shut(), parser.is_at_message_boundary())
}
