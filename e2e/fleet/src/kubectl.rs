//! [`install`]: kubectl of Debian, in a folder below `target/`.

use std::fs;
use std::path::PathBuf;

use e2e_framework::Result;
use e2e_framework::debian::{self, Archive};
use e2e_framework::paths::repository;

/// Suite with a kubectl that has a stable `apply --server-side`.
const SUITE: &str = "trixie";
const PACKAGE: &str = "kubectl";

/// Fetches kubectl, unless an earlier run has done so, and returns the folder with the program.
///
/// # Errors
/// Returns an error if the package cannot be fetched or unpacked.
pub(crate) fn install() -> Result<PathBuf> {
    let folder = repository().join("target/tools/fleet-kubectl");
    let programs = folder.join("usr/bin");
    if programs.join("kubectl").is_file() {
        return Ok(programs);
    }
    let mirror = debian::ensure_mirror()?;
    let lists = folder.with_extension("lists");
    fs::create_dir_all(&lists)?;
    let archive = Archive::open(&lists, &mirror, SUITE, &debian::native_architecture()?)?;
    let partial = folder.with_extension("partial");
    debian::remove(&partial)?;
    debian::unpack(&archive.download(&[PACKAGE])?, &partial)?;
    if !partial.join("usr/bin/kubectl").is_file() {
        return Err(format!("{PACKAGE} of {SUITE} lacks kubectl").into());
    }
    debian::remove(&folder)?;
    fs::rename(partial, folder)?;
    debian::remove(&lists)?;
    Ok(programs)
}
