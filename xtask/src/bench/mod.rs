//! `cargo xtask bench`: what the command costs, as ratios to what everybody has: `cat`, `cp`, `sync`, `socat`.
//!
//! | module | what lives there |
//! |---|---|
//! | [`grown`] | the inputs: recorded streams with more RAM and more vCPUs |
//! | [`measure`] | one command: time, peak memory, bytes read |
//! | [`passing`] | a stream from pipe to pipe, beside `cat` |
//! | [`relaying`] | a migration from socket to socket, beside `socat` |
//! | [`planning`] | a plan, in this process |
//! | [`rehearsal`] | a rehearsal, beside QEMU's own start |
//!
//! Nothing here passes or fails, and CI does not run it: a machine that is busy would decide. What must hold on every
//! machine (bytes read, memory) is tested elsewhere, by counting. docs/performance.md has figures.

mod grown;
mod measure;
mod passing;
mod planning;
mod rehearsal;
mod relaying;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cpreg_stream::Stream;

use self::grown::Size;
use self::measure::Cost;
use crate::{Result, lab, repository, tools};

/// Of so many runs the middle one counts.
const RUNS: usize = 5;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What is recorded: RAM and vCPUs.
const RECORDED: Size = Size {
    ram: 64 * MIB,
    pages: 64 * MIB,
    vcpus: 1,
};

/// The VM, by its stream, and another kernel's, which it must be converted for.
const SOURCE: &str = "kvm/6.12.107__q10.0__neoverse-n1__virt10.0-smp1";
const DESTINATION: &str = "kvm/6.16.12__q10.0__neoverse-n1__virt10.0-smp1";
const MAPPED: &str = "tcg/q10.0__virt-7.2-cortex-a57-smp2-mappedram";

/// `cargo xtask bench`, or of it only what a plan or a filter costs: `cargo xtask bench plans`, `cargo xtask bench filter`; or what a relay
/// costs: `cargo xtask bench relay`.
///
/// # Errors
/// If something cannot be built, made or run; never because of a figure.
pub(crate) fn run(rest: &[&str]) -> Result<()> {
    match rest {
        [] | ["plans" | "filter" | "relay"] => {
            let build = ["build", "--release", "-p", "cpreg-cli", "-p", "xtask"];
            tools::run(Command::new("cargo").args(build).current_dir(repository()))?;
            // This program is a debug build, in which a plan would be slow.
            let status = Command::new(release("xtask"))
                .arg("bench")
                .arg(match rest {
                    [] => "run".to_owned(),
                    words => format!("run-{}", words.concat()),
                })
                .status()?;
            if status.success() {
                Ok(())
            } else {
                Err("the benchmarks could not be run".into())
            }
        }
        ["run"] => all(),
        ["run-plans"] => {
            head();
            plans(&unpacked(SOURCE)?, &unpacked(DESTINATION)?)
        }
        ["run-filter"] => filter(),
        ["run-relay"] => with_bench(|bench| {
            relaying::run(
                &bench.cpreg,
                bench.folder,
                &bench.source,
                &bench.destination,
            )
        }),
        ["costs", command @ ..] => relaying::costs(command),
        ["piped", command @ ..] => passing::piped(command),
        ["once", folder, command @ ..] => measure::once(folder, command),
        ["start", command @ ..] => rehearsal::start(command),
        _ => Err("usage: cargo xtask bench [plans | filter | relay]".into()),
    }
}

fn release(program: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository().join("target"), PathBuf::from);
    target.join("release").join(program)
}

fn head() {
    println!(
        "{:64} {:>9} {:>9} {:>8} {:>9} {:>10}",
        "case", "median", "baseline", "ratio", "memory", "read"
    );
}

fn filter() -> Result<()> {
    with_bench(|bench| {
        head();
        bench.passing()
    })
}

fn with_bench(run: impl FnOnce(&Bench<'_>) -> Result<()>) -> Result<()> {
    fs::create_dir_all(lab())?;
    let folder = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(lab())?;
    run(&Bench {
        folder: folder.path(),
        cpreg: release("cpreg").display().to_string(),
        source: unpacked(SOURCE)?,
        destination: unpacked(DESTINATION)?,
    })
}

fn all() -> Result<()> {
    with_bench(run_all)
}

fn run_all(bench: &Bench<'_>) -> Result<()> {
    head();
    for (name, size) in [
        ("64 MiB of RAM", RECORDED),
        (
            "1 GiB of RAM",
            Size {
                ram: GIB,
                pages: GIB,
                ..RECORDED
            },
        ),
        (
            "2 GiB of RAM",
            Size {
                ram: 2 * GIB,
                pages: 2 * GIB,
                ..RECORDED
            },
        ),
        (
            "4 vCPUs",
            Size {
                vcpus: 4,
                ..RECORDED
            },
        ),
        (
            "64 vCPUs",
            Size {
                vcpus: 64,
                ..RECORDED
            },
        ),
        (
            "256 vCPUs",
            Size {
                vcpus: 256,
                ..RECORDED
            },
        ),
    ] {
        bench.stream(name, size)?;
    }
    bench.passing()?;
    bench.mapped("8 GiB of RAM, mapped-ram", 8 * GIB)?;
    for row in rehearsal::run(&bench.cpreg, bench.folder)? {
        print(
            &row.case,
            row.rehearsal.time,
            row.start.time,
            Some(row.rehearsal),
        );
    }
    plans(&bench.source, &bench.destination)
}

fn plans(source: &[u8], destination: &[u8]) -> Result<()> {
    for row in planning::run(source, destination)? {
        let case = format!(
            "{}, {} registers, {} allocations",
            row.case, row.registers, row.allocations
        );
        print(&case, row.plan, row.baseline, None);
    }
    Ok(())
}

struct Bench<'f> {
    folder: &'f Path,
    cpreg: String,
    source: Vec<u8>,
    destination: Vec<u8>,
}

