//! [`NewFile`]: a file that has no name until it is complete.
//!
//! On Linux, the file is unnamed (`O_TMPFILE`) and vanishes when the process dies. On filesystems
//! without `O_TMPFILE` and on other systems, it is a hidden temporary file. [`crate::write`] and
//! [`crate::in_place`] fill the file.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::os::sync_directory;

/// New file that does not have its name yet.
#[derive(Debug)]
pub(crate) enum NewFile {
    /// File without a name, which vanishes with the process.
    #[cfg(target_os = "linux")]
    Unnamed(File),
    /// File with a hidden name, which is removed unless the file is persisted.
    Hidden(tempfile::NamedTempFile),
}

impl NewFile {
    /// Creates an empty file in the directory of `target`, accessible to its owner only.
    pub(crate) fn create(target: &Path) -> Result<Self, Error> {
        if let Some(file) = Self::create_unnamed(target) {
            return Ok(file);
        }
        let directory = parent_directory(target);
        tempfile::Builder::new()
            .prefix(&hidden_prefix(target))
            .tempfile_in(&directory)
            .map(Self::Hidden)
            .map_err(path_error("create a file in", &directory))
    }

    /// Creates an empty file that vanishes with the process; returns `None` if the system or the
    /// filesystem has no such files, or if creating it fails.
    #[cfg(target_os = "linux")]
    pub(crate) fn create_unnamed(target: &Path) -> Option<Self> {
        use rustix::fs::{CWD, Mode, OFlags, openat};

        // `link` names the file through /proc.
        if !Path::new("/proc/self/fd").is_dir() {
            return None;
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = openat(CWD, parent_directory(target), flags, mode).ok()?;
        Some(Self::Unnamed(file.into()))
    }

    /// Returns `None`: other systems cannot give a name to an unnamed file.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn create_unnamed(_target: &Path) -> Option<Self> {
        None
    }

    pub(crate) fn file(&self) -> &File {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => file,
            Self::Hidden(file) => file.as_file(),
        }
    }

    /// Gives the file its name atomically and syncs the directory.
    ///
    /// With `replaces`, an existing file of that name is replaced. Otherwise, an existing file is
    /// an error ([`io::ErrorKind::AlreadyExists`]).
    pub(crate) fn persist(self, target: &Path, replaces: bool) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) if replaces => {
                // A link never replaces a file; a rename of a hidden name does.
                let directory = tempfile::Builder::new()
                    .prefix(&hidden_prefix(target))
                    .tempdir_in(parent_directory(target))?;
                let hidden = directory.path().join("new");
                link(&file, &hidden)?;
                std::fs::rename(&hidden, target)?;
            }
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => link(&file, target)?,
            Self::Hidden(file) if replaces => drop(file.persist(target)?),
            Self::Hidden(file) => drop(file.persist_noclobber(target)?),
        }
        sync_directory(&parent_directory(target))
    }
}

fn hidden_prefix(target: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(target.file_name().unwrap_or_default());
    prefix.push(".cpreg-");
    prefix
}

#[cfg(target_os = "linux")]
fn link(file: &File, target: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, CWD, linkat};

    let proc = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, proc, CWD, target, AtFlags::SYMLINK_FOLLOW)?;
    Ok(())
}

/// Returns the directory of a file.
pub(crate) fn parent_directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Returns a conversion from [`io::Error`] to [`Error`] that names the action and the file.
pub(crate) fn path_error<'p>(
    action: &str,
    path: &'p Path,
) -> impl Fn(io::Error) -> Error + use<'p> {
    let message = format!("cannot {action} {}", path.display());
    move |error| Error::io(message.clone(), error)
}
