//! Seeds of the fuzz targets, from the recorded fixtures.
//!
//! The seeds are rebuilt before each run and not checked in. Streams have no RAM, so that the
//! fuzzer changes parsed bytes and not pages.

mod documents;
mod images;
mod saved_vms;
mod seed;
mod streams;

use std::fs;

use wheels::Result;

use self::seed::Seed;
use crate::run::Folders;

/// Prefix of the names of seeds. Inputs of a corpus without the prefix were found by the fuzzer.
const PREFIX: &str = "seed-";

/// Builds the seeds of these targets.
///
/// # Errors
/// Returns an error if a fixture cannot be read, a seed cannot be written, or a target is unknown.
pub(crate) fn make(folders: &Folders, names: &[String]) -> Result<()> {
    let streams = streams::recorded_streams(&folders.root)?;
    for name in names {
        let seeds = match name.as_str() {
            "cloud_hypervisor_state" => saved_vms::cloud_hypervisor_states(&folders.root)?,
            "description" => streams::descriptions(&streams)?,
            "firecracker_snapshot" => saved_vms::firecracker_states(&folders.root)?,
            "host_record" => documents::host_records()?,
            "journal" => streams::journals(),
            "libvirt_image" => streams::save_images(&folders.root)?,
            "messages" => documents::messages(&folders.root)?,
            "profile" => documents::profiles()?,
            "qcow2" => images::images(&streams),
            "qmp" => documents::qmp(),
            "report" => documents::reports(&streams)?,
            "return_path" => documents::return_paths(),
            "stream_edit" => streams::edits(&streams),
            "stream_description" => streams.clone(),
            "stream_full_scan" => streams::streams_with_ram(&folders.root, &streams)?,
            "stream_incremental" => streams::chunked_streams(&folders.root, &streams)?,
            "tolerances" => documents::tolerances(),
            other => return Err(format!("no seeds exist for the target {other}").into()),
        };
        write(folders, name, &seeds)?;
    }
    Ok(())
}

/// Replaces the seeds of one target.
fn write(folders: &Folders, name: &str, seeds: &[Seed]) -> Result<()> {
    let folder = folders.corpus(name);
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            fs::remove_file(entry.path())?;
        }
    }
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("{PREFIX}{number:02}")), seed)?;
    }
    Ok(())
}
