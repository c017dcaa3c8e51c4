//! Whole commands, beside `cat` and `cp`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use cpreg_stream::Stream;
use cpreg_testdata::grown::{self, Size};
use e2e_framework::Result;

use crate::inputs::{GIB, MAPPED, MIB, RECORDED, RUNS, create, remove, sparse, unpacked};
use crate::table::{head, print};
use crate::{measure, passing, planning, rehearsal};

/// Measures everything.
///
/// # Errors
/// If something cannot be made or run.
pub(crate) fn all(bench: &Bench<'_>) -> Result<()> {
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

/// Measures what a plan costs.
///
/// # Errors
/// If a stream cannot be read.
pub(crate) fn plans(source: &[u8], destination: &[u8]) -> Result<()> {
    for row in planning::run(source, destination)? {
        let case = format!(
            "{}, {} registers, {} allocations",
            row.case, row.registers, row.allocations
        );
        print(&case, row.plan, row.baseline, None);
    }
    Ok(())
}

/// What whole commands are measured with.
#[derive(Debug)]
pub(crate) struct Bench<'f> {
    pub(crate) folder: &'f Path,
    /// The program.
    pub(crate) cpreg: String,
    pub(crate) source: Vec<u8>,
    pub(crate) destination: Vec<u8>,
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
    pub(crate) fn passing(&self) -> Result<()> {
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
