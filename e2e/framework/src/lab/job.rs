//! Job of an emulated host: a script for busybox's shell, programs, files.
//!
//! | in the emulated host | content |
//! |---|---|
//! | `/job/run.sh` | the script |
//! | `/job/bin/` | arm64 programs, in PATH |
//! | `/job/…` | other files |
//! | `/job/modules/` | the kernel's modules for a network card, loaded already |
//! | `/roots/10.0/` … | root of a QEMU, if needed, with `/job`, `/out`, `/tmp`, `/dev` |
//! | `/out/` | results; `release`, `status` (of the script) and `dmesg` are added |

use std::fs;
use std::path::{Path, PathBuf};

use super::disk;
use super::kernels::Kernel;
use crate::Result;

/// Job of an emulated host.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Script for busybox's shell.
    pub script: String,
    /// Paths of the programs on this machine.
    pub programs: Vec<PathBuf>,
    /// Other files: name below `/job`, and path on this machine.
    pub files: Vec<(String, PathBuf)>,
    /// `true` if the job uses the arm64 QEMUs.
    pub needs_roots: bool,
}

impl Job {
    /// Creates the disk of the job. `scratch` is a folder on the same file system.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, or the disk cannot be created.
    pub fn write(&self, kernel: &Kernel, scratch: &Path, image: &Path) -> Result<()> {
        let tree = scratch.join("tree");
        for inner in ["bin", "modules"] {
            fs::create_dir_all(tree.join(inner))?;
        }
        fs::write(tree.join("run.sh"), &self.script)?;
        for program in &self.programs {
            let name = program.file_name().ok_or("a program without a name")?;
            link_or_copy(program, &tree.join("bin").join(name))?;
        }
        for (name, file) in &self.files {
            link_or_copy(file, &tree.join(name))?;
        }
        for module in &kernel.modules {
            let name = module.file_name().ok_or("a module without a name")?;
            link_or_copy(module, &tree.join("modules").join(name))?;
        }
        disk::create_ext4(&tree, image)?;
        crate::debian::remove(&tree)
    }
}

/// Links a file to `target`, or copies it.
fn link_or_copy(file: &Path, target: &Path) -> Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::hard_link(file, target).is_err() {
        fs::copy(file, target).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

/// Quotes a word for a shell.
pub fn shell_quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_unquotes_words() {
        for word in ["plain", "two words", "it's", "$(reboot)", "a\"b\\"] {
            let output = Command::new("sh")
                .args(["-c", &format!("printf %s {}", shell_quote(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
