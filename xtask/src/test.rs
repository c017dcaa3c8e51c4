//! `cargo xtask test`, which is what CI runs, `cargo xtask bless` and `cargo xtask gen-cli`.
//!
//! Every step runs, whatever became of the ones before it: one run tells everything that is wrong. A step whose tools are
//! missing fails; nothing is ever skipped.

use std::env;
use std::ffi::OsString;
use std::process::Command;
use std::thread;
use std::time::Instant;

use crate::{Result, gen_registers, lab, live, prove, qemus, repository, tools};

/// What is done in a step.
type Step = fn() -> Result<()>;

/// Compiles what `cpreg tolerances --export qemu` writes.
const GCC: tools::Tool = tools::Tool {
    program: "gcc",
    package: "gcc",
};

/// Property tests try the same cases in every run: what fails here fails again, and is somebody's change. `cargo test` without it tries others
/// each time.
const SAME_CASES: (&str, &str) = ("PROPTEST_RNG_SEED", "20260823");

const STEPS: [(&str, Step); 7] = [
    ("formatting", || {
        cargo(&["fmt", "--all", "--", "--check"], &[])
    }),
    ("lints", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--quiet"];
        cargo(&[&arguments[..], &["--", "-D", "warnings"]].concat(), &[])
    }),
    ("generated files", || {
        gen_registers::run(&["--check".to_owned()]).map_err(Into::into)
    }),
    ("tests", || {
        tools::need(&[GCC])?;
        cargo(&["test", "--workspace", "--quiet"], &[SAME_CASES])
    }),
    ("loader models", || prove::run(&[])),
    ("real kernels", || lab::run(&["test"])),
    ("live tests", || live::run(&[])),
];

/// Fetches what later steps need while earlier ones are busy with the processor. What fails here fails again in its step, which says so.
fn fetch_ahead() {
    let fetched = qemus::ensure().map(drop).and_then(|()| lab::fetch());
    if let Err(error) = fetched {
        eprintln!("not fetched ahead: {error}");
    }
}

/// `cargo xtask test`.
pub(crate) fn run() -> Result<()> {
    // Installing is done by one at a time. What is missing the step that needs it says.
    if tools::need(&[&[GCC], &lab::TOOLS[..]].concat()).is_ok() {
        thread::spawn(fetch_ahead);
    }
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        let start = Instant::now();
        if let Err(error) = step() {
            // Above the closing line of the live tests nothing must be lost, below it nothing must be added.
            eprintln!("{name}: {error}");
            failed.push(name);
        } else if name != "live tests" {
            println!("{name}: fine ({:.1?})", start.elapsed());
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")).into())
    }
}

/// `cargo xtask lint`: starts the checks of `tools/lint`.
pub(crate) fn lint(checks: &[&str]) -> Result<()> {
    cargo(
        &[&["run", "--quiet", "-p", "lint", "--"], checks].concat(),
        &[],
    )
}

/// `cargo xtask bless`: takes what the programs say now for what they should say.
///
/// The changes are for a person to look at (`git diff`) before they are committed.
pub(crate) fn bless() -> Result<()> {
    gen_registers::run(&[])?;
    cargo(&["fmt", "--all"], &[])?;
    cargo(
        &["test", "--workspace", "--quiet"],
        &[
            ("INSTA_UPDATE", "always"),
            ("INSTA_FORCE_PASS", "1"),
            ("BLESS", "1"),
        ],
    )
}

/// `cargo xtask gen-cli`: makes docs/cli.md anew, and nothing else.
///
/// The definitions are in the program's own crate, so a test of that crate writes the file; without `BLESS` it
/// compares, as part of all tests.
pub(crate) fn gen_cli() -> Result<()> {
    cargo(
        &[
            "test",
            "-p",
            "cpreg-cli",
            "--bin",
            "cpreg",
            "--quiet",
            "docs_cli_md",
        ],
        &[("BLESS", "1")],
    )
}

/// Runs cargo in this repository; what it says goes where ours goes.
fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command
        .current_dir(repository())
        .args(arguments)
        .envs(environment.iter().copied());
    let status = command
        .status()
        .map_err(|error| format!("cannot start `{}`: {error}", tools::words(&command)))?;
    if status.success() {
        return Ok(());
    }
    let advice = match arguments {
        ["fmt" | "clippy", ..] => " (is it installed? rustup component add rustfmt clippy)",
        _ => "",
    };
    Err(format!("`cargo {}`: {status}{advice}", arguments.join(" ")).into())
}
