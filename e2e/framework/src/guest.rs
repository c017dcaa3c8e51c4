//! The guests of the live tests: assembled from `e2e/lab/guest` with Debian's binutils, a raw image each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::Result;
use crate::paths::{artifacts_dir, repository};
use crate::tool::{self, Tool};

/// Which guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// `e2e/lab/guest/aarch64.s`.
    Aarch64,
    /// The same, counting in its RAM while it is moved.
    Live,
    /// `e2e/lab/guest/aarch32.s`.
    Aarch32,
}

/// How many seconds ahead guests can set their timers, the usual number first.
///
/// The timers must not fire before the guest was moved, and it waits for them then. The longer ones are for machines that
/// are too busy to save and load a VM within the usual time. The live guest's are an hour ahead, and not waited for.
pub const TIMER_SECONDS: [u32; 3] = [3, 15, 60];

/// How one guest is made.
struct Recipe {
    guest: Guest,
    source: &'static str,
    /// What the image is called.
    name: &'static str,
    /// What the assembler is told besides.
    options: &'static [&'static str],
    /// What the names of its binutils begin with.
    prefix: &'static str,
    /// Where QEMU puts a raw kernel image on the virt machine.
    address: &'static str,
}

const RECIPES: [Recipe; 3] = [
    Recipe {
        guest: Guest::Aarch64,
        source: "aarch64",
        name: "aarch64",
        options: &[],
        prefix: "aarch64-linux-gnu",
        address: "0x40080000",
    },
    Recipe {
        guest: Guest::Live,
        source: "aarch64",
        name: "live",
        options: &["--defsym", "LIVE=1"],
        prefix: "aarch64-linux-gnu",
        address: "0x40080000",
    },
    Recipe {
        guest: Guest::Aarch32,
        source: "aarch32",
        name: "aarch32",
        options: &[],
        prefix: "arm-linux-gnueabihf",
        address: "0x40010000",
    },
];

/// Programs that assemble the guests.
pub const TOOLS: [Tool; 2] = [
    Tool {
        program: "aarch64-linux-gnu-as",
        package: "binutils-aarch64-linux-gnu",
    },
    Tool {
        program: "arm-linux-gnueabihf-as",
        package: "binutils-arm-linux-gnueabihf",
    },
];

/// The assembled guests. Their images are gone when this is dropped.
#[derive(Debug)]
pub struct Guests {
    images: Vec<Image>,
    _folder: TempDir,
}

#[derive(Debug)]
struct Image {
    guest: Guest,
    timer_seconds: u32,
    path: PathBuf,
}

impl Guests {
    /// Returns the image of one guest, for `-kernel`. Its timers are so many seconds ahead.
    pub fn image(&self, guest: Guest, timer_seconds: u32) -> &Path {
        let is_it = |image: &&Image| {
            let fits = guest == Guest::Live || image.timer_seconds == timer_seconds;
            image.guest == guest && fits
        };
        let found = self.images.iter().find(is_it);
        found.map_or(Path::new(""), |image| &image.path)
    }
}

/// Assembles the guests, in a folder of this task's own: another task may have other guests.
///
/// The usual ones are also put into `guest` in the lab folder, for people.
///
/// # Errors
/// If the binutils are missing and cannot be installed, or a source has an error.
pub fn assemble() -> Result<Guests> {
    tool::ensure_installed(&TOOLS)?;
    let public = artifacts_dir().join("guest");
    fs::create_dir_all(&public)?;
    let public = fs::canonicalize(&public)?;
    let folder = tempfile::Builder::new()
        .prefix("for-")
        .tempdir_in(&public)?;
    let mut images = Vec::new();
    for recipe in &RECIPES {
        for timer_seconds in TIMER_SECONDS {
            let is_usual = timer_seconds == TIMER_SECONDS[0];
            if recipe.guest == Guest::Live && !is_usual {
                continue;
            }
            let path = recipe.make(folder.path(), timer_seconds)?;
            if is_usual {
                // Somebody may be starting the one that is there.
                let name = format!("{}.bin", recipe.name);
                let copy = folder.path().join("copy");
                fs::copy(&path, &copy)?;
                fs::rename(copy, public.join(name))?;
            }
            images.push(Image {
                guest: recipe.guest,
                timer_seconds,
                path,
            });
        }
    }
    Ok(Guests {
        images,
        _folder: folder,
    })
}

impl Recipe {
    /// Assembles a raw image, and says where it is.
    fn make(&self, folder: &Path, timer_seconds: u32) -> Result<PathBuf> {
        let sources = repository().join("e2e/lab/guest");
        let place = |suffix: &str| folder.join(format!("{}-{timer_seconds}.{suffix}", self.name));
        let (object, linked, image) = (place("o"), place("elf"), place("bin"));
        let tool = |name: &str| Command::new(format!("{}-{name}", self.prefix));
        let mut assembler = tool("as");
        assembler.args(self.options);
        if self.guest != Guest::Live {
            assembler.args(["--defsym", &format!("TIMER_SECONDS={timer_seconds}")]);
        }
        assembler.arg("-I").arg(&sources).arg("-o").arg(&object);
        assembler.arg(sources.join(format!("{}.s", self.source)));
        tool::run(&mut assembler)?;
        tool::run(
            tool("ld")
                .arg(format!("-Ttext={}", self.address))
                .arg("-o")
                .arg(&linked)
                .arg(&object),
        )?;
        tool::run(
            tool("objcopy")
                .args(["-O", "binary"])
                .arg(&linked)
                .arg(&image),
        )?;
        Ok(image)
    }
}
