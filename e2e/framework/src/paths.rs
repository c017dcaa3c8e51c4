//! Folders: the repository, and the folder for artifacts.

use std::env;
use std::path::{Path, PathBuf};

/// Returns the root of the repository.
pub fn repository() -> &'static Path {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.ancestors().nth(2).unwrap_or(manifest_dir)
}

/// Returns the folder for everything that the tests fetch and build: `CPREG_LAB`, or `target/lab`.
pub fn artifacts_dir() -> PathBuf {
    env::var_os("CPREG_LAB").map_or_else(|| repository().join("target/lab"), PathBuf::from)
}
