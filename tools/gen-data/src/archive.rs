//! Reads tar archives of text files, as recordings come in.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::error::Result;

/// The text files of a tar archive packed with xz, by name.
pub(crate) fn unpack_xz(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut bytes = Vec::new();
    lzma_rust2::XzReader::new(File::open(path)?, true).read_to_end(&mut bytes)?;
    unpack(&bytes).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The text files of a tar archive (POSIX ustar, or GNU's of names that fit), by name.
fn unpack(mut archive: &[u8]) -> std::result::Result<BTreeMap<String, String>, String> {
    const BLOCK: usize = 512;
    let mut files = BTreeMap::new();
    while let Some((header, rest)) = archive.split_at_checked(BLOCK) {
        archive = rest;
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let text = |from: usize, to: usize| {
            let text = String::from_utf8_lossy(&header[from..to]);
            text.trim_matches([' ', '\0']).to_owned()
        };
        let size = usize::from_str_radix(&text(124, 136), 8)
            .map_err(|_| "a file of no size: this is no tar archive".to_owned())?;
        let content = archive.get(..size).ok_or("it ends within a file")?;
        let name = text(0, 100);
        match header[156] {
            b'0' | 0 => {
                let name = name.trim_start_matches("./").to_owned();
                files.insert(name, String::from_utf8_lossy(content).into_owned());
            }
            b'5' => {}
            kind => {
                return Err(format!(
                    "{name}: of kind {:?}, which is not read",
                    char::from(kind)
                ));
            }
        }
        let padded = size.next_multiple_of(BLOCK).min(archive.len());
        archive = &archive[padded..];
    }
    Ok(files)
}
