//! `nft` for an emulated host, and the kernel modules for its rules that redirect connections.
//!
//! | in the lab folder | content |
//! |---|---|
//! | `nft/` | Debian's arm64 `nft`, its loader and its libraries |
//! | `kernels/6.12.107/modules-firewall/` | the modules, as in [`super::modules`] |

use std::fs;
use std::path::{Path, PathBuf};

use super::folder::Lab;
use super::job::Job;
use super::kernels::{self, Kernel};
use crate::Result;
use crate::debian::{self, Archive};

/// Suite of `nft`.
const SUITE: &str = "trixie";

/// Modules for a table `inet` with `fib`, `meta`, `tcp dport` and `redirect`.
const MODULES: [&str; 4] = ["nf_tables", "nft_chain_nat", "nft_fib_inet", "nft_redir"];

/// Script lines that load the modules and define the shell function `nft`.
const SETUP: &str = "\
for module in /job/firewall-modules/*.ko; do insmod $module || exit 2; done
nft() { /job/nft/ld-linux-aarch64.so.1 --library-path /job/nft /job/nft/nft \"$@\"; }
";

/// Adds `nft` and the modules of this kernel to a job. The script that follows can call `nft`.
///
/// # Errors
/// Returns an error if a package cannot be fetched.
pub fn add_to(job: &mut Job, lab: &Lab, kernel: &Kernel) -> Result<()> {
    let (nft, modules) = lab.with_make_lock(|| {
        Ok((
            ensure_nft(&lab.folder)?,
            kernels::ensure_modules(&lab.folder, kernel, "firewall", &MODULES)?,
        ))
    })?;
    for (folder, files) in [("nft", nft), ("firewall-modules", modules)] {
        for file in files {
            let name = file.file_name().ok_or("a file without a name")?;
            let name = format!("{folder}/{}", name.to_string_lossy());
            job.files.push((name, file));
        }
    }
    job.script += SETUP;
    Ok(())
}

/// Fetches `nft` if it is missing, and returns its files.
fn ensure_nft(lab: &Path) -> Result<Vec<PathBuf>> {
    let folder = lab.join("nft");
    if !folder.exists() {
        let mirror = debian::ensure_mirror()?;
        let archive = Archive::open(lab, &mirror, SUITE, "arm64")?;
        let packages = archive.download_with_dependencies(&["nftables"])?;
        let scratch = tempfile::Builder::new().prefix("nft-").tempdir_in(lab)?;
        let (root, partial) = (scratch.path().join("root"), scratch.path().join("nft"));
        debian::unpack(&packages, &root)?;
        fs::create_dir(&partial)?;
        fs::copy(root.join("usr/sbin/nft"), partial.join("nft"))?;
        let libraries = root.join("usr/lib").join(debian::find_triplet(&root)?);
        for entry in fs::read_dir(libraries)? {
            let entry = entry?;
            let name = entry.file_name();
            // Debian's loader is in this folder too. A copy follows links.
            if name.to_string_lossy().contains(".so") && entry.path().is_file() {
                fs::copy(entry.path(), partial.join(name))?;
            }
        }
        fs::rename(&partial, &folder)?;
    }
    let entries: std::io::Result<Vec<_>> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect();
    Ok(entries?)
}
