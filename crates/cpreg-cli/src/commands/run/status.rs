//! `cpreg run --status PID`: the events of a VMM that `cpreg run` started.
//!
//! The library keeps its events in a memory file of the process. The file has no path, and a link
//! in `/proc/PID/fd` opens it.

use std::fs;
use std::path::{Path, PathBuf};

use cpreg_vcpu_filter::run_status::{RunStatus, STATUS_FILE};

use crate::arguments::Format;
use crate::failure::Failure;
use crate::printer::{Printer, print_json};

/// Prints the status of a process.
pub(super) fn print(process: u32, format: Format, printer: &mut Printer) -> Result<(), Failure> {
    let status = read(process)?;
    match format {
        Format::Json => return print_json(printer, &status),
        Format::Text => status
            .to_string()
            .lines()
            .for_each(|line| printer.line(line)),
    }
    Ok(())
}

fn read(process: u32) -> Result<RunStatus, Failure> {
    let folder = PathBuf::from(format!("/proc/{process}/fd"));
    let entries = fs::read_dir(&folder).map_err(|error| {
        Failure::io("read", &folder, error)
            .with_hint("name a running process, as its own user or as root")
    })?;
    let mut files = entries.flatten().map(|entry| entry.path());
    let file = files.find(|path| is_status_file(path)).ok_or_else(|| {
        Failure::new(format!("process {process} has no status of cpreg")).with_hint(
            "the VMM has made no VM yet, or `cpreg run` did not start it; CPREG_INTERPOSE=off \
             switches cpreg off",
        )
    })?;
    let text = fs::read_to_string(&file).map_err(|error| Failure::io("read", &file, error))?;
    RunStatus::from_lines(process, &text).map_err(|error| {
        Failure::new(format!("cannot understand the status of process {process}"))
            .with_cause(error)
            .with_hint("use the cpreg that started the process")
    })
}

/// Returns `true` if the link of a descriptor is that of the memory file.
fn is_status_file(link: &Path) -> bool {
    let target = fs::read_link(link).unwrap_or_default();
    target == Path::new(&format!("/memfd:{STATUS_FILE} (deleted)"))
}
