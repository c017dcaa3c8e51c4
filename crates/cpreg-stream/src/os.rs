//! File operations of this system: reads and writes at an offset, identity, locks, permissions.
//!
//! The rest of the crate is the same on every system. This module also has substitutes for features
//! that a system lacks.

pub(crate) use system::{
    Lock, copy_metadata, is_same_file, length, read_exact_at, sync_directory, write_all_at,
};

#[cfg(unix)]
mod system {
    use std::fs::{File, Metadata, Permissions};
    use std::io::{self, Seek as _, SeekFrom};
    use std::os::unix::fs::{
        FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, fchown,
    };
    use std::path::Path;

    use rustix::fs::{FlockOperation, flock};
    use rustix::io::Errno;

    /// Returns the length of a file's content.
    pub(crate) fn length(mut file: &File) -> io::Result<u64> {
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if kind.is_block_device() {
            // A block device's metadata has length 0. The crate does not use the file position
            // elsewhere.
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

    /// Gives a file the owner, permissions, extended attributes and security label of another; or
    /// access for its owner only.
    ///
    /// A process without the right to give a file away keeps the new file, without an error. An
    /// attribute that the filesystem or the system refuses is left out.
    pub(crate) fn copy_metadata(from: Option<&File>, to: &File) -> io::Result<()> {
        let Some((from, metadata)) = from.and_then(|file| Some((file, file.metadata().ok()?)))
        else {
            return to.set_permissions(Permissions::from_mode(0o600));
        };
        let new = to.metadata()?;
        if (metadata.uid(), metadata.gid()) != (new.uid(), new.gid()) {
            match fchown(to, Some(metadata.uid()), Some(metadata.gid())) {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
                _ => {}
            }
        }
        to.set_permissions(Permissions::from_mode(
            metadata.permissions().mode() & 0o777,
        ))?;
        copy_attributes(from, to);
        Ok(())
    }

    /// Copies extended attributes, among them access control lists and security labels.
    #[cfg(target_os = "linux")]
    fn copy_attributes(from: &File, to: &File) {
        use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};

        /// Attributes with a hash or signature of the old content.
        const CONTENT_HASHES: [&str; 2] = ["security.ima", "security.evm"];
        /// Maximum length of an attribute's name list and of its value, on Linux.
        const MAX_LEN: usize = 64 << 10;
        let mut names = vec![0; MAX_LEN];
        let Ok(length) = flistxattr(from, &mut names[..]) else {
            return;
        };
        let mut value = vec![0; MAX_LEN];
        for name in names[..length].split(|byte| *byte == 0) {
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            if name.is_empty() || CONTENT_HASHES.contains(&name) {
                continue;
            }
            if let Ok(length) = fgetxattr(from, name, &mut value[..]) {
                // Refused for example to a user who may not change labels.
                let _ = fsetxattr(to, name, &value[..length], XattrFlags::empty());
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn copy_attributes(_from: &File, _to: &File) {}

    /// Makes changes of names in a directory durable.
    pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
        match File::open(directory)?.sync_all() {
            // Some filesystems cannot sync directories and do not need it.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
            _ => Ok(()),
        }
    }

    /// Advisory lock (`flock`), which belongs to the open file description.
    #[derive(Debug)]
    pub(crate) struct Lock(File);

    impl Lock {
        /// Takes the lock; fails with [`io::ErrorKind::WouldBlock`] if another process holds it.
        ///
        /// Returns `None` if the filesystem has no locks.
        pub(crate) fn take(file: &File) -> io::Result<Option<Self>> {
            match flock(file, FlockOperation::NonBlockingLockExclusive) {
                // The clone is the same open file, so it shares the lock.
                Ok(()) => file.try_clone().map(|file| Some(Self(file))),
                Err(Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
                Err(_) => Ok(None),
            }
        }
    }

    impl Drop for Lock {
        fn drop(&mut self) {
            // Errors are ignored: closing the file releases the lock too.
            let _ = flock(&self.0, FlockOperation::Unlock);
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::{File, Metadata};
    use std::io;
    use std::path::Path;

    /// Returns the length of a file's content.
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

    /// Returns `true` if `file` is the file at `path`. Metadata has no identity on this system.
    pub(crate) fn is_same_file(file: &File, path: &Path, _other: &Metadata) -> bool {
        let handles = file
            .try_clone()
            .and_then(same_file::Handle::from_file)
            .and_then(|file| Ok((file, same_file::Handle::from_path(path)?)));
        handles.is_ok_and(|(one, other)| one == other)
    }

    /// Does nothing: a new file has the permissions of its folder on this system.
    pub(crate) fn copy_metadata(_from: Option<&File>, _to: &File) -> io::Result<()> {
        Ok(())
    }

    /// Does nothing: a directory is not a file on this system and needs no sync.
    pub(crate) fn sync_directory(_directory: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Placeholder for systems without locks.
    #[derive(Debug)]
    pub(crate) enum Lock {}

    impl Lock {
        pub(crate) fn take(_file: &File) -> io::Result<Option<Self>> {
            Ok(None)
        }
    }
}
