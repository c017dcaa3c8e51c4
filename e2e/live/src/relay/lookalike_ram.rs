//! Cases whose RAM looks like device state: its pages are parts of the end of a real stream, so
//! they begin and end with sections, footers and end marks.
//!
//! A relay that took these pages for the stream's own structures would stop, change them, or see a
//! wrong end of the stream.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde_json::json;

use super::cases::RelayCase;
use super::migration::{Migration, RelayOption};
use crate::steps::Fixture;
use e2e_framework::Result;

/// Address of the pages, which the guest does not use.
const RAM_ADDRESS: u64 = 0x4300_0000;
const PAGE: usize = 4096;
/// Length of the copied end of the stream: the device state, its end mark, the description.
const STREAM_TAIL_LEN: u64 = 256 << 10;
/// Beginning of a vCPU's section, after its type and number.
const CPU_SECTION_HEADER: &[u8] = b"\x03cpu\0\0\0";
const MAX_PAGES: usize = 1024;

/// Runs [`super::cases::Scenario::LookalikeRam`].
pub(crate) fn run(fixture: &Fixture, case: &RelayCase) -> Result<String> {
    let folder = tempfile::Builder::new().tempdir_in(fixture.folder())?;
    let file = folder.path().join("imitations");
    let bytes = lookalike_pages(&fixture.stream_of(case)?)?;
    fs::write(&file, &bytes)?;
    // The destination receives the pages only with its RAM.
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
    let migration = Migration::with_relay(fixture, case, vcpus, consent, &["-device", &device])?;
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
                return Err("the pages in RAM have changed".into());
            }
        }
        Ok(format!(
            "{} lookalike pages arrived unchanged; {arrived}",
            bytes.len() / PAGE
        ))
    })
}

/// Returns pages from the end of a stream. For each byte near the beginning of a vCPU's section,
/// one page begins there, and another page ends there.
fn lookalike_pages(stream: &Path) -> Result<Vec<u8>> {
    let mut file = fs::File::open(stream)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(STREAM_TAIL_LEN)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let sections: Vec<_> = tail
        .windows(CPU_SECTION_HEADER.len())
        .enumerate()
        .filter(|(_, window)| *window == CPU_SECTION_HEADER)
        // A type and a number of four bytes precede the name.
        .filter_map(|(offset, _)| offset.checked_sub(5))
        .collect();
    if sections.len() < 2 {
        return Err("no vCPUs in the stream's end".into());
    }
    let mut pages = Vec::new();
    let mut add_page = |from: usize| {
        let page = tail.get(from..(from + PAGE).min(tail.len()));
        if let Some(page) = page.filter(|_| pages.len() < MAX_PAGES * PAGE) {
            pages.extend_from_slice(page);
            // The last page is short. Zeros follow the end of a stream.
            pages.resize(pages.len().next_multiple_of(PAGE), 0);
        }
    };
    for section in &sections {
        // The beginning of the section, and the footer before it, become the first bytes of a page,
        // and the last ones of another.
        for offset in section.saturating_sub(16)..section + 16 {
            add_page(offset);
            add_page(offset.saturating_sub(PAGE));
        }
    }
    // Then everything from the first vCPU on, including the end mark and the description.
    let mut offset = sections.first().copied().unwrap_or_default();
    while offset < tail.len() {
        add_page(offset);
        offset += PAGE;
    }
    Ok(pages)
}
