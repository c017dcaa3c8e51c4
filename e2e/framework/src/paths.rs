//! Folders: the repository, and the one for everything that is fetched or made.

use std::env;
use std::path::{Path, PathBuf};

/// Returns the root of the repository.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Returns the folder for everything that the tests fetch and make: `CPREG_LAB`, or `target/lab`.
pub fn artifacts_dir() -> PathBuf {
    env::var_os("CPREG_LAB").map_or_else(|| repository().join("target/lab"), PathBuf::from)
}
