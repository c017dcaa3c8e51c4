//! Phrases of a story, which no message, option, JSON member, log event or document has.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::Lit;

use crate::result::{Finding, Result};
use crate::workspace::Workspace;

/// Phrases that need to be translated back, in lower case.
const REJECTED_PHRASES: &[&str] = &[
    "all the same",
    "by now",
    "foretell",
    "foretold",
    "goes on",
    "has not got",
    "have not got",
    "is told",
    "it comes to",
    "likewise",
    "none of ours",
    "nothing tells",
    "so many",
    "stands in the way",
    "the way back",
    "turned away",
    "turned-away",
    "way-back",
    "went on",
    "went-on",
    "whereabouts",
];

/// File name extensions of documents and schemas.
const DOCUMENTS: &[&str] = &["md", "json", "toml"];

/// Finds the phrases in string literals of the crates and in documents.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in workspace.rust_files()? {
        let is_source = path.starts_with("crates") && path.iter().any(|part| part == "src");
        if is_source {
            let text = read(workspace, &path)?;
            let tokens: TokenStream = text
                .parse()
                .map_err(|error| format!("{}: {error}", path.display()))?;
            check_tokens(&path, tokens, &mut findings);
        }
    }
    for path in documents(workspace)? {
        check_document(&path, &read(workspace, &path)?, &mut findings);
    }
    Ok(findings)
}

fn read(workspace: &Workspace, path: &Path) -> Result<String> {
    fs::read_to_string(workspace.root.join(path))
        .map_err(|error| format!("cannot read {}: {error}", path.display()).into())
}

/// Lists the documents at the root and all of `docs`, by paths relative to the root.
fn documents(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut folders = vec![workspace.root.join("docs")];
    let mut files = Vec::new();
    let mut add = |path: PathBuf| {
        let is_document = path
            .extension()
            .is_some_and(|extension| DOCUMENTS.iter().any(|document| extension == *document));
        if is_document {
            files.push(
                path.strip_prefix(&workspace.root)
                    .unwrap_or(&path)
                    .to_owned(),
            );
        }
    };
    for entry in fs::read_dir(&workspace.root)? {
        let path = entry?.path();
        // The changelog has the old names beside the new ones.
        if path.is_file() && path.file_name().is_some_and(|name| name != "CHANGELOG.md") {
            add(path);
        }
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                add(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn check_document(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    for (index, line) in text.lines().enumerate() {
        let line = line.to_lowercase();
        for phrase in find_phrases(&line) {
            findings.push(format!("{}:{}: \"{phrase}\"", path.display(), index + 1));
        }
    }
}

fn check_tokens(path: &Path, tokens: TokenStream, findings: &mut Vec<Finding>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => check_tokens(path, group.stream(), findings),
            TokenTree::Literal(literal) => {
                let line = literal.span().start().line;
                // Doc comments are literals as well.
                if let Lit::Str(text) = Lit::new(literal) {
                    for phrase in find_phrases(&text.value().to_lowercase()) {
                        findings.push(format!("{}:{line}: \"{phrase}\"", path.display()));
                    }
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

/// Returns the rejected phrases in a text of lower case, as whole words.
fn find_phrases(text: &str) -> impl Iterator<Item = &'static str> {
    REJECTED_PHRASES.iter().copied().filter(move |phrase| {
        text.match_indices(phrase).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + phrase.len()..].chars().next();
            let is_letter = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
            !is_letter(before) && !is_letter(after)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_phrases_are_found_in_literals() {
        let mut findings = Vec::new();
        let code = "fn a() { b(\"the guest goes on\"); c(\"cargoes onward\"); } // goes on";
        check_tokens(
            Path::new("a.rs"),
            code.parse().expect("tokens"),
            &mut findings,
        );
        assert_eq!(findings, ["a.rs:1: \"goes on\""]);
    }

    #[test]
    fn documents_are_read_by_line() {
        let mut findings = Vec::new();
        check_document(
            Path::new("a.md"),
            "fine\nThe Way Back is shut.\n",
            &mut findings,
        );
        assert_eq!(findings, ["a.md:2: \"the way back\""]);
    }
}
