//! `cargo xtask bench --check`: costs as counts that do not depend on the load of the machine,
//! compared with a table that is checked in.
//!
//! | count | source |
//! |---|---|
//! | instructions | `valgrind --tool=callgrind`, "Collected" |
//! | transfers | system calls that transfer bytes: `strace -f`, one line each |
//!
//! A filter reads a file and writes a file, because a pipe's fill level decides how many calls a
//! pipe takes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use e2e_framework::Result;
use e2e_framework::paths::repository;
use e2e_framework::tool::{self, Tool};

use crate::commands::Benchmark;
use crate::inputs::{self, DESTINATION_FILE, RECORDED_SIZE, remove};
use cpreg_testdata::large_stream::Size;

/// Programs that count.
const TOOLS: [Tool; 2] = [
    Tool {
        program: "valgrind",
        package: "valgrind",
    },
    Tool {
        program: "strace",
        package: "strace",
    },
];

/// Counts by case.
type Counts = BTreeMap<String, u64>;

/// Largest accepted difference to the table, in percent.
const MAX_PERCENT: u64 = 5;

/// Number of vCPUs of the VM.
const VCPUS: u32 = 256;

/// Name of the file that `convert` and `filter` write.
const OUTPUT: &str = "out";

/// Commands whose instructions are counted, with their cases. The first three are about
/// [`VCPUS`] vCPUs. The others are about new VMs of recorded hosts: a ready and a refused plan.
const COMMANDS: [(&str, &[&str]); 5] = [
    ("show, instructions", &["show", "vm"]),
    ("check, instructions", &["check", "vm", DESTINATION_FILE]),
    (
        "convert -o, instructions",
        &["convert", "vm", DESTINATION_FILE, "-o", OUTPUT],
    ),
    (
        "check of a new VM, ready, instructions",
        &["check", "linux-6.12.107/max/pmu", "linux-6.12.107/max"],
    ),
    (
        "check of a new VM, refused, instructions",
        &[
            "check",
            "linux-7.3.4/max/pmu,sve,ptrauth",
            "linux-6.1.176/neoverse-n1",
        ],
    ),
];

const FILTER: &str = "filter, transfers";

/// System calls that transfer bytes. Those for memory depend on the allocator.
const TRANSFERS: &str = "trace=read,write,pread64,pwrite64,readv,writev,tee,splice,vmsplice,\
                         copy_file_range,sendfile";

/// Treatment of the checked-in table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Compare with the table.
    Compare,
    /// Write the table.
    Update,
}

/// Counts every case and compares the counts with the table, or writes them to the table. Returns
/// `true` if the table has these counts.
///
/// # Errors
/// Returns an error if something cannot be made or run, or a tool is missing and cannot be
/// installed.
pub(crate) fn run(benchmark: &Benchmark<'_>, table: Table) -> Result<bool> {
    tool::ensure_installed(&TOOLS)?;
    let size = Size {
        vcpus: VCPUS,
        ..RECORDED_SIZE
    };
    inputs::write_pair(benchmark.folder, size)?;
    let counts = count_all(benchmark)?;
    let path = repository().join("benches/counts.tsv");
    if table == Table::Update {
        fs::write(&path, format_table(&counts))?;
        return Ok(true);
    }
    Ok(compare(&parse_table(&fs::read_to_string(&path)?)?, &counts))
}

fn count_all(benchmark: &Benchmark<'_>) -> Result<Counts> {
    let mut counts = Counts::new();
    let cpreg = benchmark.cpreg.as_str();
    for (case, arguments) in COMMANDS {
        remove(&benchmark.folder.join(OUTPUT))?;
        let command = [&[cpreg][..], arguments].concat();
        counts.insert(
            case.to_owned(),
            count_instructions(benchmark.folder, &command)?,
        );
    }
    let calls = count_filter_calls(benchmark.folder, cpreg)?;
    counts.insert(FILTER.to_owned(), calls);
    Ok(counts)
}

