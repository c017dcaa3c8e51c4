//! Whole commands, beside `cat` and `cp`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use cpreg_stream::Stream;
use cpreg_testdata::large_stream::{self, Size};
use e2e_framework::Result;

use crate::inputs::{
    GIB, MAPPED_RAM, MIB, RECORDED_SIZE, RUNS, create, remove, unpack_stream, write_sparse,
};
use crate::table::{print, print_header};
use crate::{filter, measure, plan, rehearsal};

/// Measures everything.
///
/// # Errors
/// If something cannot be made or run.
pub(crate) fn measure_all(bench: &Benchmark<'_>) -> Result<()> {
    print_header();
    for (name, size) in [
        ("64 MiB of RAM", RECORDED_SIZE),
        (
            "1 GiB of RAM",
            Size {
                ram: GIB,
                sent_ram: GIB,
                ..RECORDED_SIZE
            },
        ),
        (
            "2 GiB of RAM",
            Size {
                ram: 2 * GIB,
                sent_ram: 2 * GIB,
                ..RECORDED_SIZE
            },
        ),
        (
            "4 vCPUs",
            Size {
                vcpus: 4,
                ..RECORDED_SIZE
            },
        ),
        (
            "64 vCPUs",
            Size {
                vcpus: 64,
                ..RECORDED_SIZE
            },
        ),
        (
            "256 vCPUs",
            Size {
                vcpus: 256,
                ..RECORDED_SIZE
            },
        ),
    ] {
        bench.stream(name, size)?;
    }
    bench.measure_filter()?;
    bench.measure_mapped_ram("8 GiB of RAM, mapped-ram", 8 * GIB)?;
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
    for row in plan::run(source, destination)? {
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
pub(crate) struct Benchmark<'f> {
    pub(crate) folder: &'f Path,
    /// The program.
    pub(crate) cpreg: String,
    pub(crate) source: Vec<u8>,
    pub(crate) destination: Vec<u8>,
}

impl Benchmark<'_> {
    /// All that is measured of a stream of this size.
    fn stream(&self, name: &str, size: Size) -> Result<()> {
        // The stream, a copy, and nearly as much again, so that nothing else comes to its end.
        let needed = 3 * size.sent_ram + 64 * MIB;
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
        large_stream::write(&self.source, size, &create(&vm)?)?;
        let pages = 0;
        large_stream::write(
            &self.destination,
            Size {
                sent_ram: pages,
                ..size
            },
            &create(&self.folder.join("there"))?,
        )?;
        self.measure_reading(name)?;

        let out = self.folder.join("out");
        let end = StreamTail::read(&vm)?;
        for how in [&["-o", "out"][..], &["--in-place"]] {
            let command = [&["convert", "vm", "--to", "there"], how].concat();
            let as_before = || {
                remove(&out)?;
                end.restore(&vm)
            };
            let case = format!("convert {}, {name}", how[0]);
            self.row(&case, &command, "cp vm out && sync out", as_before)?;
        }
        remove(&out)?;
        remove(&vm)
    }

    /// `filter`, of 2 GiB of RAM.
    pub(crate) fn measure_filter(&self) -> Result<()> {
        let size = Size {
            ram: 2 * GIB,
            sent_ram: 2 * GIB,
            ..RECORDED_SIZE
        };
        let free = rustix::fs::statvfs(self.folder)?;
        if free.f_bavail * free.f_frsize < 3 * GIB {
            println!("filter, 2 GiB of RAM: left out: 3 GiB of disk are needed");
            return Ok(());
        }
        let vm = self.folder.join("vm");
        large_stream::write(&self.source, size, &create(&vm)?)?;
        let there = Size {
            sent_ram: 0,
            ..size
        };
        large_stream::write(
            &self.destination,
            there,
            &create(&self.folder.join("there"))?,
        )?;
        let (cost, baseline) = filter::run(&self.cpreg, self.folder)?;
        print(
            "filter, 2 GiB of RAM, from pipe to pipe",
            cost.time,
            baseline.time,
            Some(cost),
        );
        remove(&vm)
    }

    fn measure_mapped_ram(&self, name: &str, ram: u64) -> Result<()> {
        let small = create(&self.folder.join("small"))?;
        write_sparse(&unpack_stream(MAPPED_RAM)?, &small)?;
        for file in ["vm", "there"] {
            large_stream::write_mapped_ram(&small, ram, &create(&self.folder.join(file))?)?;
        }
        self.measure_reading(name)
    }

    /// `show` and `check`.
    fn measure_reading(&self, name: &str) -> Result<()> {
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
        let (cost, baseline) = measure::run_alternating(
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
struct StreamTail {
    start: u64,
    bytes: Vec<u8>,
}

impl StreamTail {
    fn read(path: &Path) -> Result<Self> {
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
    fn restore(&self, path: &Path) -> Result<()> {
        let file = File::options().write(true).open(path)?;
        file.write_all_at(&self.bytes, self.start)?;
        file.set_len(self.start + self.bytes.len() as u64)?;
        Ok(file.sync_all()?)
    }
}
