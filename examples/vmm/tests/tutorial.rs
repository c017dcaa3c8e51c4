//! docs/vmm-tutorial.md shows pieces of this crate: each must be in its source, but for where lines break.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|suffix| suffix == "rs") {
            found.push(path);
        }
    }
}

fn strip_whitespace(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_tutorial_shows_what_is_there() {
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
        let squeezed = strip_whitespace(piece);
        let is_there = sources.iter().any(|source| source.contains(&squeezed));
        assert!(is_there, "not in any source:\n{piece}");
        pieces += 1;
    }
    assert!(pieces >= 6, "{pieces} pieces");
}
