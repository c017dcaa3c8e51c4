//! [`ImageLock`]: the locks by which QEMU's programs exclude each other from an image.
//!
//! QEMU locks single bytes of the file (open file description locks of Linux). A byte from 100 on
//! says that a program uses a permission. A byte from 200 on says that it shares the permission
//! with nobody. A program takes its bytes and then checks that nobody holds the opposite ones.

use std::fs::File;

use crate::error::Error;

/// Access to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Locks of an image. They end when the file is closed, or with this value.
#[derive(Debug)]
pub struct ImageLock {
    #[cfg(target_os = "linux")]
    file: File,
}

impl ImageLock {
    /// Takes the locks of a program that reads an image, as `qemu-img info` does.
    ///
    /// # Errors
    /// [`ErrorKind::InUse`](crate::ErrorKind::InUse) if a program can change the image meanwhile.
    pub fn for_reading(file: &File) -> Result<Self, Error> {
        Self::take(file, Access::Read)
    }

    /// Takes the locks of a program that changes an image.
    ///
    /// # Errors
    /// [`ErrorKind::InUse`](crate::ErrorKind::InUse) if another program has the image open.
    pub fn for_writing(file: &File) -> Result<Self, Error> {
        Self::take(file, Access::Write)
    }

    /// Takes no lock: QEMU has none on this system.
    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unnecessary_wraps)]
    fn take(_file: &File, _access: Access) -> Result<Self, Error> {
        Ok(Self {})
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    use super::{Access, ImageLock};
    use crate::error::{Error, ErrorKind};

    /// First byte of the permissions in use, and of those not shared.
    const USED_AT: i64 = 100;
    const UNSHARED_AT: i64 = 200;
    /// Numbers of QEMU's permissions.
    const CONSISTENT_READ: i64 = 0;
    const WRITE: i64 = 1;
    const RESIZE: i64 = 3;
    /// Number of permissions with a byte.
    const PERMISSIONS: i64 = 5;

    impl Access {
        fn used(self) -> &'static [i64] {
            match self {
                Self::Read => &[CONSISTENT_READ],
                Self::Write => &[CONSISTENT_READ, WRITE, RESIZE],
            }
        }

        /// Permissions that others may not use.
        fn unshared(self) -> Vec<i64> {
            match self {
                Self::Read => vec![WRITE, RESIZE],
                Self::Write => (0..PERMISSIONS).collect(),
            }
        }
    }

    impl ImageLock {
        pub(super) fn take(file: &File, access: Access) -> Result<Self, Error> {
            let used = access.used().iter().map(|it| USED_AT + it);
            let unshared = access.unshared();
            let held = used.chain(unshared.iter().map(|it| UNSHARED_AT + it));
            let opposite = access.used().iter().map(|it| UNSHARED_AT + it);
            let opposite = opposite.chain(unshared.iter().map(|it| USED_AT + it));
            let clone = file
                .try_clone()
                .map_err(|error| Error::io("cannot lock the image", error))?;
            let lock = Self { file: clone };
            for byte in held {
                match set(&lock.file, byte, libc::F_RDLCK) {
                    Ok(()) => {}
                    Err(Errno::EAGAIN | Errno::EACCES) => return Err(in_use()),
                    // A filesystem without locks: QEMU goes on without them too.
                    Err(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS) => {
                        return Ok(lock);
                    }
                    Err(error) => return Err(Error::io("cannot lock the image", error.into())),
                }
            }
            for byte in opposite {
                if is_held(&lock.file, byte) {
                    return Err(in_use());
                }
            }
            Ok(lock)
        }
    }

    impl Drop for ImageLock {
        fn drop(&mut self) {
            // Errors are ignored: closing the file releases the locks too.
            let _ = fcntl(
                self.file.as_fd(),
                FcntlArg::F_OFD_SETLK(&range(USED_AT, 2 * UNSHARED_AT, libc::F_UNLCK)),
            );
        }
    }

    fn range(start: i64, length: i64, kind: i32) -> libc::flock {
        libc::flock {
            l_type: i16::try_from(kind).unwrap_or_default(),
            l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
            l_start: start,
            l_len: length,
            l_pid: 0,
        }
    }

    fn set(file: &File, byte: i64, kind: i32) -> Result<(), Errno> {
        fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range(byte, 1, kind))).map(drop)
    }

    /// Returns `true` if another open file holds a lock on this byte.
    fn is_held(file: &File, byte: i64) -> bool {
        let mut lock = range(byte, 1, libc::F_WRLCK);
        let asked = fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock));
        asked.is_ok() && i32::from(lock.l_type) != libc::F_UNLCK
    }

    fn in_use() -> Error {
        Error::new(ErrorKind::InUse, "another program uses the image")
            .with_hint("stop the VM or the program that has the image open, and try again")
    }
}
