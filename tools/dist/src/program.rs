//! The static command for this machine's architecture.
//!
//! The C library is linked in, so the program runs on every Linux of the architecture. No path of
//! the building machine is in it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::project::{Project, Result, cargo, read_output, run};

/// Builds the program, and returns its path.
///
/// # Errors
/// Returns an error if it does not build.
pub(crate) fn build(project: &Project) -> Result<PathBuf> {
    let triple = host_triple(project)?;
    let mut command = cargo(&project.root);
    command.args(["build", "--release", "--locked", "--package", "cpreg-cli"]);
    // With a target, the flags apply to the program and not to build scripts.
    command.args(["--bin", "cpreg", "--target", &triple]);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags(project));
    command.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    run(&mut command)?;
    Ok(project.target.join(triple).join("release/cpreg"))
}

/// Copies the program into the folder of the release, under a name with version and architecture.
///
/// # Errors
/// Returns an error if a file cannot be read or written.
pub(crate) fn copy(project: &Project, program: &Path, output: &Path) -> Result<()> {
    let name = format!("cpreg-{}-{}-linux", project.version, env::consts::ARCH);
    fs::copy(program, output.join(name))?;
    Ok(())
}

/// Returns the compiler's flags, separated as cargo reads them.
fn flags(project: &Project) -> String {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=cpreg", project.root.display()),
    ];
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=cargo", home.display())));
    flags.join("\x1f")
}

/// Returns the name of this machine's target.
fn host_triple(project: &Project) -> Result<String> {
    let version = read_output(cargo(&project.root).args(["--version", "--verbose"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("cargo names no host")?.to_owned())
}
