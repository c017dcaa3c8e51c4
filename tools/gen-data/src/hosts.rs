//! `cargo xtask gen-history [--check] FOLDER`: makes `crates/cpreg-hosts/data/history.txt` out of recorded hosts.
//!
//! FOLDER holds what `cpreg probe kvm` wrote, a file for each host: `KERNEL__CPU[+MODE].json`. The history holds all that they say, so
//! that nothing needs the files but this task.

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

/// Writes the history, or with `--check` compares it.
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
            format!("{OUTPUT} is not what {folder} gives: run cargo xtask gen-history {folder}")
                .into(),
        )
    }
}

/// The recorded hosts in a folder, by name of their files.
pub(crate) fn records(folder: &Path) -> Result<Vec<(String, HostRecord)>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(".json") else {
            continue;
        };
        let within = |error: String| format!("{}: {error}", path.display());
        let record = HostRecord::from_json(&fs::read(&path)?);
        let record = record.map_err(|error| within(error.to_string()))?;
        let own = file_name(&record);
        if own != name {
            return Err(within(format!("what it holds is {own}")).into());
        }
        records.push((own, record));
    }
    if records.is_empty() {
        return Err(format!("{} has no KERNEL__CPU.json", folder.display()).into());
    }
    // A version's numbers, to order versions by.
    records.sort_by_cached_key(|(name, record)| {
        let numbers = record.identity.upstream().split('.');
        let numbers: Vec<u32> = numbers.filter_map(|part| part.parse().ok()).collect();
        (numbers, record.identity.release.clone(), name.clone())
    });
    Ok(records)
}

/// What the file of a recorded host is called: `6.12.107__max+nested`.
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
