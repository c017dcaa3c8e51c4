//! Streams of the matrix: one from each QEMU on each kernel, saved while the guest runs under KVM.
//!
//! Each stream is `matrix/streams/KERNEL__CPU__qemu-SERIES.stream` in the lab folder, and is
//! written once.

use std::fs;
use std::path::PathBuf;

use super::loads::job;
use super::outcome::GuestOutcome;
use crate::interposed::{RunPrograms, lines_with_options, lines_with_run};
use e2e_framework::Result;
use e2e_framework::guest::Guest;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::folder::Lab;

/// Start of the QEMU of a saved guest, with settings for the guest.
#[derive(Clone, Debug)]
pub(crate) struct Birth {
    /// Part of the name of the streams.
    pub(crate) name: String,
    pub(crate) settings: BirthSettings,
    /// Files for the host: name below `/job`, and path on this machine.
    pub(crate) files: Vec<(String, PathBuf)>,
    pub(crate) programs: RunPrograms,
}

/// Program that makes the settings of a guest.
#[derive(Clone, Debug)]
pub(crate) enum BirthSettings {
    /// `cpreg run` with these options, which starts QEMU.
    Run(Vec<String>),
    /// QEMU itself, with these options.
    Qemu(String),
}

impl BirthSettings {
    /// Returns the options.
    pub(crate) fn options(&self) -> Vec<String> {
        match self {
            Self::Run(options) => options.clone(),
            Self::Qemu(options) => options.split(' ').map(str::to_owned).collect(),
        }
    }

    /// Returns lines of a script whose QEMUs start with the settings.
    fn lines(&self, lines: &str) -> String {
        match self {
            Self::Run(options) => lines_with_run(options, lines),
            Self::Qemu(options) => lines_with_options(options, lines),
        }
    }
}

/// Returns the path of a stream.
pub(crate) fn stream_path(
    lab: &Lab,
    host: &EmulatedHost<'_>,
    series: &str,
    birth: Option<&Birth>,
) -> PathBuf {
    let name = host.name();
    let name = match birth {
        None => format!("{name}__qemu-{series}.stream"),
        Some(birth) => format!("{name}__qemu-{series}__{}.stream", birth.name),
    };
    lab.folder.join("matrix/streams").join(name)
}

/// Saves the missing streams of these QEMUs on this host.
///
/// # Errors
/// Returns an error if a QEMU writes no stream, with its output.
pub(crate) fn ensure(
    lab: &Lab,
    host: &EmulatedHost<'_>,
    series: &[&str],
    birth: Option<&Birth>,
) -> Result<()> {
    let missing: Vec<_> = series
        .iter()
        .filter(|series| !stream_path(lab, host, series, birth).exists())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut job = job(lab, Guest::Aarch64)?;
    for series in &missing {
        let line = format!("save {series} qemu-{series}\n");
        match birth {
            None => job.script += &line,
            Some(birth) => job.script += &birth.settings.lines(&line),
        }
    }
    if let Some(birth) = birth {
        birth.programs.add_to(&mut job);
        job.files.extend(birth.files.clone());
    }
    let results = lab.folder.join("results/save").join(host.name());
    host.run(lab, &job, &results)?;
    for series in missing {
        let name = format!("qemu-{series}");
        let log = fs::read_to_string(results.join(format!("{name}.log"))).unwrap_or_default();
        let serial = fs::read_to_string(results.join(format!("{name}.serial"))).unwrap_or_default();
        if !log.contains("\"status\": \"completed\"") {
            let outcome = GuestOutcome::from_logs(&log, &serial);
            return Err(format!(
                "{}: QEMU {series} wrote no stream: {}; cpreg: {}; output of the guest: {}",
                host.name(),
                outcome.errors.join("; "),
                outcome.cpreg.join("; "),
                serial.trim_end()
            )
            .into());
        }
        let path = stream_path(lab, host, series, birth);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // A rename suffices, because both paths are below the lab folder.
        fs::rename(results.join(format!("{name}.stream")), path)?;
    }
    Ok(())
}
