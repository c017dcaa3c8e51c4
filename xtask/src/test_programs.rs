//! All test programs of the workspace, several at a time.
//!
//! `cargo test` runs one program after the other, and a program whose last test is long uses one
//! core. Here each core runs one program.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use crate::cargo::{Result, cargo};
use crate::count::{Counts, count};

/// Fixed seed of the property tests. A failure is then repeatable, and a new failure is due to a
/// change. Without the seed `cargo test` chooses other cases each time.
const PROPTEST_SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "20260823");

/// A program with tests.
#[derive(Debug, PartialEq)]
struct TestProgram {
    executable: PathBuf,
    /// Manifest of the package.
    manifest: PathBuf,
    /// Kind and name of the target: `test cli`.
    target: String,
}

/// Runs the tests in all programs, and those in documentation. Prints each program's output as a
/// whole.
///
/// # Errors
/// Returns an error if the programs cannot be built or started.
pub(crate) fn run() -> Result<Counts> {
    let mut programs = build()?;
    // The tests of the command take longest. Started first, they do not end alone.
    programs.sort_by_key(|program| program.target != "test cli");
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(VecDeque::from(programs));
    let output = Mutex::new(Counts::default());
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| scope.spawn(|| run_programs(next, &output)))
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err("a thread panicked".into()))
        })
    })?;
    let mut documentation = cargo();
    documentation.args(["test", "--workspace", "--doc", "--quiet", "--no-fail-fast"]);
    documentation.envs([PROPTEST_SEED]);
    let (status, mut counts) = count("documentation", &mut documentation)?;
    if !status.success() && counts.failed == 0 {
        counts += Counts::FAILED;
    }
    Ok(counts + output.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Runs the programs that `next` returns, and adds their counts.
fn run_programs(next: impl Fn() -> Option<TestProgram>, output: &Mutex<Counts>) -> Result<()> {
    while let Some(program) = next() {
        let (status, text) = program.run()?;
        // One program's output at a time.
        let mut sum = output.lock().unwrap_or_else(PoisonError::into_inner);
        *sum += print(&program, status, &text);
    }
    Ok(())
}

/// Prints a program's output, and returns its counts. A failure without counts is a failed test.
fn print(program: &TestProgram, status: ExitStatus, text: &str) -> Counts {
    let mut counts: Counts = text.lines().filter_map(Counts::parse_line).sum();
    println!("{}\n{}\n", program.title(), text.trim());
    if !status.success() {
        if counts.failed == 0 {
            counts += Counts::FAILED;
        }
        println!("{}: {status}", program.title());
    }
    counts
}

impl TestProgram {
    /// Runs the program as cargo does, and returns its exit status and its whole output.
    fn run(&self) -> Result<(ExitStatus, String)> {
        let package = self.manifest.parent().unwrap_or(Path::new("."));
        let (mut reader, writer) = io::pipe()?;
        let mut command = Command::new(&self.executable);
        command
            .arg("--quiet")
            .current_dir(package)
            .env("CARGO_MANIFEST_DIR", package)
            .envs([PROPTEST_SEED])
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.executable.display()))?;
        // The command holds the writing ends, which would keep the pipe open.
        drop(command);
        let mut text = Vec::new();
        reader.read_to_end(&mut text)?;
        Ok((child.wait()?, String::from_utf8_lossy(&text).into_owned()))
    }

    /// Returns the program's package and target: `cpreg-cli, test cli`.
    fn title(&self) -> String {
        let package = self.manifest.parent().and_then(Path::file_name);
        let package = package.unwrap_or_default().to_string_lossy();
        format!("{package}, {}", self.target)
    }
}

/// Builds all test programs.
fn build() -> Result<Vec<TestProgram>> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run", "--quiet"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("cargo test --no-run: {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let programs: Vec<_> = text.lines().filter_map(parse_message).collect();
    if programs.is_empty() {
        return Err("cargo test --no-run names no program".into());
    }
    Ok(programs)
}

/// Parses a message of cargo, and returns the test program that it reports.
fn parse_message(line: &str) -> Option<TestProgram> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["profile"]["test"] != true {
        return None;
    }
    let target = &message["target"];
    let kind = target["kind"][0].as_str()?;
    Some(TestProgram {
        executable: message["executable"].as_str()?.into(),
        manifest: message["manifest_path"].as_str()?.into(),
        target: format!("{kind} {}", target["name"].as_str()?),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn program(executable: &str) -> TestProgram {
        TestProgram {
            executable: executable.into(),
            manifest: concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into(),
            target: "test cli".to_owned(),
        }
    }

    #[test]
    fn messages_about_test_programs_are_parsed() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/a/cpreg-cli/Cargo.toml",
            "target":{"kind":["test"],"name":"cli"},"profile":{"test":true},"executable":"/a/t/cli-1"}"#;
        let parsed = parse_message(message).unwrap();
        assert_eq!(parsed.executable, Path::new("/a/t/cli-1"));
        assert_eq!(parsed.title(), "cpreg-cli, test cli");
        for other in [
            message.replace("true", "false"),
            message.replace("\"/a/t/cli-1\"", "null"),
            "Compiling cpreg".to_owned(),
        ] {
            assert_eq!(parse_message(&other), None, "{other}");
        }
    }

    #[test]
    fn the_output_of_a_program_is_complete() {
        let (status, text) = program("/bin/echo").run().unwrap();
        assert!(status.success());
        assert_eq!(text, "--quiet\n");
        assert!(program("/nonexistent").run().is_err());
    }

    #[test]
    fn a_program_that_fails_without_counts_is_a_failed_test() {
        let counts = |code, text| print(&program("x"), ExitStatus::from_raw(code), text);
        assert_eq!(counts(9, "killed"), Counts::FAILED);
        let result = "\ntest result: FAILED. 3 passed; 1 failed; 0 ignored\n";
        let (passed, failed) = (3, 1);
        assert_eq!(counts(101 << 8, result), Counts { passed, failed });
        assert_eq!(counts(0, "no tests"), Counts::default());
    }
}
