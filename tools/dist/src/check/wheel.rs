//! The Python wheel in a fresh environment.

use std::process::Command;

use e2e_framework::tool;
use wheels::Wheel;

use super::files::Files;
use crate::architecture::Architecture;
use crate::project::{Project, Result};

/// Checker of types.
const MYPY: Wheel = Wheel {
    program: "mypy",
    package: "mypy",
    version: "2.4.1",
};

/// Installs the wheel, runs its tests, checks the types of its users, and removes it.
pub(super) fn check(project: &Project, files: &Files) -> Result<String> {
    let native = Architecture::native()?;
    let wheels = files.find("cpreg-", &format!("_{native}.whl"))?;
    let mypy = MYPY.find_pinned(project.tools.parent().unwrap_or(&project.tools))?;
    let folder = tempfile::tempdir()?;
    let environment = folder.path().join("venv");
    tool::run(
        Command::new("python3")
            .args(["-m", "venv"])
            .arg(&environment),
    )?;
    let python = environment.join("bin/python");
    let pip = |words: &[&str]| {
        let mut command = Command::new(&python);
        command.args(["-m", "pip", "--disable-pip-version-check", "--quiet"]);
        command.args(words);
        command
    };
    // No registry is asked: the wheel needs no other package.
    tool::run(pip(&["install", "--no-index"]).args(&wheels))?;
    let tests = project.root.join("packaging/python/tests/test_check.py");
    let mut command = Command::new(&python);
    command.arg(&tests).current_dir(folder.path());
    command.env(
        "CPREG_STREAMS",
        project.root.join("tests/fixtures/streams/kvm"),
    );
    tool::run(&mut command)?;
    for subject in [
        vec!["--package".into(), "cpreg".into()],
        vec![tests.into_os_string()],
    ] {
        let mut command = Command::new(&mypy);
        command.args([
            "--strict",
            "--cache-dir",
            "/dev/null",
            "--python-executable",
        ]);
        command.arg(&python).args(subject);
        tool::run(command.current_dir(folder.path()))?;
    }
    tool::run(&mut pip(&["uninstall", "--yes", "cpreg"]))?;
    if environment.join("bin/cpreg").exists() {
        return Err("the program remains after the removal".into());
    }
    Ok(String::new())
}
