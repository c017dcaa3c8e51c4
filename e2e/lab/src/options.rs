//! What several commands of the lab take.

use std::path::PathBuf;

use clap::Args;
use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::kernels::{self, Kernel};
use e2e_framework::lab::roots::SERIES;

/// How many emulated hosts run at a time.
pub(crate) const MAX_CONCURRENT_HOSTS: usize = 2;

/// The CPU model that is taken if none is given: real machines of that kind are common.
pub(crate) const DEFAULT_CPU: &str = "neoverse-n1";

/// Which kernels.
#[derive(Debug, Args)]
pub(crate) struct KernelArgs {
    /// A kernel of the table, any number of times; all of them if none is given
    #[arg(long = "kernel", value_name = "VERSION")]
    versions: Vec<String>,
    /// A kernel of your own: an Image or a vmlinuz
    #[arg(long = "kernel-image", value_name = "FILE")]
    images: Vec<PathBuf>,
}

impl KernelArgs {
    /// Returns the kernels that are named: of the table, the user's own, or else all of the table.
    ///
    /// # Errors
    /// If one is not there, or cannot be fetched.
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

    /// Returns the one kernel that is named.
    ///
    /// # Errors
    /// If there is not exactly one; those of [`Self::get`].
    pub(crate) fn get_one(&self, lab: &Lab) -> Result<Kernel> {
        if self.count() != 1 {
            return Err("this wants one --kernel VERSION or --kernel-image FILE".into());
        }
        self.get(lab)?.pop().ok_or_else(|| "no kernel".into())
    }

    /// Returns how many are named.
    pub(crate) fn count(&self) -> usize {
        self.versions.len() + self.images.len()
    }

    /// Returns `true` if there are kernels of the user's own among them.
    pub(crate) fn has_images(&self) -> bool {
        !self.images.is_empty()
    }
}

/// Returns these CPUs, or if there are none those of these names.
///
/// # Errors
/// If there is no such model or mode.
pub(crate) fn cpus_or_default(given: &[Cpu], names: &[&str]) -> Result<Vec<Cpu>> {
    if given.is_empty() {
        names.iter().map(|name| Cpu::parse(name)).collect()
    } else {
        Ok(given.to_vec())
    }
}

/// Returns these series of QEMU, or if there are none each that the lab has.
pub(crate) fn series_or_each(given: &[String]) -> Vec<&str> {
    if given.is_empty() {
        SERIES.to_vec()
    } else {
        given.iter().map(String::as_str).collect()
    }
}
