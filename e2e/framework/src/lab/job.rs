//! What an emulated host is to do: a script for busybox's shell, programs, files.
//!
//! | in the emulated host | what |
//! |---|---|
//! | `/job/run.sh` | the script |
//! | `/job/bin/` | arm64 programs; in PATH |
//! | `/job/…` | other files |
//! | `/job/modules/` | the kernel's modules for a network card; loaded already |
//! | `/roots/10.0/` … | QEMUs to chroot into, if the job needs them; `/job`, `/out`, `/tmp` and `/dev` are there as well |
//! | `/out/` | what is brought back; `release`, `status` (the script's) and `dmesg` come by themselves |

use std::fs;
use std::path::{Path, PathBuf};

use super::disk;
use super::kernels::Kernel;
use crate::Result;

/// A job.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// The script.
    pub script: String,
    /// Programs: where they are here.
    pub programs: Vec<PathBuf>,
    /// Other files: name below `/job`, and where they are here.
    pub files: Vec<(String, PathBuf)>,
    /// Whether it uses the arm64 QEMUs.
    pub needs_roots: bool,
}

impl Job {
    /// Makes the disk of it; `scratch` is a folder on the same file system.
    ///
    /// # Errors
    /// If a file cannot be read, or the disk not be made.
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

/// Puts a file there, as a hard link if that can be.
fn link_or_copy(file: &Path, there: &Path) -> Result<()> {
    if let Some(folder) = there.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::hard_link(file, there).is_err() {
        fs::copy(file, there).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

/// A word for a shell: whatever it contains it stays one word.
pub fn shell_quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_gives_quoted_words_back() {
        for word in ["plain", "two words", "it's", "$(reboot)", "a\"b\\"] {
            let said = Command::new("sh")
                .args(["-c", &format!("printf %s {}", shell_quote(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), word);
        }
    }
}
