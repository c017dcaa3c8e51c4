//! Arguments shared by several commands of the lab.

use std::path::PathBuf;

use clap::Args;
use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::kernels::{self, Kernel};
use e2e_framework::lab::roots::SERIES;

/// Maximum number of emulated hosts that run at a time.
pub(crate) const MAX_CONCURRENT_HOSTS: usize = 2;

/// Default CPU model, which is common among real machines.
pub(crate) const DEFAULT_CPU: &str = "neoverse-n1";

/// Selection of kernels.
#[derive(Debug, Args)]
pub(crate) struct KernelArgs {
    /// Kernel of the table (repeatable; default: all)
    #[arg(long = "kernel", value_name = "VERSION")]
    versions: Vec<String>,
    /// Local kernel: an Image or a vmlinuz (repeatable)
    #[arg(long = "kernel-image", value_name = "FILE")]
    images: Vec<PathBuf>,
}

impl KernelArgs {
    /// Returns the selected kernels, of the table and local. If none are selected, returns all of
    /// the table.
    ///
    /// # Errors
    /// Returns an error if a kernel does not exist, or cannot be fetched.
    pub(crate) fn get(&self, lab: &Lab) -> Result<Vec<Kernel>> {
        let versions: Vec<_> = self.versions.iter().map(String::as_str).collect();
        let mut kernels = if self.count() == 0 {
            lab.with_make_lock(|| kernels::all(&lab.folder))?
        } else {
            lab.with_make_lock(|| kernels::fetch_versions(&lab.folder, &versions))?
        };
        for image in &self.images {
            kernels.push(Kernel::from_file(&lab.folder, image)?);
        }
        Ok(kernels)
    }

    /// Returns the only selected kernel.
    ///
    /// # Errors
    /// Returns the errors of [`Self::get`], and an error unless exactly one kernel is selected.
    pub(crate) fn get_one(&self, lab: &Lab) -> Result<Kernel> {
        if self.count() != 1 {
            return Err("expected exactly one --kernel VERSION or --kernel-image FILE".into());
        }
        self.get(lab)?.pop().ok_or_else(|| "no kernel".into())
    }

    /// Returns the number of selected kernels.
    pub(crate) fn count(&self) -> usize {
        self.versions.len() + self.images.len()
    }

    /// Returns `true` if a local kernel is selected.
    pub(crate) fn has_images(&self) -> bool {
        !self.images.is_empty()
    }
}

/// Returns the given CPUs, or the CPUs with these names if none are given.
///
/// # Errors
/// Returns an error if a model or mode does not exist.
pub(crate) fn cpus_or_default(given: &[Cpu], names: &[&str]) -> Result<Vec<Cpu>> {
    if given.is_empty() {
        names.iter().map(|name| Cpu::parse(name)).collect()
    } else {
        Ok(given.to_vec())
    }
}

/// Returns the given series of QEMU, or all series of the lab if none are given.
pub(crate) fn series_or_each(given: &[String]) -> Vec<&str> {
    if given.is_empty() {
        SERIES.to_vec()
    } else {
        given.iter().map(String::as_str).collect()
    }
}
