//! `cargo xtask gen-history [--check] FOLDER`: generates `crates/cpreg-hosts/data/history.txt` from
//! recorded hosts.
//!
//! FOLDER holds output files of `cpreg probe kvm`, one for each host: `KERNEL__CPU[+MODE].json`.
//! The history has all their data, so nothing else needs the files.

use std::fs;
use std::path::Path;

use cpreg_hosts::{HostIndex, HostRecord};

use crate::error::Result;
use crate::paths::repository;

const OUTPUT: &str = "crates/cpreg-hosts/data/history.txt";

const HEADER: &str = "\
# Registers of guests on recorded hosts, with their values and the other values that were accepted.
# Made by `cargo xtask gen-history FOLDER`. Format: crates/cpreg-hosts/src/host_index/text.rs.
";

/// Writes the history; with `check`, only compares it with the existing one.
pub(crate) fn run(check: bool, folder: &Path) -> Result<()> {
    let history = history(folder)?;
    let new = format!("{HEADER}{}", history.to_text());
    let path = repository().join(OUTPUT);
    if !check {
        println!(
            "{} hosts, {} recordings, {} bytes",
            history.host_entries().len(),
            history.recordings().len(),
            new.len()
        );
        return Ok(fs::write(path, new)?);
    }
    if fs::read_to_string(path)? == new {
        Ok(())
    } else {
        let folder = folder.display();
        Err(
            format!("{OUTPUT} does not match {folder}: run cargo xtask gen-history {folder}")
                .into(),
        )
    }
}

/// Returns the recorded hosts in a folder, by file name.
pub(crate) fn records(folder: &Path) -> Result<Vec<(String, HostRecord)>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(".json") else {
            continue;
        };
        let with_path = |error: String| format!("{}: {error}", path.display());
        let record = HostRecord::from_json(&fs::read(&path)?);
        let record = record.map_err(|error| with_path(error.to_string()))?;
        let expected = file_name(&record);
        if expected != name {
            return Err(with_path(format!("the file describes {expected}")).into());
        }
        records.push((expected, record));
    }
    if records.is_empty() {
        return Err(format!("{} has no KERNEL__CPU.json", folder.display()).into());
    }
    // Sort by the numbers of the version, so that 6.9 precedes 6.12.
    records.sort_by_cached_key(|(name, record)| {
        let numbers = record.identity.upstream().split('.');
        let numbers: Vec<u32> = numbers.filter_map(|part| part.parse().ok()).collect();
        (numbers, record.identity.release.clone(), name.clone())
    });
    Ok(records)
}

/// Returns the file name of a recorded host: `6.12.107__max+nested`.
pub(crate) fn file_name(record: &HostRecord) -> String {
    let identity = &record.identity;
    format!("{}__{}", identity.upstream(), identity.cpu_and_mode())
}

fn history(folder: &Path) -> Result<HostIndex> {
    let mut history = HostIndex::default();
    for (_, record) in records(folder)? {
        history.add_record(&record);
    }
    Ok(history)
}
