//! Inputs of the busy guest: Debian's kernel, and an initramfs with busybox, `cpreg-guest-check`,
//! and a program that uses vector registers and signed pointers.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use e2e_framework::Result;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::initramfs;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::kernels::{self, Kernel};
use e2e_framework::paths::repository;
use e2e_framework::tool::{self, Tool};
use tempfile::TempDir;

use crate::fingerprint::fingerprint;

/// Programs that assemble the program of the guest.
const TOOLS: [Tool; 2] = [
    Tool {
        program: "aarch64-linux-gnu-as",
        package: "binutils-aarch64-linux-gnu",
    },
    Tool {
        program: "aarch64-linux-gnu-ld",
        package: "binutils-aarch64-linux-gnu",
    },
];

/// Kernel and initramfs of the guest.
#[derive(Debug)]
pub(crate) struct GuestInputs {
    kernel: Kernel,
    initramfs: PathBuf,
    /// Fingerprint of the initramfs.
    fingerprint: String,
    _folder: TempDir,
}

impl GuestInputs {
    /// Fetches the kernel, and builds the initramfs.
    ///
    /// # Errors
    /// Returns an error if the kernel cannot be fetched, or a program does not build.
    pub(crate) fn build(lab: &Lab, kernel: &str) -> Result<Self> {
        tool::ensure_installed(&TOOLS)?;
        let kernels = lab.with_make_lock(|| kernels::fetch_versions(&lab.folder, &[kernel]))?;
        let kernel = kernels.into_iter().next().ok_or("no kernel of the guest")?;
        let folder = tempfile::Builder::new()
            .prefix("busy-")
            .tempdir_in(&lab.folder)?;
        let (object, vectors) = (
            folder.path().join("vectors.o"),
            folder.path().join("vectors"),
        );
        let source = repository().join("e2e/lab/guest/vectors.s");
        tool::run(
            Command::new(TOOLS[0].program)
                .arg(source)
                .arg("-o")
                .arg(&object),
        )?;
        tool::run(
            Command::new(TOOLS[1].program)
                .arg(&object)
                .arg("-o")
                .arg(&vectors),
        )?;
        let guest_check = lab.build_programs(&["cpreg-guest-check"])?;
        let programs = [vectors, guest_check.join("cpreg-guest-check")];
        let init = repository().join("e2e/lab/inside/busy-init");
        let archive = initramfs::with_programs(&lab.folder, &init, &programs)?;
        let initramfs = folder.path().join("busy.cpio");
        fs::write(&initramfs, &archive)?;
        Ok(Self {
            kernel,
            initramfs,
            fingerprint: fingerprint(&archive),
            _folder: folder,
        })
    }

    /// Returns a name for a guest with these inputs.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.kernel.version, self.fingerprint)
    }

    /// Returns a job with QEMUs and this guest, with an empty script.
    pub(crate) fn job(&self) -> Job {
        let inside = repository().join("e2e/lab/inside");
        Job {
            script: ". /job/qemu.sh\n. /job/busy.sh\n".to_owned(),
            files: vec![
                ("qemu.sh".to_owned(), inside.join("qemu.sh")),
                ("busy.sh".to_owned(), inside.join("busy.sh")),
                ("Image".to_owned(), self.kernel.image.clone()),
                ("busy.cpio".to_owned(), self.initramfs.clone()),
            ],
            needs_roots: true,
            ..Job::default()
        }
    }
}
