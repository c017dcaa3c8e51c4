//! Check against import circles between the files of a crate.
//!
//! One file uses another if a `use` or a path in it names an item that the other defines. A
//! re-exported name counts as a use of the file that defines it. The re-export itself does not
//! count, nor does the declaration of a module. Uses by tests and uses of [`GENERATED_FILES`] are
//! left out, and so are methods, because `value.method()` names no file.

mod edges;
mod graph;
mod resolve;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use crate::exceptions::GENERATED_FILES;
use crate::result::{Finding, Result};
use crate::workspace::Workspace;

/// Finds the circles of every library, command, example, benchmark and test of the workspace.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        for target in &package.targets {
            findings.extend(check_crate(&workspace.root, target, GENERATED_FILES)?);
        }
    }
    Ok(findings)
}

/// Finds the circles of the crate with the root `file`, and the paths that cannot be resolved.
/// Paths in findings are relative to `folder`.
fn check_crate(folder: &Path, file: &Path, excepted: &[(&str, &str)]) -> Result<Vec<Finding>> {
    let tree = tree::Tree::read(file)?;
    let uses = edges::collect(&tree);
    let paths: Vec<String> = tree
        .files
        .iter()
        .map(|file| {
            let path = file.path.strip_prefix(folder).unwrap_or(&file.path);
            path.display().to_string()
        })
        .collect();
    let is_excepted = |file: usize| excepted.iter().any(|(path, _)| *path == paths[file]);
    let mut findings: Vec<Finding> = uses
        .unresolved
        .iter()
        .map(|(file, path)| format!("{}: cannot resolve `{path}`", paths[*file]))
        .collect();
    let edges: BTreeMap<_, _> = uses
        .edges
        .iter()
        .filter(|((from, to), _)| !is_excepted(*from) && !is_excepted(*to))
        .collect();
    let pairs: BTreeSet<(usize, usize)> = edges.keys().map(|pair| **pair).collect();
    for circle in graph::cycles(tree.files.len(), &pairs) {
        let mut text = format!("a circle of {} files:", circle.len());
        for ((from, to), names) in &edges {
            if circle.contains(from) && circle.contains(to) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let names = names.join(", ");
                let _ = write!(text, "\n    {} uses {}: {names}", paths[*from], paths[*to]);
            }
        }
        findings.push(text);
    }
    Ok(findings)
}

#[cfg(test)]
mod tests;
