//! The lab folder, and what is made in it when somebody first wants it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::OnceLock;

use super::{disk, initramfs, roots, toolchain};
use crate::paths::artifacts_dir;
use crate::{Result, qemu};

/// The lab folder, and what is made in it when somebody first wants it.
#[derive(Debug)]
pub struct Lab {
    /// The folder.
    pub folder: PathBuf,
    /// Held as long as something is fetched or made.
    lock: File,
    emulator: OnceLock<PathBuf>,
    initramfs: OnceLock<PathBuf>,
    roots: OnceLock<PathBuf>,
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
        let lock = File::create(folder.join("lab.lock"))?;
        disk::ready()?;
        Ok(Self {
            folder,
            lock,
            emulator: OnceLock::new(),
            initramfs: OnceLock::new(),
            roots: OnceLock::new(),
        })
    }

    /// Makes something while no other task makes anything.
    ///
    /// # Errors
    /// Those of `make`, or if the lock cannot be had.
    pub fn alone<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        rustix::fs::flock(&self.lock, rustix::fs::FlockOperation::LockExclusive)?;
        let made = make();
        rustix::fs::flock(&self.lock, rustix::fs::FlockOperation::Unlock)?;
        made
    }

    fn once(
        &self,
        place: &OnceLock<PathBuf>,
        make: impl FnOnce() -> Result<PathBuf>,
    ) -> Result<PathBuf> {
        if let Some(path) = place.get() {
            return Ok(path.clone());
        }
        let path = self.alone(make)?;
        Ok(place.get_or_init(|| path).clone())
    }

    /// The QEMU that emulates the hosts.
    ///
    /// # Errors
    /// If it cannot be fetched.
    pub fn emulator(&self) -> Result<PathBuf> {
        self.once(
            &self.emulator,
            || Ok(qemu::ensure_series("11.1")?.program()),
        )
    }

    /// What every host boots with.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn initramfs(&self) -> Result<PathBuf> {
        self.once(&self.initramfs, || initramfs::make(&self.folder))
    }

    /// The disk with the arm64 QEMUs.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn roots(&self) -> Result<PathBuf> {
        self.once(&self.roots, || roots::ensure(&self.folder))
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
    pub fn programs(&self, packages: &[&str]) -> Result<PathBuf> {
        self.programs_and_examples(packages, &[])
    }

    /// arm64 programs of these packages, and these of their examples, which are in `examples` in the folder.
    ///
    /// # Errors
    /// If they do not build.
    pub fn programs_and_examples(&self, packages: &[&str], examples: &[&str]) -> Result<PathBuf> {
        let toolchain = self.alone(|| toolchain::Toolchain::ensure(&self.folder))?;
        toolchain.build(packages, examples)
    }
}
