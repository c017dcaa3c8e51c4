//! Inputs of the busy guest: Debian's kernel, and an initramfs with busybox, `cpreg-guest-check`,
//! and a program that uses vector registers and signed pointers; or a guest of the lab whose
//! translation tables have a granule of 16 or 64 KiB.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use e2e_framework::Result;
use e2e_framework::guest::{self, Granule};
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::initramfs;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::kernels;
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

/// Image of the guest, and its initramfs.
#[derive(Debug)]
pub(crate) struct GuestInputs {
    /// Version of Linux, or granule.
    title: String,
    image: PathBuf,
    /// `None` for a guest without Linux.
    initramfs: Option<PathBuf>,
    /// Fingerprint of the initramfs, or of the image.
    fingerprint: String,
    _folder: TempDir,
}

impl GuestInputs {
    /// Fetches the kernel, and builds the initramfs.
    ///
    /// # Errors
    /// Returns an error if the kernel cannot be fetched, or a program does not build.
    pub(crate) fn of_linux(lab: &Lab, kernel: &str) -> Result<Self> {
        tool::ensure_installed(&TOOLS)?;
        let kernels = lab.with_make_lock(|| kernels::fetch_versions(&lab.folder, &[kernel]))?;
        let kernel = kernels.into_iter().next().ok_or("no kernel of the guest")?;
        let folder = make_folder(lab)?;
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
            title: kernel.version,
            image: kernel.image,
            initramfs: Some(initramfs),
            fingerprint: fingerprint(&archive),
            _folder: folder,
        })
    }

    /// Assembles the guest of the lab whose translation tables have this granule.
    ///
    /// # Errors
    /// Returns an error if the guest cannot be assembled.
    pub(crate) fn of_granule(lab: &Lab, granule: Granule) -> Result<Self> {
        let folder = make_folder(lab)?;
        let image = folder.path().join("granule.bin");
        guest::assemble_granule(granule, &image)?;
        Ok(Self {
            title: format!("granule-{granule}"),
            fingerprint: fingerprint(&fs::read(&image)?),
            image,
            initramfs: None,
            _folder: folder,
        })
    }

    /// Returns a name for a guest with these inputs.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.title, self.fingerprint)
    }

    /// Returns a job with QEMUs and this guest, with an empty script.
    pub(crate) fn job(&self) -> Job {
        let inside = repository().join("e2e/lab/inside");
        let mut files = vec![
            ("qemu.sh".to_owned(), inside.join("qemu.sh")),
            ("busy.sh".to_owned(), inside.join("busy.sh")),
            ("Image".to_owned(), self.image.clone()),
        ];
        let initramfs = self.initramfs.iter();
        files.extend(initramfs.map(|path| ("busy.cpio".to_owned(), path.clone())));
        Job {
            script: ". /job/qemu.sh\n. /job/busy.sh\n".to_owned(),
            files,
            needs_roots: true,
            ..Job::default()
        }
    }
}

/// Creates a folder for the files of a guest, in the lab folder.
fn make_folder(lab: &Lab) -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    Ok(builder.prefix("busy-").tempdir_in(&lab.folder)?)
}
