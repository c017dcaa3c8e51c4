//! Costs of two builds, in counts that do not depend on the load of the machine: instructions,
//! allocations, system calls, bytes read.
//!
//! | count | source |
//! |---|---|
//! | instructions | `valgrind --tool=callgrind`, "Collected" |
//! | allocations | `valgrind --tool=memcheck`, "total heap usage" |
//! | system calls | `strace -f`, one line each |
//! | bytes read | the results of `read`, `pread64`, `readv` and `preadv` in the same lines |

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::runs::{self, Run};

/// Limit for the growth of a count, in percent of the old build's.
const MAX_PERCENT: u64 = 105;

/// Names of the counts, in the order in which [`count`] returns them.
const COUNTS: [&str; 4] = ["instructions", "allocations", "system calls", "bytes read"];

/// Compares the counts of the builds `old` and `new`, and prints each with its ratio. Returns the
/// number of counts within the limit, and the number beyond it.
///
/// # Errors
/// Returns an error if a stream cannot be unpacked, or valgrind or strace cannot be started or
/// prints unexpected output.
pub(crate) fn compare(old: &Path, new: &Path, streams: &[PathBuf]) -> io::Result<(usize, usize)> {
    let folder = tempfile::tempdir()?;
    let (mut within, mut beyond) = (0, 0);
    for packed in streams {
        let name = packed.file_stem().unwrap_or_default();
        let stream = folder.path().join(name);
        let mut reader = lzma_rust2::XzReader::new(File::open(packed)?, true);
        io::copy(&mut reader, &mut File::create(&stream)?)?;
        let host = host_of(&name.to_string_lossy());
        for run in runs::cost_runs(&stream, host) {
            println!("{}", run.arguments().join(" "));
            let (old, new) = (count(old, &run)?, count(new, &run)?);
            for ((name, old), new) in COUNTS.iter().zip(old).zip(new) {
                // Up to four more system calls are allowed, whatever their percentage.
                let is_within = new * 100 <= old * MAX_PERCENT || new - old.min(new) <= 4;
                let mark = if is_within {
                    ""
                } else {
                    "  more than 5 % worse"
                };
                println!(
                    "  {name:<13} {old:>11} {new:>11}  {:>5} %{mark}",
                    new * 100 / old.max(1)
                );
                *(if is_within { &mut within } else { &mut beyond }) += 1;
            }
        }
        fs::remove_file(&stream)?;
    }
    Ok((within, beyond))
}

/// Returns a recorded host with the CPU model in the stream's name.
fn host_of(stream: &str) -> &'static str {
    if stream.contains("max") {
        "linux-7.3.4/max"
    } else {
        "linux-6.16.12/neoverse-n1"
    }
}

/// Counts the costs of one run of `binary`, in the order of [`COUNTS`].
fn count(binary: &Path, run: &Run) -> io::Result<[u64; 4]> {
    let callgrind = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
    ];
    let instructions = number_after(&stderr(&callgrind, binary, run)?, "Collected : ")?;
    let memcheck = ["valgrind", "--tool=memcheck", "--leak-check=no"];
    let allocations = number_after(&stderr(&memcheck, binary, run)?, "total heap usage: ")?;
    let trace = stderr(&["strace", "-f", "-qq", "-e", "signal=none"], binary, run)?;
    let calls = trace.lines().filter(|line| line.contains(") = "));
    let bytes = calls.clone().filter_map(bytes_read).sum();
    Ok([
        instructions,
        allocations,
        u64::try_from(calls.count()).unwrap_or(u64::MAX),
        bytes,
    ])
}

/// Runs the command under another program, and returns the standard error of both.
fn stderr(wrapper: &[&str], binary: &Path, run: &Run) -> io::Result<String> {
    let folder = tempfile::tempdir()?;
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(binary)
        .args(run.arguments())
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| io::Error::other(format!("cannot start {}: {error}", wrapper[0])))?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns the number after the first `label`. The number may have commas.
fn number_after(text: &str, label: &str) -> io::Result<u64> {
    let rest = text.split_once(label).map_or("", |(_, rest)| rest);
    let digits: String = rest
        .chars()
        .take_while(|character| character.is_ascii_digit() || *character == ',')
        .filter(char::is_ascii_digit)
        .collect();
    digits
        .parse()
        .map_err(|_| io::Error::other(format!("no number after {label:?} in: {text}")))
}

/// Returns the number of bytes that a system call read; `None` for other calls.
fn bytes_read(line: &str) -> Option<u64> {
    let call = line.split_once("] ").map_or(line, |(_, call)| call);
    let reads = ["read(", "pread64(", "readv(", "preadv("];
    reads.iter().find(|name| call.starts_with(**name))?;
    let (_, result) = call.rsplit_once(" = ")?;
    result.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_of_valgrind_and_strace() {
        let text = "==1== \n==1== Collected : 4711\n";
        assert_eq!(number_after(text, "Collected : ").unwrap(), 4711);
        let text = "==1==   total heap usage: 1,234 allocs, 1,200 frees, 5 bytes";
        assert_eq!(number_after(text, "total heap usage: ").unwrap(), 1234);
        assert!(number_after(text, "Collected : ").is_err());
        assert_eq!(bytes_read("pread64(3, \"QEVM\"..., 8, 0) = 8"), Some(8));
        assert_eq!(bytes_read("[pid 12] read(3, \"\", 8) = 0"), Some(0));
        assert_eq!(bytes_read("read(3, 0x1, 8) = -1 EAGAIN (again)"), None);
        assert_eq!(bytes_read("write(1, \"read(\", 5) = 5"), None);
    }
}
