//! The same release, made again from a clone in another folder.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use clap::ValueEnum as _;
use e2e_framework::tool;

use super::files::Files;
use crate::architecture::Architecture;
use crate::checksums;
use crate::project::{Project, Result, read_output};
use crate::release::{Part, Release};

/// Makes the parts of the release again, and compares the checksums.
pub(super) fn check(project: &Project, files: &Files) -> Result<String> {
    let mut git = Command::new("git");
    git.args(["status", "--porcelain", "--untracked-files=no"]);
    if !read_output(git.current_dir(&project.root))?.is_empty() {
        return Err("uncommitted changes: the clone would have other sources".into());
    }
    // A path of another length.
    let folder = tempfile::Builder::new()
        .prefix("another-folder-for-a-second-build-")
        .tempdir_in(&project.target)?;
    let root = folder.path().join("sources");
    tool::run(
        Command::new("git")
            .args(["clone", "--quiet", "--shared"])
            .arg(&project.root)
            .arg(&root),
    )?;
    let clone = project.at(root);
    let release = Release {
        project: &clone,
        parts: parts(files),
        architectures: architectures(files),
        program: None,
        verifies_crates: false,
    };
    let output = clone.output();
    release.make(&output)?;
    let again = checksums::read(&output)?;
    let different = differences(&files.sums, &again);
    if !different.is_empty() {
        // The files of both builds are needed to find the reason.
        let kept = folder.keep();
        let (names, kept) = (different.join(", "), kept.display());
        return Err(format!("other bytes in {names}; the second build is in {kept}").into());
    }
    Ok(format!("  {} files", again.len()))
}

/// Returns the parts of which the release has files.
fn parts(files: &Files) -> Vec<Part> {
    let has = |part: &Part| files.sums.keys().any(|name| part.has_file(name));
    Part::value_variants().iter().copied().filter(has).collect()
}

/// Returns the architectures of which the release has files.
fn architectures(files: &Files) -> Vec<Architecture> {
    let has = |architecture: &Architecture| {
        let names = [architecture.name(), architecture.debian_name()];
        let mut files = files.sums.keys();
        files.any(|file| names.iter().any(|name| file.contains(name)))
    };
    let all = Architecture::value_variants().iter().copied();
    all.filter(has).collect()
}

/// Returns the names of files that differ, or that only one build has.
fn differences(first: &BTreeMap<String, String>, second: &BTreeMap<String, String>) -> Vec<String> {
    let names = first.keys().chain(second.keys()).collect::<BTreeSet<_>>();
    let different = names
        .into_iter()
        .filter(|name| first.get(*name) != second.get(*name));
    different.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(names: &[&str]) -> BTreeMap<String, String> {
        let entries = names
            .iter()
            .map(|name| ((*name).to_owned(), "00".to_owned()));
        entries.collect()
    }

    #[test]
    fn parts_and_architectures_are_those_of_the_files() {
        let names = [
            "cpreg-1-aarch64-linux",
            "cpreg_1-1_amd64.deb",
            "cpreg-cli-1.crate",
        ];
        let files = Files {
            folder: "x".into(),
            sums: sums(&names),
        };
        assert_eq!(parts(&files), [Part::Program, Part::Deb, Part::Crates]);
        assert_eq!(architectures(&files), Architecture::value_variants());
        let files = Files {
            folder: "x".into(),
            sums: sums(&names[..1]),
        };
        assert_eq!(architectures(&files), [Architecture::Aarch64]);
    }

    #[test]
    fn changed_and_missing_files_are_named() {
        let first = sums(&["a", "b", "c"]);
        let mut second = sums(&["b", "c", "d"]);
        assert_eq!(differences(&first, &first), [""; 0]);
        second.insert("c".to_owned(), "01".to_owned());
        assert_eq!(differences(&first, &second), ["a", "c", "d"]);
    }
}
