//! Advice after an interrupted edit in place.

use std::path::Path;

use cpreg_stream::{journal_path, pending_journal};

/// Returns the advice for a file that an edit in place left unfinished.
pub(super) fn recovery_hint(path: &Path) -> String {
    match pending_journal(path) {
        Some(_) => format!("{} recovers the original content", recovery_command(path)),
        None => format!(
            "the original content was in {}: without that journal this file is lost",
            journal_path(path).display()
        ),
    }
}

/// Returns the command that recovers an interrupted change. The command converts the VM for itself
/// as destination, which changes nothing else.
pub(super) fn recovery_command(path: &Path) -> String {
    let path = path.display();
    format!("`cpreg convert {path} {path} --in-place`")
}
