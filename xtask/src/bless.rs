//! Files that tests compare, made anew.

use crate::cargo::{Result, run_cargo};

/// Takes what the programs say now for what they should say.
///
/// The changes are for a person to look at (`git diff`) before they are committed.
///
/// # Errors
/// If something does not build, or a test fails for another reason.
pub(crate) fn bless() -> Result<()> {
    let package = ["run", "--quiet", "--package", "gen-data"];
    run_cargo(&[&package[..], &["--", "gen-registers"]].concat(), &[])?;
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

/// Makes docs/cli.md anew, and nothing else.
///
/// The definitions are in the program's own crate, so a test of that crate writes the file; without `BLESS` it
/// compares, as part of all tests.
///
/// # Errors
/// If it does not build.
pub(crate) fn gen_cli() -> Result<()> {
    let test = ["test", "-p", "cpreg-cli", "--bin", "cpreg", "--quiet"];
    run_cargo(&[&test[..], &["docs_cli_md"]].concat(), &[("BLESS", "1")])
}
