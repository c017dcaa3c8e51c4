//! Small files that are written completely or not at all.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes a file, in place of an existing one. Without `mode` only the owner has access.
///
/// A rename would replace a device such as `/dev/null`, or the pipe of another program. They get
/// the content as it is. A symbolic link stays, and its target is replaced.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub(crate) fn replace(path: &Path, content: &[u8], mode: Option<u32>) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return OpenOptions::new()
            .write(true)
            .open(path)?
            .write_all(content);
    }
    let target = fs::canonicalize(path);
    let path = target.as_deref().unwrap_or(path);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(content)?;
    if let Some(mode) = mode {
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, symlink};
    use std::thread;

    use super::*;

    #[test]
    fn pipes_and_links_are_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name| folder.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RWXU).expect("a pipe");
        let pipe = at("pipe");
        let reader = thread::spawn(move || fs::read(pipe).expect("the content"));
        replace(&at("pipe"), b"piped", None).expect("a pipe");
        assert_eq!(reader.join().expect("no panic"), b"piped");
        let kind = at("pipe").metadata().expect("a pipe").file_type();
        assert!(kind.is_fifo());

        fs::write(at("file"), "old").expect("a file");
        symlink("file", at("link")).expect("a link");
        replace(&at("link"), b"new", Some(0o600)).expect("a link");
        assert_eq!(fs::read(at("file")).expect("a file"), b"new");
        assert!(at("link").symlink_metadata().expect("a link").is_symlink());

        replace(&at("other"), b"text", Some(0o644)).expect("a new file");
        assert_eq!(fs::read(at("other")).expect("a file"), b"text");
        assert!(replace(folder.path(), b"text", None).is_err());
    }
}
