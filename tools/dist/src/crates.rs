//! The packages of the published crates. Cargo builds each from its own files before it is copied.

use std::fs;
use std::path::Path;

use crate::project::{Project, Result, cargo, run};

/// Packs and builds all published crates.
///
/// # Errors
/// Returns an error if a crate cannot be packed or built, or a file cannot be copied.
pub(crate) fn pack(project: &Project, output: &Path) -> Result<()> {
    let mut command = cargo(&project.root);
    command.args(["package", "--workspace", "--locked", "--quiet"]);
    for name in &project.unpublished {
        command.args(["--exclude", name]);
    }
    run(&mut command)?;
    for name in &project.published {
        let file = format!("{name}-{}.crate", project.version);
        let packed = project.target.join("package").join(&file);
        fs::copy(&packed, output.join(&file))
            .map_err(|error| format!("{}: {error}", packed.display()))?;
    }
    Ok(())
}
