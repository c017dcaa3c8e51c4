//! The packages of the published crates. Cargo builds each from its own files before it is copied.

use std::fs;
use std::path::Path;

use crate::project::{Project, Result, run};

/// Packs all published crates, and builds each package if `is_verified`. Returns the names of the
/// files.
///
/// # Errors
/// Returns an error if a crate cannot be packed or built, or a file cannot be copied.
pub(crate) fn pack(project: &Project, is_verified: bool, output: &Path) -> Result<Vec<String>> {
    let mut command = project.cargo();
    command.args(["package", "--workspace", "--locked", "--quiet"]);
    if !is_verified {
        command.arg("--no-verify");
    }
    for name in &project.unpublished {
        command.args(["--exclude", name]);
    }
    run(&mut command)?;
    let mut files = Vec::new();
    for name in &project.published {
        let file = format!("{name}-{}.crate", project.version);
        let packed = project.target.join("package").join(&file);
        fs::copy(&packed, output.join(&file))
            .map_err(|error| format!("{}: {error}", packed.display()))?;
        files.push(file);
    }
    Ok(files)
}
