//! [`Python`]: programs from the Python package index, in a folder below `target/`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use e2e_framework::Result;
use e2e_framework::paths::repository;
use e2e_framework::tool;

/// Packages with their versions.
const PACKAGES: [&str; 3] = [
    "ansible-core==2.19.14",
    "kubernetes-validate==1.37.0",
    "openstack-placement==16.0.0",
];

/// nova, whose dependencies are not needed to read its files of providers.
const NOVA: &str = "nova==34.0.0";

/// Folder with a Python and the packages.
#[derive(Debug)]
pub(crate) struct Python {
    folder: PathBuf,
}

impl Python {
    /// Installs the packages, unless an earlier run has done so.
    pub(crate) fn install() -> Result<Self> {
        let folder = repository().join("target/tools/fleet-python");
        let stamp = folder.join("packages");
        let packages = [&PACKAGES[..], &[NOVA]].concat().join("\n");
        let python = Self { folder };
        if fs::read_to_string(&stamp).is_ok_and(|text| text == packages) {
            return Ok(python);
        }
        let mut create = Command::new("python3");
        tool::run(create.args(["-m", "venv", "--clear"]).arg(&python.folder))?;
        let mut install = python.program("pip");
        tool::run(install.args(["install", "--quiet"]).args(PACKAGES))?;
        let mut install = python.program("pip");
        install.args(["install", "--quiet", "--no-deps", "--target"]);
        tool::run(install.arg(python.nova()).arg(NOVA))?;
        fs::write(stamp, packages)?;
        Ok(python)
    }

    /// Returns the folder with the sources of nova.
    pub(crate) fn nova(&self) -> PathBuf {
        self.folder.join("nova-sources")
    }

    /// Returns a command of a program in the folder.
    pub(crate) fn program(&self, name: &str) -> Command {
        Command::new(self.folder.join("bin").join(name))
    }
}
