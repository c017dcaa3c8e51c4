//! Whole commands, compared with `cat` and `cp`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use cpreg_stream::Stream;
use cpreg_testdata::large_stream::{self, Size};
use e2e_framework::Result;

use crate::inputs::{
    self, DESTINATION_FILE, GIB, MAPPED_RAM, MIB, RECORDED_SIZE, RUNS, create, remove,
    unpack_stream, write_sparse,
};
use crate::table::{print_header, print_row};
use crate::{filter, measure, plan, rehearsal};

/// Measures everything but saved VMs.
///
/// # Errors
/// Returns an error if something cannot be made or run.
pub(crate) fn measure_all(benchmark: &Benchmark<'_>) -> Result<()> {
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
        benchmark.measure_stream(name, size)?;
    }
    benchmark.measure_filter()?;
    benchmark.measure_mapped_ram("8 GiB of RAM, mapped-ram", 8 * GIB)?;
    for row in rehearsal::run(&benchmark.cpreg, benchmark.folder)? {
        print_row(
            &row.case,
            row.rehearsal.time,
            row.start.time,
            Some(row.rehearsal),
        );
    }
    measure_plans(&benchmark.source, &benchmark.destination)
}

/// Measures plans.
///
/// # Errors
/// Returns an error if a stream cannot be read.
pub(crate) fn measure_plans(source: &[u8], destination: &[u8]) -> Result<()> {
    for row in plan::run(source, destination)? {
        let case = format!(
            "{}, {} registers, {} allocations",
            row.case, row.registers, row.allocations
        );
        print_row(&case, row.plan, row.baseline, None);
    }
    Ok(())
}

/// Inputs of the measurements of whole commands.
#[derive(Debug)]
pub(crate) struct Benchmark<'f> {
    /// Folder in which the commands run.
    pub(crate) folder: &'f Path,
    /// Path of the program cpreg.
    pub(crate) cpreg: String,
    /// Recorded stream of the VM.
    pub(crate) source: Vec<u8>,
    /// Recorded stream of the destination.
    pub(crate) destination: Vec<u8>,
}

impl Benchmark<'_> {
    /// Measures all commands with a stream of this size.
    fn measure_stream(&self, name: &str, size: Size) -> Result<()> {
        // Space for the stream and a copy. The rest is a reserve, so that the disk does not fill
        // up.
        let needed = 3 * size.sent_ram + 64 * MIB;
        let free = rustix::fs::statvfs(self.folder)?;
        let free = free.f_bavail * free.f_frsize;
        if free < needed {
            println!(
                "{name}: skipped: {} MiB of disk are free, {} MiB are needed",
                free / MIB,
                needed / MIB
            );
            return Ok(());
        }
        let vm = self.folder.join("vm");
        inputs::write_pair(self.folder, size)?;
        self.measure_reading(name)?;

        let out = self.folder.join("out");
        let tail = StreamTail::read(&vm)?;
        for output in [&["-o", "out"][..], &["--in-place"]] {
            let command = [&["convert", "vm", DESTINATION_FILE], output].concat();
            let reset = || {
                remove(&out)?;
                tail.restore(&vm)
            };
            let case = format!("convert {}, {name}", output[0]);
            self.measure_row(&case, &command, "cp vm out && sync out", reset)?;
        }
        remove(&out)?;
        remove(&vm)
    }

    /// Measures `filter` with 2 GiB of RAM.
    pub(crate) fn measure_filter(&self) -> Result<()> {
        let size = Size {
            ram: 2 * GIB,
            sent_ram: 2 * GIB,
            ..RECORDED_SIZE
        };
        let free = rustix::fs::statvfs(self.folder)?;
        if free.f_bavail * free.f_frsize < 3 * GIB {
            println!("filter, 2 GiB of RAM: skipped: 3 GiB of disk are needed");
            return Ok(());
        }
        let vm = self.folder.join("vm");
        inputs::write_pair(self.folder, size)?;
        let (cost, baseline) = filter::run(&self.cpreg, self.folder)?;
        print_row(
            "filter, 2 GiB of RAM, from pipe to pipe",
            cost.time,
            baseline.time,
            Some(cost),
        );
        remove(&vm)
    }

    fn measure_mapped_ram(&self, name: &str, ram: u64) -> Result<()> {
        let recorded = create(&self.folder.join("small"))?;
        write_sparse(&unpack_stream(MAPPED_RAM)?, &recorded)?;
        for file in ["vm", DESTINATION_FILE] {
            large_stream::write_mapped_ram(&recorded, ram, &create(&self.folder.join(file))?)?;
        }
        self.measure_reading(name)
    }

    /// Measures `show` and `check`.
    fn measure_reading(&self, name: &str) -> Result<()> {
        for command in [&["show", "vm"][..], &["check", "vm", DESTINATION_FILE]] {
            let case = format!("{}, {name}", command[0]);
            self.measure_row(&case, command, "cat vm > /dev/null", || Ok(()))?;
        }
        Ok(())
    }

    /// Measures one command with its baseline, a command of the shell, and prints the row.
    pub(crate) fn measure_row(
        &self,
        case: &str,
        arguments: &[&str],
        baseline: &str,
        prepare: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let command = [&[self.cpreg.as_str()], arguments].concat();
        let (cost, baseline) = measure::run_alternating(
            RUNS,
            prepare,
            || measure::run(self.folder, &command),
            || measure::run(self.folder, &["sh", "-c", baseline]),
        )?;
        print_row(case, cost.time, baseline.time, Some(cost));
        Ok(())
    }
}

/// End of a stream, from the first vCPU on: the part that a conversion changes.
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

    /// Writes this end into the file again, which undoes a conversion.
    fn restore(&self, path: &Path) -> Result<()> {
        let file = File::options().write(true).open(path)?;
        file.write_all_at(&self.bytes, self.start)?;
        file.set_len(self.start + self.bytes.len() as u64)?;
        Ok(file.sync_all()?)
    }
}