/// Returns the instructions of a command.
fn count_instructions(folder: &Path, command: &[&str]) -> Result<u64> {
    let mut callgrind = Command::new("valgrind");
    callgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(command)
        .current_dir(folder);
    // A refusal is a result, too.
    let output = callgrind.output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let (_, count) = text
        .split_once("Collected : ")
        .ok_or_else(|| format!("valgrind printed no count: {text}"))?;
    let count = count.split_whitespace().next().unwrap_or_default();
    Ok(count.parse()?)
}

/// Returns the system calls of a filter from file to file.
fn count_filter_calls(folder: &Path, cpreg: &str) -> Result<u64> {
    let trace = folder.join("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-e", "signal=none", "-e", TRANSFERS, "-o"])
        .arg(&trace)
        .args([cpreg, "filter", DESTINATION_FILE])
        .current_dir(folder)
        .stdin(File::open(folder.join("vm"))?)
        .stdout(inputs::create(&folder.join(OUTPUT))?)
        .stderr(Stdio::null());
    if !strace.status()?.success() {
        return Err("`cpreg filter` failed".into());
    }
    let text = fs::read_to_string(trace)?;
    let calls = text.lines().filter(|line| line.contains(") = "));
    Ok(u64::try_from(calls.count())?)
}

fn format_table(counts: &Counts) -> String {
    let mut text = String::from("# case\tcount; written by `cargo xtask bench --check --update`\n");
    for (case, count) in counts {
        let _ = writeln!(text, "{case}\t{count}");
    }
    text
}

fn parse_table(text: &str) -> Result<Counts> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (case, count) = line
                .split_once('\t')
                .ok_or_else(|| format!("no tab in `{line}`"))?;
            Ok((case.to_owned(), count.parse()?))
        })
        .collect()
}

/// Prints each count beside that of the table. Returns `true` if both have the same cases, and
/// their counts differ by at most [`MAX_PERCENT`].
fn compare(table: &Counts, counts: &Counts) -> bool {
    let mut is_same = true;
    let cases = table
        .keys()
        .chain(counts.keys().filter(|case| !table.contains_key(*case)));
    for case in cases {
        let (expected, count) = (table.get(case), counts.get(case));
        let is_within = expected
            .zip(count)
            .is_some_and(|(expected, count)| is_within(*expected, *count));
        let text = |count: Option<&u64>| count.map_or_else(|| "-".to_owned(), u64::to_string);
        let mark = if is_within { "" } else { "  differs" };
        println!("{case:72} {:>12} {:>12}{mark}", text(expected), text(count));
        is_same &= is_within;
    }
    is_same
}

fn is_within(expected: u64, count: u64) -> bool {
    expected.abs_diff(count) * 100 <= expected * MAX_PERCENT
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        let pairs = pairs.iter();
        pairs
            .map(|(case, count)| ((*case).to_owned(), *count))
            .collect()
    }

    #[test]
    fn a_table_is_read_as_written() {
        let written = counts(&[("check", 100), ("plan: a, b", 7)]);
        assert_eq!(parse_table(&format_table(&written)).unwrap(), written);
        assert!(parse_table("check 100").is_err());
    }

    #[test]
    fn counts_may_differ_by_five_percent_in_both_directions() {
        let table = counts(&[("check", 1000)]);
        for (count, expected) in [(1050, true), (1051, false), (950, true), (949, false)] {
            assert_eq!(
                compare(&table, &counts(&[("check", count)])),
                expected,
                "{count}"
            );
        }
        assert!(!compare(&table, &counts(&[])));
        assert!(!compare(&table, &counts(&[("check", 1000), ("new", 1)])));
    }

    #[test]
    fn the_checked_in_table_has_every_command() {
        let text = fs::read_to_string(repository().join("benches/counts.tsv")).unwrap();
        let table = parse_table(&text).unwrap();
        let cases = COMMANDS.iter().map(|(case, _)| *case).chain([FILTER]);
        assert!(
            table
                .keys()
                .map(String::as_str)
                .eq(cases.collect::<BTreeSet<_>>())
        );
    }
}
