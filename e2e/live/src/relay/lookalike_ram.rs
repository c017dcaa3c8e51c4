//! RAM full of what looks like device state: parts of a real stream's end, so that pages begin and end with sections, footers
//! and end marks. A relay that takes any of it for the stream's own would stop, change it, or see an end that is none.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde_json::json;

use super::cases::RelayCase;
use super::migration::{Migration, RelayOption};
use crate::steps::Fixture;
use e2e_framework::Result;

/// Where they are, beyond what the guest uses.
const RAM_ADDRESS: u64 = 0x4300_0000;
const PAGE: usize = 4096;
/// How much of the stream's end is taken: the device state, its end mark, the description.
const STREAM_TAIL_LEN: u64 = 256 << 10;
/// What begins a section of a vCPU behind its type and number, and what ends it.
const CPU_SECTION_HEADER: &[u8] = b"\x03cpu\0\0\0";
const MAX_PAGES: usize = 1024;

/// See [`super::cases::Scenario::LookalikeRam`].
pub(crate) fn run(bench: &Fixture, case: &RelayCase) -> Result<String> {
    let folder = tempfile::Builder::new().tempdir_in(bench.folder())?;
    let file = folder.path().join("imitations");
    let bytes = make(&bench.stream_of(case)?)?;
    fs::write(&file, &bytes)?;
    // The destination gets them with its RAM only.
    let device = format!(
        "loader,file={},addr={RAM_ADDRESS:#x},force-raw=on",
        file.display()
    );
    let consent = if case.mode.has_return_path() {
        RelayOption::None
    } else {
        RelayOption::AllowNoReturnPath
    };
    let vcpus = case.machine.vcpus;
    let migration = Migration::with_relay(bench, case, vcpus, consent, &["-device", &device])?;
    migration.run_with_output(|migration| {
        let status = migration.send()?;
        let arrived = migration.assert_arrived(&status)?;
        migration
            .relay()?
            .assert_exit(0, &["destination"], "the VM is")?;
        let saved = folder.path().join("saved");
        for end in [&mut migration.source, &mut migration.destination] {
            let arguments = json!({
                "val": RAM_ADDRESS,
                "size": bytes.len(),
                "filename": saved.display().to_string(),
            });
            end.execute("pmemsave", arguments)?;
            if fs::read(&saved)? != bytes {
                return Err("what is in RAM is not what was put there".into());
            }
        }
        Ok(format!(
            "{} pages of imitations arrived as they were; {arrived}",
            bytes.len() / PAGE
        ))
    })
}

/// Pages that begin with each byte near the beginning of something, and pages that end with each near the end of something.
fn make(stream: &Path) -> Result<Vec<u8>> {
    let mut file = fs::File::open(stream)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(STREAM_TAIL_LEN)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let found: Vec<_> = tail
        .windows(CPU_SECTION_HEADER.len())
        .enumerate()
        .filter(|(_, window)| *window == CPU_SECTION_HEADER)
        // A type and a number of four bytes stand before its name.
        .filter_map(|(place, _)| place.checked_sub(5))
        .collect();
    if found.len() < 2 {
        return Err("no vCPUs in the stream's end".into());
    }
    let mut pages = Vec::new();
    let mut take = |from: usize| {
        let page = tail.get(from..(from + PAGE).min(tail.len()));
        if let Some(page) = page.filter(|_| pages.len() < MAX_PAGES * PAGE) {
            pages.extend_from_slice(page);
            // The last one is short: behind a stream's end come zeros.
            pages.resize(pages.len().next_multiple_of(PAGE), 0);
        }
    };
    for section in &found {
        // Around its beginning (and the footer before it), as a page's first bytes and as its last.
        for place in section.saturating_sub(16)..section + 16 {
            take(place);
            take(place.saturating_sub(PAGE));
        }
    }
    // All of it, in a row, from the first vCPU on: the end mark and the description included.
    let mut place = found.first().copied().unwrap_or_default();
    while place < tail.len() {
        take(place);
        place += PAGE;
    }
    Ok(pages)
}
