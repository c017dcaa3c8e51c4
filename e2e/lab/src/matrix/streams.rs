//! Streams of the matrix: one from each QEMU on each kernel, saved while the guest runs under KVM.
//!
//! Each stream is `matrix/streams/KERNEL__CPU__qemu-SERIES.stream` in the lab folder, and is
//! written once.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::loads::job;
use super::outcome::errors;
use e2e_framework::Result;
use e2e_framework::guest::Guest;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::folder::Lab;

/// Returns the path of a stream.
pub(crate) fn stream_path(lab: &Lab, host: &EmulatedHost<'_>, series: &str) -> PathBuf {
    let name = format!("{}__qemu-{series}.stream", host.name());
    lab.folder.join("matrix/streams").join(name)
}

/// Saves the missing streams of these QEMUs on this host.
///
/// # Errors
/// Returns an error if a QEMU writes no stream, with its output.
pub(crate) fn ensure(lab: &Lab, host: &EmulatedHost<'_>, series: &[&str]) -> Result<()> {
    let missing: Vec<_> = series
        .iter()
        .filter(|series| !stream_path(lab, host, series).exists())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut job = job(lab, Guest::Aarch64)?;
    for series in &missing {
        writeln!(job.script, "save {series} qemu-{series}")?;
    }
    let results = lab.folder.join("results/save").join(host.name());
    host.run(lab, &job, &results)?;
    for series in missing {
        let name = format!("qemu-{series}");
        let log = fs::read_to_string(results.join(format!("{name}.log"))).unwrap_or_default();
        let serial = fs::read_to_string(results.join(format!("{name}.serial"))).unwrap_or_default();
        if !log.contains("\"status\": \"completed\"") {
            return Err(format!(
                "{}: QEMU {series} wrote no stream: {}; output of the guest: {}",
                host.name(),
                errors(&log).join("; "),
                serial.trim_end()
            )
            .into());
        }
        let path = stream_path(lab, host, series);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // A rename suffices, because both paths are below the lab folder.
        fs::rename(results.join(format!("{name}.stream")), path)?;
    }
    Ok(())
}
