//! Regeneration of the files with which tests compare output.

use crate::cargo::{Result, run_cargo};

/// Accepts the current output of the programs as the expected output.
///
/// A person must review the changes (`git diff`) before the commit.
///
/// # Errors
/// Returns an error if something does not build, or a test fails for another reason.
pub(crate) fn bless() -> Result<()> {
    let gen_data = ["run", "--quiet", "--package", "gen-data"];
    for task in ["gen-registers", "gen-id-fields"] {
        run_cargo(&[&gen_data[..], &["--", task]].concat(), &[])?;
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
/// A test of the program's crate writes the file, because the definitions are in that crate.
/// Without
/// `BLESS` the test only compares the file.
///
/// # Errors
/// Returns an error if it does not build.
pub(crate) fn gen_cli() -> Result<()> {
    let test = ["test", "-p", "cpreg-cli", "--bin", "cpreg", "--quiet"];
    run_cargo(&[&test[..], &["docs_cli_md"]].concat(), &[("BLESS", "1")])
}
