//! `SHA256SUMS`, in the form that `sha256sum --check` reads.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::project::Result;

const NAME: &str = "SHA256SUMS";

/// Writes the checksums of all files in the folder. Returns the names and lengths of these files.
///
/// # Errors
/// Returns an error if a file cannot be read or written.
pub(crate) fn write(folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| "no UTF-8")?;
        if entry.file_type()?.is_file() && name != NAME {
            files.push((name, entry.metadata()?.len()));
        }
    }
    files.sort();
    let mut sums = String::new();
    for (name, _) in &files {
        let mut digest = Sha256::new();
        io::copy(
            &mut File::open(folder.join(name))?,
            &mut HashWriter(&mut digest),
        )?;
        let _ = writeln!(sums, "{}  {name}", hex::encode(digest.finalize()));
    }
    fs::write(folder.join(NAME), sums)?;
    Ok(files)
}

/// Writer into a digest.
struct HashWriter<'d>(&'d mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_line() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b"), "abc").unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        // A second run leaves its own file out.
        for _ in 0..2 {
            let files = write(folder.path()).unwrap();
            assert_eq!(files, [("a".to_owned(), 0), ("b".to_owned(), 3)]);
        }
        let sums = fs::read_to_string(folder.path().join(NAME)).unwrap();
        let expected = "\
            e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n\
            ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  b\n";
        assert_eq!(sums, expected);
    }
}