impl Bench<'_> {
    /// All that is measured of a stream of this size.
    fn stream(&self, name: &str, size: Size) -> Result<()> {
        // The stream, a copy, and nearly as much again, so that nothing else comes to its end.
        let needed = 3 * size.pages + 64 * MIB;
        let free = rustix::fs::statvfs(self.folder)?;
        let free = free.f_bavail * free.f_frsize;
        if free < needed {
            println!(
                "{name}: left out: {} MiB of disk are free, {} MiB are needed",
                free / MIB,
                needed / MIB
            );
            return Ok(());
        }
        let vm = self.folder.join("vm");
        grown::write(&self.source, size, &create(&vm)?)?;
        let pages = 0;
        grown::write(
            &self.destination,
            Size { pages, ..size },
            &create(&self.folder.join("there"))?,
        )?;
        self.reading(name)?;

        let out = self.folder.join("out");
        let end = End::of(&vm)?;
        for how in [&["-o", "out"][..], &["--in-place"]] {
            let command = [&["convert", "vm", "--to", "there"], how].concat();
            let as_before = || {
                remove(&out)?;
                end.bring_back(&vm)
            };
            let case = format!("convert {}, {name}", how[0]);
            self.row(&case, &command, "cp vm out && sync out", as_before)?;
        }
        remove(&out)?;
        remove(&vm)
    }

    /// `filter`, of 2 GiB of RAM.
    fn passing(&self) -> Result<()> {
        let size = Size {
            ram: 2 * GIB,
            pages: 2 * GIB,
            ..RECORDED
        };
        let free = rustix::fs::statvfs(self.folder)?;
        if free.f_bavail * free.f_frsize < 3 * GIB {
            println!("filter, 2 GiB of RAM: left out: 3 GiB of disk are needed");
            return Ok(());
        }
        let vm = self.folder.join("vm");
        grown::write(&self.source, size, &create(&vm)?)?;
        let there = Size { pages: 0, ..size };
        grown::write(
            &self.destination,
            there,
            &create(&self.folder.join("there"))?,
        )?;
        let (cost, baseline) = passing::run(&self.cpreg, self.folder)?;
        print(
            "filter, 2 GiB of RAM, from pipe to pipe",
            cost.time,
            baseline.time,
            Some(cost),
        );
        remove(&vm)
    }

    fn mapped(&self, name: &str, ram: u64) -> Result<()> {
        let small = create(&self.folder.join("small"))?;
        sparse(&unpacked(MAPPED)?, &small)?;
        for file in ["vm", "there"] {
            grown::write_mapped(&small, ram, &create(&self.folder.join(file))?)?;
        }
        self.reading(name)
    }

    /// `show` and `check`.
    fn reading(&self, name: &str) -> Result<()> {
        for command in [&["show", "vm"][..], &["check", "vm", "there"]] {
            let case = format!("{}, {name}", command[0]);
            self.row(&case, command, "cat vm > /dev/null", || Ok(()))?;
        }
        Ok(())
    }

    fn row(
        &self,
        case: &str,
        arguments: &[&str],
        baseline: &str,
        between: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let command = [&[self.cpreg.as_str()], arguments].concat();
        let (cost, baseline) = measure::in_turn(
            RUNS,
            between,
            || measure::run(self.folder, &command),
            || measure::run(self.folder, &["sh", "-c", baseline]),
        )?;
        print(case, cost.time, baseline.time, Some(cost));
        Ok(())
    }
}

fn print(case: &str, time: Duration, baseline: Duration, cost: Option<Cost>) {
    let ratio = time.as_secs_f64() / baseline.as_secs_f64();
    // Debug rounds to the digits asked for, and pads nothing.
    let (time, baseline) = (format!("{time:.1?}"), format!("{baseline:.1?}"));
    let memory = cost.map_or_else(String::new, |cost| {
        format!("{:.1} MiB", mebibytes(cost.peak_memory))
    });
    let read = cost.and_then(|cost| cost.read);
    let read = read.map_or_else(String::new, |read| format!("{} KiB", read >> 10));
    println!("{case:64} {time:>9} {baseline:>9} {ratio:>8.3} {memory:>9} {read:>10}");
}

#[expect(clippy::cast_precision_loss, reason = "one digit is printed")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

/// The part of a stream that a conversion changes.
struct End {
    start: u64,
    bytes: Vec<u8>,
}

impl End {
    fn of(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let stream = Stream::open(&file)?;
        let start = stream
            .cpus()
            .first()
            .map_or(0, |cpu| cpu.section().range.start);
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len() - start)?];
        file.read_exact_at(&mut bytes, start)?;
        Ok(Self { start, bytes })
    }

    /// Undoes a conversion, for the next run.
    fn bring_back(&self, path: &Path) -> Result<()> {
        let file = File::options().write(true).open(path)?;
        file.write_all_at(&self.bytes, self.start)?;
        file.set_len(self.start + self.bytes.len() as u64)?;
        Ok(file.sync_all()?)
    }
}

fn create(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn unpacked(stream: &str) -> Result<Vec<u8>> {
    let path = repository().join(format!("tests/fixtures/streams/{stream}.stream.xz"));
    let mut bytes = Vec::new();
    lzma_rust2::XzReader::new(File::open(path)?, true).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes bytes so that zeros take no room.
fn sparse(bytes: &[u8], to: &File) -> io::Result<()> {
    const BLOCK: usize = 64 << 10;
    to.set_len(bytes.len() as u64)?;
    for (block, start) in bytes.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
        if block.iter().any(|byte| *byte != 0) {
            to.write_all_at(block, start)?;
        }
    }
    Ok(())
}
