//! Checks that the pieces of code in docs/vmm-tutorial.md occur in the source of this crate, except
//! for line breaks.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|suffix| suffix == "rs") {
            files.push(path);
        }
    }
}

fn strip_whitespace(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn tutorial_quotes_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests"), &mut files);
    let sources: Vec<_> = files
        .iter()
        .map(|file| strip_whitespace(&fs::read_to_string(file).expect("a source")))
        .collect();
    let tutorial = root.join("../../docs/vmm-tutorial.md");
    let text = fs::read_to_string(tutorial).expect("the tutorial");
    let mut pieces = 0;
    for piece in text.split("```rust\n").skip(1) {
        let (piece, _) = piece.split_once("```").expect("its end");
        let normalized = strip_whitespace(piece);
        let is_quoted = sources.iter().any(|source| source.contains(&normalized));
        assert!(is_quoted, "no source contains:\n{piece}");
        pieces += 1;
    }
    assert!(pieces >= 6, "{pieces} pieces");
}
