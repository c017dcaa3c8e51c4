//! Reading of recordings: tar archives of text files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::Result;

/// Returns the text files of a tar archive compressed with xz, by name.
pub(crate) fn unpack_xz(path: &Path) -> Result<BTreeMap<String, String>> {
    let archive = lzma_rust2::XzReader::new(File::open(path)?, true);
    unpack(archive).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Returns the text files of a tar archive, by name.
fn unpack(archive: impl Read) -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        let name = entry.path()?.to_string_lossy().into_owned();
        if !kind.is_file() {
            let text = format!("{name}: unsupported entry of kind {kind:?}");
            return Err(io::Error::other(text));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        files.insert(name.trim_start_matches("./").to_owned(), text);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use tar::{Builder, EntryType, Header};

    use super::*;

    /// Returns an archive of a folder and one entry in it.
    fn archive(kind: EntryType) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        archive
            .append_data(&mut header, "./host", io::empty())
            .unwrap();
        header.set_entry_type(kind);
        header.set_size(5);
        archive
            .append_data(&mut header, "./host/registers", &b"text\n"[..])
            .unwrap();
        archive.into_inner().unwrap()
    }

    #[test]
    fn files_are_read_and_folders_skipped() {
        let files = unpack(&*archive(EntryType::Regular)).unwrap();
        let expected = ("host/registers".to_owned(), "text\n".to_owned());
        assert_eq!(files, BTreeMap::from([expected]));
    }

    #[test]
    fn links_and_damaged_archives_are_refused() {
        let error = unpack(&*archive(EntryType::Symlink)).unwrap_err();
        assert!(error.to_string().contains("host/registers"), "{error}");
        let archive = archive(EntryType::Regular);
        assert!(unpack(&archive[..512 + 512 + 3]).is_err());
        assert!(unpack([b'x'; 1024].as_slice()).is_err());
    }
}
