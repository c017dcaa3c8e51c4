//! Limit of [`MAX_FILE_LINES`] lines for every file.

use std::path::PathBuf;

use crate::exceptions::{GENERATED_FILES, LONG_FILES};
use crate::result::{Finding, Result};
use crate::workspace::Workspace;

/// Maximum number of lines of a file.
const MAX_FILE_LINES: usize = 600;

/// Finds the Rust files that are too long, and unnecessary exceptions.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut lengths = Vec::new();
    for path in workspace.rust_files()? {
        let text = workspace.read_text(&path)?;
        lengths.push((path, text.lines().count()));
    }
    Ok(findings(&lengths, GENERATED_FILES, LONG_FILES))
}

fn findings(
    lengths: &[(PathBuf, usize)],
    generated: &[(&str, &str)],
    long: &[(&str, &str)],
) -> Vec<Finding> {
    let is_listed = |path: &PathBuf| {
        let mut listed = generated.iter().chain(long);
        listed.any(|(file, _)| path.as_os_str() == *file)
    };
    let mut findings: Vec<Finding> = lengths
        .iter()
        .filter(|(path, lines)| *lines > MAX_FILE_LINES && !is_listed(path))
        .map(|(path, lines)| {
            format!(
                "{}: {lines} lines, more than {MAX_FILE_LINES}",
                path.display()
            )
        })
        .collect();
    for (file, _) in generated {
        if !lengths.iter().any(|(path, _)| path.as_os_str() == *file) {
            findings.push(format!("{file}: excepted as generated, and no such file"));
        }
    }
    for (file, _) in long {
        let is_long =
            |(path, lines): &(PathBuf, usize)| path.as_os_str() == *file && *lines > MAX_FILE_LINES;
        if !lengths.iter().any(is_long) {
            findings.push(format!("{file}: excepted as long, and no such file is"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERATED: &[(&str, &str)] = &[("table.rs", "generated")];
    const LONG: &[(&str, &str)] = &[("long.rs", "one table")];

    fn findings_of(files: &[(&str, usize)]) -> Vec<Finding> {
        let lengths: Vec<_> = files
            .iter()
            .map(|(path, lines)| (PathBuf::from(path), *lines))
            .collect();
        findings(&lengths, GENERATED, LONG)
    }

    #[test]
    fn long_files_are_found_unless_excepted() {
        let files = [("table.rs", 5000), ("long.rs", 601), ("a.rs", 600)];
        assert!(findings_of(&files).is_empty());
        let files = [("table.rs", 5000), ("long.rs", 601), ("a/long.rs", 601)];
        assert_eq!(findings_of(&files), ["a/long.rs: 601 lines, more than 600"]);
    }

    #[test]
    fn exceptions_that_no_file_needs_are_found() {
        let expected = [
            "table.rs: excepted as generated, and no such file",
            "long.rs: excepted as long, and no such file is",
        ];
        assert_eq!(findings_of(&[("long.rs", 600)]), expected);
    }
}
