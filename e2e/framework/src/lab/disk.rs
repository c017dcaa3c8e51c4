//! Disks of an emulated host, created without root: ext4 from a folder, and a raw disk for a tar of
//! the results.
//!
//! | serial number | contents |
//! |---|---|
//! | `roots` | ext4, read-only: Debian's arm64 QEMUs with their libraries |
//! | `job` | ext4, read-only: the programs, the files and the script of this boot |
//! | `outd` | empty at first; at the end a tar of `/out` |

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::tool::{self, Tool};

const MKFS: Tool = Tool {
    program: "/usr/sbin/mke2fs",
    package: "e2fsprogs",
};

/// Size of the disk for results, in bytes. The file is sparse.
const RESULT_DISK_LEN: u64 = 2 << 30;

/// Installs mke2fs if it is missing.
///
/// # Errors
/// Returns an error if mke2fs is missing and cannot be installed.
pub fn ensure_tools() -> Result<()> {
    tool::ensure_installed(&[MKFS])
}

/// Creates an ext4 file system with the content of `folder`.
///
/// # Errors
/// Returns an error if mke2fs fails.
pub fn create_ext4(folder: &Path, image: &Path) -> Result<()> {
    // Add 5 % and 24 MiB for inodes, partly used blocks, and the tables of the file system.
    let size_mib = (disk_usage(folder)? >> 20) * 21 / 20 + 24;
    // Switch off features that Linux 5.10 does not know, or that a read-only file system does not
    // need. An older mke2fs does not know the last two names.
    let features = [
        "^has_journal,^metadata_csum_seed,^orphan_file",
        "^has_journal",
    ];
    let make = |features: &str| {
        tool::run(
            Command::new(MKFS.program)
                .args(["-q", "-F", "-t", "ext4", "-b", "4096"])
                .args(["-O", features, "-E", "root_owner=0:0", "-d"])
                .arg(folder)
                .arg(image)
                .arg(format!("{size_mib}M")),
        )
    };
    make(features[0]).or_else(|_| make(features[1]))?;
    Ok(())
}

/// Returns the size of the files below a folder on disk, in whole blocks.
fn disk_usage(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() {
            4096 + disk_usage(&entry.path())?
        } else {
            metadata.len().next_multiple_of(4096)
        };
    }
    Ok(sum)
}

/// Creates the disk for the results.
///
/// # Errors
/// Returns an error if the file cannot be created.
pub fn create_result_disk(image: &Path) -> Result<()> {
    File::create(image)?.set_len(RESULT_DISK_LEN)?;
    Ok(())
}

/// Unpacks the results of a job.
///
/// # Errors
/// Returns an error if the disk has no complete tar.
pub fn unpack_results(image: &Path, into: &Path) -> Result<()> {
    tar::Archive::new(File::open(image)?).unpack(into)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ext4_image_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("inner")).unwrap();
        fs::write(tree.join("inner/file"), vec![7; 3 << 20]).unwrap();
        let image = folder.path().join("image");
        ensure_tools().unwrap();
        create_ext4(&tree, &image).unwrap();
        let listed = tool::output_of(
            Command::new("/usr/sbin/debugfs")
                .args(["-R", "ls -p /inner"])
                .arg(&image),
        )
        .unwrap();
        // Inode, mode, owner, group, name, length.
        assert!(listed.contains("/file/3145728/"), "{listed}");
    }
}
