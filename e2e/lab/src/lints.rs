//! `cargo xtask lab clippy`: lints of the code that only an arm64 compiler sees.

use e2e_framework::Result;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::toolchain::{Toolchain, run_checked};

/// Crates with code that only an arm64 compiler sees.
const ARM64_ONLY: [&str; 3] = ["cpreg-guest-check", "cpreg-kvm", "cpreg-vmm"];

/// Runs `cargo xtask lab clippy`.
///
/// # Errors
/// Returns an error if clippy reports a lint.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    let toolchain = lab.with_make_lock(|| Toolchain::ensure(&lab.folder))?;
    let mut command = toolchain.cargo(&["clippy"]);
    command.arg("--quiet");
    for package in ARM64_ONLY {
        command.args(["--package", package]);
    }
    run_checked(command.args(["--", "-D", "warnings"]))
}
