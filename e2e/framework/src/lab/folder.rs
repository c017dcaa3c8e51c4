//! The lab folder, whose artifacts are built at their first use.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::OnceLock;

use super::{disk, initramfs, roots, toolchain};
use crate::guest::{self, Guests};
use crate::paths::artifacts_dir;
use crate::{Result, qemu};

/// The lab folder of this machine, and the locks and guests of this task.
#[derive(Debug)]
pub struct Lab {
    /// Path of the folder.
    pub folder: PathBuf,
    emulator: OnceLock<PathBuf>,
    initramfs: OnceLock<PathBuf>,
    roots: OnceLock<PathBuf>,
    guests: OnceLock<Guests>,
}

impl Lab {
    /// Opens the folder, or creates it.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be created.
    pub fn open() -> Result<Self> {
        let folder = artifacts_dir();
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        // apt's configuration and QEMU's command line need absolute paths.
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

    /// Runs `make` while no other task builds artifacts.
    ///
    /// # Errors
    /// Returns the errors of `make`, and an error if locking fails.
    pub fn with_make_lock<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        self.with_lock("lab.lock", make)
    }

    /// Runs `work` under a lock that excludes other threads of this task and other tasks.
    ///
    /// # Errors
    /// Returns the errors of `work`, and an error if locking fails.
    pub fn with_lock<T>(&self, lock: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        // Each call opens the file itself, because two threads with one open file would share the
        // lock. Closing the file releases it.
        let lock = File::create(self.folder.join(lock))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
        work()
    }

    fn get_or_make(
        &self,
        cell: &OnceLock<PathBuf>,
        make: impl FnOnce() -> Result<PathBuf>,
    ) -> Result<PathBuf> {
        if let Some(path) = cell.get() {
            return Ok(path.clone());
        }
        let path = self.with_make_lock(make)?;
        Ok(cell.get_or_init(|| path).clone())
    }

    /// Returns the QEMU that emulates the hosts.
    ///
    /// # Errors
    /// Returns an error if the QEMU cannot be fetched.
    pub fn emulator(&self) -> Result<PathBuf> {
        self.get_or_make(
            &self.emulator,
            || Ok(qemu::ensure_series("11.1")?.program()),
        )
    }

    /// Returns the initramfs of every host.
    ///
    /// # Errors
    /// Returns an error if the initramfs cannot be built.
    pub fn initramfs(&self) -> Result<PathBuf> {
        self.get_or_make(&self.initramfs, || initramfs::make(&self.folder))
    }

    /// Returns the disk with the arm64 QEMUs.
    ///
    /// # Errors
    /// Returns an error if the disk cannot be built.
    pub fn roots(&self) -> Result<PathBuf> {
        self.get_or_make(&self.roots, || roots::ensure(&self.folder))
    }

    /// Returns the guests, which live as long as the lab.
    ///
    /// # Errors
    /// Returns an error if the guests cannot be assembled.
    pub fn guests(&self) -> Result<&Guests> {
        if let Some(guests) = self.guests.get() {
            return Ok(guests);
        }
        let guests = guest::assemble()?;
        Ok(self.guests.get_or_init(|| guests))
    }

    /// Fetches and builds all inputs of boots, so that a boot's timeout does not include this time.
    /// `needs_roots` includes the disk with the arm64 QEMUs.
    ///
    /// # Errors
    ///
    /// Returns an error if an input cannot be fetched or built.
    pub fn prepare(&self, needs_roots: bool) -> Result<()> {
        self.emulator()?;
        self.initramfs()?;
        if needs_roots {
            self.roots()?;
        }
        Ok(())
    }

    /// Builds the arm64 programs of these packages. Returns their folder.
    ///
    /// # Errors
    /// Returns an error if the programs do not build.
    pub fn build_programs(&self, packages: &[&str]) -> Result<PathBuf> {
        self.build_programs_and_examples(packages, &[])
    }

    /// Builds the shared library of a package for arm64, and returns its path.
    ///
    /// # Errors
    /// Returns an error if the library does not build.
    pub fn build_library(&self, package: &str) -> Result<PathBuf> {
        let toolchain = self.with_make_lock(|| toolchain::Toolchain::ensure(&self.folder))?;
        toolchain.build_library(package)
    }

    /// Builds the arm64 programs of these packages, and these examples, which are in `examples` in
    /// the returned folder.
    ///
    /// # Errors
    /// Returns an error if the programs or examples do not build.
    pub fn build_programs_and_examples(
        &self,
        packages: &[&str],
        examples: &[&str],
    ) -> Result<PathBuf> {
        let toolchain = self.with_make_lock(|| toolchain::Toolchain::ensure(&self.folder))?;
        toolchain.build(packages, examples)
    }
}
