//! The lab folder, and what is made in it when somebody first wants it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::OnceLock;

use super::{disk, initramfs, roots, toolchain};
use crate::guest::{self, Guests};
use crate::paths::artifacts_dir;
use crate::{Result, qemu};

/// The lab folder, and what is made in it when somebody first wants it.
#[derive(Debug)]
pub struct Lab {
    /// The folder.
    pub folder: PathBuf,
    emulator: OnceLock<PathBuf>,
    initramfs: OnceLock<PathBuf>,
    roots: OnceLock<PathBuf>,
    guests: OnceLock<Guests>,
}

impl Lab {
    /// Opens the folder, and makes it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open() -> Result<Self> {
        let folder = artifacts_dir();
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        // Paths go into apt's configuration and into QEMU's command line.
        let folder = fs::canonicalize(&folder)?;
        disk::ensure_tools()?;
        Ok(Self {
            folder,
            emulator: OnceLock::new(),
            initramfs: OnceLock::new(),
            roots: OnceLock::new(),
            guests: OnceLock::new(),
        })
    }

    /// Makes something while no other task makes anything.
    ///
    /// # Errors
    /// Those of `make`, or if the lock cannot be had.
    pub fn with_make_lock<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        self.with_lock("lab.lock", make)
    }

    /// Does something while nobody else does anything under this lock: no thread of this task, nor another task.
    ///
    /// # Errors
    /// Those of `work`, or if the lock cannot be had.
    pub fn with_lock<T>(&self, lock: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        // One file opened by two threads would be one lock. It is free when it is closed.
        let lock = File::create(self.folder.join(lock))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
        work()
    }

    fn get_or_make(
        &self,
        place: &OnceLock<PathBuf>,
        make: impl FnOnce() -> Result<PathBuf>,
    ) -> Result<PathBuf> {
        if let Some(path) = place.get() {
            return Ok(path.clone());
        }
        let path = self.with_make_lock(make)?;
        Ok(place.get_or_init(|| path).clone())
    }

    /// The QEMU that emulates the hosts.
    ///
    /// # Errors
    /// If it cannot be fetched.
    pub fn emulator(&self) -> Result<PathBuf> {
        self.get_or_make(
            &self.emulator,
            || Ok(qemu::ensure_series("11.1")?.program()),
        )
    }

    /// What every host boots with.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn initramfs(&self) -> Result<PathBuf> {
        self.get_or_make(&self.initramfs, || initramfs::make(&self.folder))
    }

    /// The disk with the arm64 QEMUs.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn roots(&self) -> Result<PathBuf> {
        self.get_or_make(&self.roots, || roots::ensure(&self.folder))
    }

    /// The guests, which are there as long as this is.
    ///
    /// # Errors
    /// If they cannot be assembled.
    pub fn guests(&self) -> Result<&Guests> {
        if let Some(guests) = self.guests.get() {
            return Ok(guests);
        }
        let made = guest::assemble()?;
        Ok(self.guests.get_or_init(|| made))
    }

    /// Fetches and makes all that boots need, so that nothing of it happens, and counts, within one.
    ///
    /// # Errors
    /// If something cannot be fetched or made.
    pub fn prepare(&self, roots: bool) -> Result<()> {
        self.emulator()?;
        self.initramfs()?;
        if roots {
            self.roots()?;
        }
        Ok(())
    }

    /// arm64 programs of these packages. Gives the folder that they are in.
    ///
    /// # Errors
    /// If they do not build.
    pub fn build_programs(&self, packages: &[&str]) -> Result<PathBuf> {
        self.build_programs_and_examples(packages, &[])
    }

    /// arm64 programs of these packages, and these of their examples, which are in `examples` in the folder.
    ///
    /// # Errors
    /// If they do not build.
    pub fn build_programs_and_examples(
        &self,
        packages: &[&str],
        examples: &[&str],
    ) -> Result<PathBuf> {
        let toolchain = self.with_make_lock(|| toolchain::Toolchain::ensure(&self.folder))?;
        toolchain.build(packages, examples)
    }
}
