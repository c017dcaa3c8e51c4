//! `cargo xtask compare-binaries OLD NEW`: runs two builds of `cpreg` on the same inputs and compares
//! exit status, standard output, standard error and every byte of every file that they write.
//!
//! Used to show that a change of the code's structure changes no answer. The runs are listed in
//! [`runs`]; this file starts them and compares.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod runs;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use clap::Parser;

use runs::Run;

/// Compares the answers of two builds of the command cpreg.
#[derive(Debug, Parser)]
struct Arguments {
    /// The build whose answers are expected
    old: PathBuf,
    /// The build under test
    new: PathBuf,
    /// A folder of streams (*.stream.xz), searched with its subfolders; may be repeated
    #[arg(long, default_value = "tests/fixtures")]
    streams: Vec<PathBuf>,
    /// A folder of texts with error lines (*.txt, *.log) for `explain`; may be repeated
    #[arg(long, default_value = "docs/examples")]
    logs: Vec<PathBuf>,
    /// A destination by name; may be repeated
    #[arg(long = "host", default_values_t = runs::HOSTS.map(str::to_owned))]
    hosts: Vec<String>,
    /// Runs at a time
    #[arg(long, default_value_t = thread::available_parallelism().map_or(1, usize::from))]
    jobs: usize,
}

fn main() -> ExitCode {
    match compare_all(&Arguments::parse()) {
        Ok(tally) => {
            println!("{} passed, {} failed", tally.same, tally.different);
            ExitCode::from(u8::from(tally.different > 0 || tally.same == 0))
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Numbers of runs, by result.
#[derive(Debug, Default)]
struct Tally {
    same: usize,
    different: usize,
}

fn compare_all(arguments: &Arguments) -> io::Result<Tally> {
    let old = fs::canonicalize(&arguments.old)?;
    let new = fs::canonicalize(&arguments.new)?;
    let streams = files(&arguments.streams, &[".stream.xz"])?;
    let logs = files(&arguments.logs, &[".txt", ".log"])?;
    if streams.is_empty() {
        return Err(io::Error::other("the folders hold no *.stream.xz"));
    }
    let all = runs::all(&streams, &logs, &arguments.hosts);
    println!(
        "{} runs: {} streams, {} hosts, {} texts",
        all.len(),
        streams.len(),
        arguments.hosts.len(),
        logs.len()
    );
    let queue = Mutex::new(all.iter());
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs.max(1))
            .map(|_| scope.spawn(|| work(&old, &new, &queue, &tally)))
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a worker panicked")))
        })
    })?;
    Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Locks `mutex`; a worker's panic is reported where the workers are joined.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compares runs from the queue until it is empty.
fn work(
    old: &Path,
    new: &Path,
    queue: &Mutex<std::slice::Iter<'_, Run>>,
    tally: &Mutex<Tally>,
) -> io::Result<()> {
    loop {
        let Some(run) = lock(queue).next() else {
            return Ok(());
        };
        let difference = Answer::of(old, run)?.difference(&Answer::of(new, run)?);
        let mut tally = lock(tally);
        match difference {
            None => tally.same += 1,
            Some(difference) => {
                tally.different += 1;
                println!("cpreg {}\n  {difference}", run.arguments().join(" "));
            }
        }
    }
}

/// Everything that a run of the command leaves behind.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The file that the run was told to write, if it wrote one.
    output: Option<Vec<u8>>,
}

impl Answer {
    /// Runs `binary` in an empty folder of its own.
    fn of(binary: &Path, run: &Run) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let output = Command::new(binary)
            .args(run.arguments())
            .current_dir(&folder)
            .stdin(Stdio::null())
            .output()?;
        let written = match fs::read(folder.path().join(runs::OUTPUT)) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            status: output.status.code(),
            stdout: output.stdout,
            stderr: output.stderr,
            output: written,
        })
    }

    /// Describes the first difference to `new`, if there is one.
    fn difference(&self, new: &Self) -> Option<String> {
        if self.status != new.status {
            return Some(format!("status {:?}, then {:?}", self.status, new.status));
        }
        let streams = [
            ("stdout", &self.stdout, &new.stdout),
            ("stderr", &self.stderr, &new.stderr),
        ];
        for (name, old, new) in streams {
            if old != new {
                return Some(format!("{name}: {}", first_difference(old, new)));
            }
        }
        (self.output != new.output).then(|| {
            let len = |output: &Option<Vec<u8>>| output.as_ref().map(Vec::len);
            format!(
                "the written file ({:?} bytes, then {:?}) differs",
                len(&self.output),
                len(&new.output)
            )
        })
    }
}

/// Describes the first line in which two texts differ.
fn first_difference(old: &[u8], new: &[u8]) -> String {
    let old = String::from_utf8_lossy(old);
    let new = String::from_utf8_lossy(new);
    let mut old = old.lines();
    let mut new = new.lines();
    for number in 1.. {
        let (a, b) = (old.next(), new.next());
        if a != b {
            return format!("line {number}\n    - {a:?}\n    + {b:?}");
        }
        if a.is_none() {
            break;
        }
    }
    "line ends only".to_owned()
}

/// Lists the files below `folders` whose names end in one of `suffixes`, in the order of their names.
fn files(folders: &[PathBuf], suffixes: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = folders.to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = fs::canonicalize(entry?.path())?;
            let name = path.to_string_lossy();
            if path.is_dir() {
                folders.push(path);
            } else if suffixes.iter().any(|suffix| name.ends_with(suffix)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(stdout: &str, output: Option<&str>) -> Answer {
        Answer {
            status: Some(0),
            stdout: stdout.into(),
            stderr: Vec::new(),
            output: output.map(Into::into),
        }
    }

    #[test]
    fn finds_every_kind_of_difference() {
        let old = answer("a\nb\n", Some("file"));
        assert_eq!(old.difference(&answer("a\nb\n", Some("file"))), None);
        let text = old.difference(&answer("a\nc\n", Some("file")));
        assert!(text.is_some_and(|text| text.contains("line 2")));
        assert!(old.difference(&answer("a\nb\n", Some("File"))).is_some());
        assert!(old.difference(&answer("a\nb\n", None)).is_some());
        assert!(old.difference(&answer("a\nb", Some("file"))).is_some());
    }
}
