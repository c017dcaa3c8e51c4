//! `SHA256SUMS`, in the form that `sha256sum --check` reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::project::Result;

const NAME: &str = "SHA256SUMS";

/// Writes the checksums of these files of a folder. Returns their names and lengths, in order.
///
/// # Errors
/// Returns an error if a file cannot be read or written.
pub(crate) fn write(folder: &Path, mut names: Vec<String>) -> Result<Vec<(String, u64)>> {
    names.sort();
    let mut sums = String::new();
    let mut files = Vec::new();
    for name in names {
        let (sum, length) = sum(folder, &name)?;
        let _ = writeln!(sums, "{sum}  {name}");
        files.push((name, length));
    }
    fs::write(folder.join(NAME), sums)?;
    Ok(files)
}

/// Compares the files of a release with their checksums. Returns their names and lengths.
///
/// # Errors
/// Returns an error if a file is missing, or is another one.
pub(crate) fn verify(folder: &Path, sums: &BTreeMap<String, String>) -> Result<Vec<(String, u64)>> {
    let compare = |(name, expected): (&String, &String)| {
        let (found, length) = sum(folder, name)?;
        if found == *expected {
            return Ok((name.clone(), length));
        }
        Err(format!("{name}: its checksum is {found}, not {expected}").into())
    };
    sums.iter().map(compare).collect()
}

/// Returns the checksum and the length of a file.
fn sum(folder: &Path, name: &str) -> Result<(String, u64)> {
    let mut file = File::open(folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
    let mut digest = Sha256::new();
    let length = io::copy(&mut file, &mut HashWriter(&mut digest))?;
    Ok((hex::encode(digest.finalize()), length))
}

/// Reads the names and checksums of the last release in a folder; empty without such a release.
///
/// # Errors
/// Returns an error if the list cannot be read or parsed.
pub(crate) fn read(folder: &Path) -> Result<BTreeMap<String, String>> {
    let text = match fs::read_to_string(folder.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text?,
    };
    let parse = |line: &str| {
        let (sum, name) = line.split_once("  ")?;
        Some((name.to_owned(), sum.to_owned()))
    };
    let entries = text.lines().map(|line| {
        parse(line).ok_or_else(|| format!("{NAME}: not a checksum and a name: {line}").into())
    });
    entries.collect()
}

/// Removes the files of the last release in a folder, so that none of them is taken for one of the
/// next release.
///
/// # Errors
/// Returns an error if a file cannot be removed.
pub(crate) fn remove_last_release(folder: &Path) -> Result<()> {
    for name in read(folder)?.into_keys() {
        // A name in the list is one of this folder.
        if Path::new(&name).file_name() != Some(name.as_ref()) {
            return Err(format!("{NAME}: not a file name: {name}").into());
        }
        match fs::remove_file(folder.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("{name}: {error}").into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the checksum of bytes, as OCI images and wheels need it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
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
    fn every_file_of_the_release_has_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("b"), "abc").unwrap();
        fs::write(path("a"), "").unwrap();
        fs::write(path("of-the-user"), "").unwrap();
        let files = write(folder.path(), vec!["b".to_owned(), "a".to_owned()]).unwrap();
        assert_eq!(files, [("a".to_owned(), 0), ("b".to_owned(), 3)]);
        let sums = fs::read_to_string(path(NAME)).unwrap();
        let expected = "\
            e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n\
            ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  b\n";
        assert_eq!(sums, expected);
        let read = read(folder.path()).unwrap();
        assert_eq!(read["b"], digest(b"abc"));
        assert_eq!(verify(folder.path(), &read).unwrap(), files);
        fs::write(path("b"), "other").unwrap();
        let error = verify(folder.path(), &read).unwrap_err().to_string();
        assert!(error.starts_with("b: its checksum is "), "{error}");
        remove_last_release(folder.path()).unwrap();
        assert!(!path("a").exists() && !path("b").exists());
        assert!(path("of-the-user").exists());
    }

    #[test]
    fn a_path_in_the_list_removes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        fs::write(inner.join(NAME), "00  ../a\n").unwrap();
        assert!(remove_last_release(&inner).is_err());
        assert!(folder.path().join("a").exists());
        fs::write(inner.join(NAME), "00 a\n").unwrap();
        assert!(remove_last_release(&inner).is_err());
    }
}
