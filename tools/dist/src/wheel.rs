//! The Python wheels: the command, and the module `cpreg` over its JSON documents.
//!
//! hatchling packs them from `packaging/python`. It takes a program that is already built, so the
//! wheel has the same program as all other packages. A build by maturin would be another one.

use std::path::Path;
use std::process::Command;

use wheels::Wheel;

use crate::architecture::Architecture;
use crate::program::Programs;
use crate::project::{Project, Result, read_output};

/// Program that packs wheels.
const HATCHLING: Wheel = Wheel {
    program: "hatchling",
    package: "hatchling",
    version: "1.33.0",
};

/// Writes the wheel, and returns its file name.
///
/// # Errors
/// Returns an error if hatchling cannot be installed, or fails.
pub(crate) fn make(project: &Project, programs: &Programs, output: &Path) -> Result<String> {
    let hatchling = HATCHLING.find_pinned(project.tools.parent().unwrap_or(&project.tools))?;
    let tag = tag(programs.architecture);
    let mut command = Command::new(hatchling);
    command.args(["build", "--target", "wheel", "--directory"]);
    command.arg(std::path::absolute(output)?);
    command.current_dir(project.root.join("packaging/python"));
    command.env("SOURCE_DATE_EPOCH", project.time.to_string());
    command.env(
        "CPREG_WHEEL_PROGRAM",
        std::path::absolute(&programs.command)?,
    );
    command.env("CPREG_WHEEL_VERSION", &project.version);
    command.env("CPREG_WHEEL_TAG", &tag);
    read_output(&mut command)?;
    Ok(format!("cpreg-{}-{tag}.whl", project.version))
}

/// Returns the tag of a static program: any Python 3 on any Linux of the architecture.
fn tag(architecture: Architecture) -> String {
    let name = architecture.name();
    format!("py3-none-manylinux2014_{name}.manylinux_2_17_{name}.musllinux_1_1_{name}")
}
