//! Regeneration of files that tests compare.

use crate::cargo::{Result, run_cargo};

/// Accepts the current output of the programs as the expected output.
///
/// A person must review the changes (`git diff`) before the commit.
///
/// # Errors
/// If something does not build, or a test fails for another reason.
pub(crate) fn bless() -> Result<()> {
    let package = ["run", "--quiet", "--package", "gen-data"];
    for task in ["gen-registers", "gen-id-fields"] {
        run_cargo(&[&package[..], &["--", task]].concat(), &[])?;
    }
    run_cargo(&["fmt", "--all"], &[])?;
    run_cargo(
        &["test", "--workspace", "--quiet"],
        &[
            ("INSTA_UPDATE", "always"),
            ("INSTA_FORCE_PASS", "1"),
            ("BLESS", "1"),
        ],
    )
}

/// Regenerates docs/cli.md only.
///
/// The definitions are in the program's crate, so a test of that crate writes the file. Without
/// `BLESS` the test compares it.
///
/// # Errors
/// If it does not build.
pub(crate) fn gen_cli() -> Result<()> {
    let test = ["test", "-p", "cpreg-cli", "--bin", "cpreg", "--quiet"];
    run_cargo(&[&test[..], &["docs_cli_md"]].concat(), &[("BLESS", "1")])
}
