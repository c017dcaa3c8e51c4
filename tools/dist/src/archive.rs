//! Archives (`.tar.gz`) of folders. Order, owners and times of the entries depend on the content
//! only.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// Writes an archive of a folder, by its path relative to `base`.
///
/// # Errors
/// Returns an error if a file cannot be read or written.
pub(crate) fn write(path: &Path, base: &Path, folder: &Path, time: u64) -> io::Result<()> {
    let file = File::create(path)?;
    let mut tar = Builder::new(
        GzBuilder::new()
            .mtime(0)
            .write(file, Compression::default()),
    );
    append(&mut tar, base, folder, time)?;
    tar.into_inner()?.finish()?;
    Ok(())
}

/// Appends a folder, by its path relative to `base`, with all that it contains.
///
/// # Errors
/// Returns an error if a file cannot be read or appended.
fn append(
    tar: &mut Builder<impl io::Write>,
    base: &Path,
    folder: &Path,
    time: u64,
) -> io::Result<()> {
    let entries = fs::read_dir(base.join(folder))?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    for name in names {
        let relative = folder.join(name);
        let path = base.join(&relative);
        let metadata = path.symlink_metadata()?;
        let mut header = Header::new_gnu();
        header.set_mtime(time);
        if metadata.is_dir() {
            append(tar, base, &relative, time)?;
        } else if metadata.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            tar.append_link(&mut header, &relative, fs::read_link(&path)?)?;
        } else {
            let is_program = metadata.permissions().mode() & 0o111 != 0;
            header.set_size(metadata.len());
            header.set_mode(if is_program { 0o755 } else { 0o644 });
            tar.append_data(&mut header, &relative, File::open(&path)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_and_modes(bytes: &[u8]) -> Vec<(String, u32)> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 7);
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            (name, header.mode().unwrap())
        });
        entries.collect()
    }

    #[test]
    fn entries_are_in_order_and_have_one_time() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("p");
        fs::create_dir_all(root.join("b")).unwrap();
        fs::write(root.join("b/program"), "#!/bin/sh").unwrap();
        fs::set_permissions(root.join("b/program"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(root.join("c"), "text").unwrap();
        std::os::unix::fs::symlink("c", root.join("a")).unwrap();
        let pack = || {
            let mut tar = Builder::new(Vec::new());
            append(&mut tar, base.path(), Path::new("p"), 7).unwrap();
            tar.into_inner().unwrap()
        };
        let archive = pack();
        let expected = [("p/a", 0o777), ("p/b/program", 0o755), ("p/c", 0o644)];
        let expected = expected.map(|(name, mode)| (name.to_owned(), mode));
        assert_eq!(names_and_modes(&archive), expected);
        assert_eq!(pack(), archive);
    }
}
