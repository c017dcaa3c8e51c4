//! Files on this system: reads and writes at an offset, identity, locks, permissions.
//!
//! The rest of the crate is the same on every system; the substitutes of systems that lack
//! something are here.

pub(crate) use system::{
    Lock, copy_permissions, is_same_file, length, read_exact_at, sync_directory, write_all_at,
};

#[cfg(unix)]
mod system {
    use std::fs::{File, Metadata, Permissions};
    use std::io::{self, Seek as _, SeekFrom};
    use std::os::unix::fs::{
        FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
    };
    use std::path::Path;

    use rustix::fs::{FlockOperation, flock};
    use rustix::io::Errno;

    /// The length of what a file holds.
    pub(crate) fn length(mut file: &File) -> io::Result<u64> {
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if kind.is_block_device() {
            // Its metadata says 0. The position is not used by anything else here.
            return file.seek(SeekFrom::End(0));
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_char_device() {
            return Err(io::ErrorKind::NotSeekable.into());
        }
        Ok(metadata.len())
    }

    pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(buffer, offset)
    }

    pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// Returns `true` if `file` is the file at `path`, whose metadata is `other`.
    pub(crate) fn is_same_file(file: &File, _path: &Path, other: &Metadata) -> bool {
        file.metadata()
            .is_ok_and(|it| (it.dev(), it.ino()) == (other.dev(), other.ino()))
    }

    /// Gives a file the permissions of another, or its owner's only.
    pub(crate) fn copy_permissions(from: Option<&File>, to: &File) -> io::Result<()> {
        let mode = match from {
            Some(file) => file.metadata().map_or(0o600, |it| it.permissions().mode()),
            None => 0o600,
        };
        to.set_permissions(Permissions::from_mode(mode & 0o777))
    }

    /// Makes changes of names in a directory last.
    pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
        match File::open(directory)?.sync_all() {
            // Some filesystems cannot sync directories, and need not.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
            _ => Ok(()),
        }
    }

    /// An advisory lock (`flock`), which belongs to the open file.
    #[derive(Debug)]
    pub(crate) struct Lock(File);

    impl Lock {
        /// Takes it at once, or fails with [`io::ErrorKind::WouldBlock`] if somebody else has it;
        /// nothing where the filesystem knows no locks.
        pub(crate) fn take(file: &File) -> io::Result<Option<Self>> {
            match flock(file, FlockOperation::NonBlockingLockExclusive) {
                // The same open file: what is locked there is locked here.
                Ok(()) => file.try_clone().map(|file| Some(Self(file))),
                Err(Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
                Err(_) => Ok(None),
            }
        }
    }

    impl Drop for Lock {
        fn drop(&mut self) {
            // Closing the file ends it as well.
            let _ = flock(&self.0, FlockOperation::Unlock);
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::{File, Metadata};
    use std::io;
    use std::path::Path;

    /// The length of what a file holds.
    pub(crate) fn length(file: &File) -> io::Result<u64> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(metadata.len())
    }

    #[cfg(windows)]
    pub(crate) fn read_exact_at(
        file: &File,
        mut buffer: &mut [u8],
        mut offset: u64,
    ) -> io::Result<()> {
        use std::os::windows::fs::FileExt as _;

        while !buffer.is_empty() {
            match file.seek_read(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = &mut buffer[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    #[cfg(windows)]
    pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        use std::os::windows::fs::FileExt as _;

        while !bytes.is_empty() {
            match file.seek_write(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    #[cfg(not(windows))]
    pub(crate) fn read_exact_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(not(windows))]
    pub(crate) fn write_all_at(_: &File, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns `true` if `file` is the file at `path`. Metadata does not tell here.
    pub(crate) fn is_same_file(file: &File, path: &Path, _other: &Metadata) -> bool {
        let handles = file
            .try_clone()
            .and_then(same_file::Handle::from_file)
            .and_then(|file| Ok((file, same_file::Handle::from_path(path)?)));
        handles.is_ok_and(|(one, other)| one == other)
    }

    /// Nothing: a new file has the permissions of its folder here.
    pub(crate) fn copy_permissions(_from: Option<&File>, _to: &File) -> io::Result<()> {
        Ok(())
    }

    /// Nothing: a directory is no file here, and needs no sync.
    pub(crate) fn sync_directory(_directory: &Path) -> io::Result<()> {
        Ok(())
    }

    /// There is none.
    #[derive(Debug)]
    pub(crate) enum Lock {}

    impl Lock {
        pub(crate) fn take(_file: &File) -> io::Result<Option<Self>> {
            Ok(None)
        }
    }
}
