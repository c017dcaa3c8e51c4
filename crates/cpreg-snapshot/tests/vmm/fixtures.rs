//! Recorded files, decompressed.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use lzma_rust2::XzReader;

/// Returns the folder of the recorded files.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vmm")
}

/// Returns the content of a recorded file, whose name ends in `.xz`.
pub(crate) fn read(path: &Path) -> Vec<u8> {
    let packed = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    XzReader::new(packed.as_slice(), true)
        .read_to_end(&mut bytes)
        .expect("a recorded file is valid xz");
    bytes
}

/// Returns the content of a recorded text.
pub(crate) fn read_text(path: &Path) -> String {
    String::from_utf8(read(path)).expect("a recorded text is UTF-8")
}

/// Returns the files of a folder whose names have this ending, ascending by name.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("the folder is readable").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    files.sort();
    files
}
