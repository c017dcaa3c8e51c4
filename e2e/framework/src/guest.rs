//! The guests of the live tests: assembled from `e2e/lab/guest` with Debian's binutils, a raw image each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// The assembled guests.
#[derive(Debug)]
pub struct Guests {
    images: Vec<(Guest, PathBuf)>,
}

impl Guests {
    /// The image of one guest, for `-kernel`.
    pub fn image(&self, guest: Guest) -> &Path {
        let found = self.images.iter().find(|(which, _)| *which == guest);
        found.map_or(Path::new(""), |(_, image)| image)
    }
}

/// Assembles the guests.
///
/// # Errors
/// If the binutils are missing and cannot be installed, or a source has an error.
pub fn assemble() -> Result<Guests> {
    tool::need(&TOOLS)?;
    let sources = repository().join("e2e/lab/guest");
    let folder = artifacts_dir().join("guest");
    fs::create_dir_all(&folder)?;
    let folder = fs::canonicalize(&folder)?;
    let mut images = Vec::new();
    for recipe in &RECIPES {
        let object = folder.join(format!("{}.o", recipe.name));
        let linked = folder.join(format!("{}.elf", recipe.name));
        let image = folder.join(format!("{}.bin", recipe.name));
        let tool = |name: &str| Command::new(format!("{}-{name}", recipe.prefix));
        tool::run(
            tool("as")
                .args(recipe.options)
                .arg("-I")
                .arg(&sources)
                .arg("-o")
                .arg(&object)
                .arg(sources.join(format!("{}.s", recipe.source))),
        )?;
        tool::run(
            tool("ld")
                .arg(format!("-Ttext={}", recipe.address))
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
        images.push((recipe.guest, image));
    }
    Ok(Guests { images })
}
