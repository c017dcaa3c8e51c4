//! Outputs of two builds: exit status, standard output, standard error, and the written file.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::contents::Renames;
use crate::runs::{self, Run};

/// Numbers of runs with the same and with different output, and the renames in the output.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) same: usize,
    pub(crate) different: usize,
    pub(crate) renames: Renames,
}

/// Parts of two outputs that must be the same.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    /// Every byte.
    Bytes,
    /// Exit status, the contents of JSON, and every byte of a written file.
    Contents,
}

/// Compares the outputs of `old` and `new` for every run, `jobs` runs at a time, and prints those
/// that differ.
///
/// # Errors
/// Returns an error if a build cannot be started, or a written file cannot be read.
pub(crate) fn compare(
    old: &Path,
    new: &Path,
    runs: &[Run],
    jobs: usize,
    rule: Rule,
) -> io::Result<Tally> {
    let queue = Mutex::new(runs.iter());
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1))
            .map(|_| scope.spawn(|| compare_queue(old, new, &queue, &tally, rule)))
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a worker panicked")))
        })
    })?;
    Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Locks `mutex` even if a worker has panicked, because that is reported where the workers are
/// joined.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compares runs from the queue until it is empty.
fn compare_queue(
    old: &Path,
    new: &Path,
    queue: &Mutex<std::slice::Iter<'_, Run>>,
    tally: &Mutex<Tally>,
    rule: Rule,
) -> io::Result<()> {
    loop {
        let Some(run) = lock(queue).next() else {
            return Ok(());
        };
        let (old, new) = (
            RunOutput::from_run(old, run)?,
            RunOutput::from_run(new, run)?,
        );
        let mut tally = lock(tally);
        let difference = match rule {
            Rule::Bytes => old.difference(&new),
            Rule::Contents => old.contents_difference(&new, run.prints_json(), &mut tally.renames),
        };
        match difference {
            None => tally.same += 1,
            Some(difference) => {
                tally.different += 1;
                println!("cpreg {}\n  {difference}", run.arguments().join(" "));
            }
        }
    }
}

/// Output of a run of the command.
#[derive(Debug, PartialEq, Eq)]
struct RunOutput {
    status: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Content of the written file, if there is one.
    output: Option<Vec<u8>>,
}

impl RunOutput {
    /// Runs `binary` in an empty folder of its own.
    fn from_run(binary: &Path, run: &Run) -> io::Result<Self> {
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

    /// Describes the first difference of the contents to `new`, if there is one.
    fn contents_difference(
        &self,
        new: &Self,
        is_json: bool,
        renames: &mut Renames,
    ) -> Option<String> {
        if self.status != new.status {
            return Some(format!("status {:?}, then {:?}", self.status, new.status));
        }
        if self.output != new.output {
            return Some("the written file differs".to_owned());
        }
        let has_output = !self.stdout.is_empty() || !new.stdout.is_empty();
        (is_json && has_output)
            .then(|| renames.compare_json(&self.stdout, &new.stdout))
            .flatten()
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

/// Describes the first different line of two texts.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn output(stdout: &str, output: Option<&str>) -> RunOutput {
        RunOutput {
            status: Some(0),
            stdout: stdout.into(),
            stderr: Vec::new(),
            output: output.map(Into::into),
        }
    }

    #[test]
    fn finds_every_kind_of_difference() {
        let old = output("a\nb\n", Some("file"));
        assert_eq!(old.difference(&output("a\nb\n", Some("file"))), None);
        let text = old.difference(&output("a\nc\n", Some("file")));
        assert!(text.is_some_and(|text| text.contains("line 2")));
        assert!(old.difference(&output("a\nb\n", Some("File"))).is_some());
        assert!(old.difference(&output("a\nb\n", None)).is_some());
        assert!(old.difference(&output("a\nb", Some("file"))).is_some());
    }
}
