//! Parsers that no program outside calls, for the fuzz targets of the repository.

use crate::return_path_parser::Answers;

/// Returns what the destination's SHUT says in these pieces of a return path, if it came, and
/// whether a message ends where they end.
pub fn return_path<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Option<u32>, bool) {
    let mut answers = Answers::default();
    for piece in pieces {
        answers.go_over(piece);
    }
    (answers.shut(), answers.is_between())
}
