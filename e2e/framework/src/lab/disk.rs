//! The disks of an emulated host, made without root: ext4 out of a folder, and a raw one that receives a tar.
//!
//! | serial number | contents |
//! |---|---|
//! | `roots` | ext4, read-only: Debian's arm64 QEMUs with their libraries |
//! | `job` | ext4, read-only: the programs, the files and the script of this boot |
//! | `outd` | nothing at first; in the end a tar of what the script left in `/out` |

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::tool::{self, Tool};

const MKFS: Tool = Tool {
    program: "/usr/sbin/mke2fs",
    package: "e2fsprogs",
};

/// Room for what a job brings back, in bytes. The file has holes where nothing was written.
const RESULT_DISK_LEN: u64 = 2 << 30;

/// Sees to it that disks can be made.
///
/// # Errors
/// If mke2fs is missing and cannot be installed.
pub fn ensure_tools() -> Result<()> {
    tool::ensure_installed(&[MKFS])
}

/// Makes an ext4 file system of what is in `folder`.
///
/// # Errors
/// If mke2fs fails.
pub fn create_ext4(folder: &Path, image: &Path) -> Result<()> {
    // An inode and a part of a block for each file, and the file system's own tables.
    let room = (size(folder)? >> 20) * 21 / 20 + 24;
    // What Linux 5.10 does not know, and what a read-only file system does not need. An older mke2fs does not know the last two words either.
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
                .arg(format!("{room}M")),
        )
    };
    make(features[0]).or_else(|_| make(features[1]))?;
    Ok(())
}

/// The bytes that the files below a folder have on the disk: each in whole blocks.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() {
            4096 + size(&entry.path())?
        } else {
            metadata.len().next_multiple_of(4096)
        };
    }
    Ok(sum)
}

/// Makes the disk that receives the results.
///
/// # Errors
/// If the file cannot be made.
pub fn create_result_disk(image: &Path) -> Result<()> {
    File::create(image)?.set_len(RESULT_DISK_LEN)?;
    Ok(())
}

/// Unpacks what a job left on that disk.
///
/// # Errors
/// If there is no whole tar on it.
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
