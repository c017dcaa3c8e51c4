//! Guests of the live tests, assembled from `e2e/lab/guest` with Debian's binutils as raw images.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use tempfile::TempDir;

use crate::Result;
use crate::paths::{artifacts_dir, repository};
use crate::tool::{self, Tool};

/// A guest program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// Guest in AArch64 state, from `e2e/lab/guest/aarch64.s`.
    Aarch64,
    /// The guest of [`Guest::Aarch64`], built so that it also increments a counter in its RAM
    /// during the move.
    Live,
    /// Guest in AArch32 state, from `e2e/lab/guest/aarch32.s`.
    Aarch32,
}

/// Timer delays of the guests in seconds, the default first.
///
/// A test moves a guest: one QEMU saves it, another loads it. The timers must not fire before the
/// load. After the load the guest waits for its timers. The longer delays are for machines that are
/// too busy to save and load a VM within the default delay. The timers of the live guest are set an
/// hour ahead, and the live guest does not wait for them.
pub const TIMER_SECONDS: [u32; 3] = [3, 15, 60];

/// Translation granule of the guest in `e2e/lab/guest/granule.s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granule {
    /// 16 KiB.
    Kib16,
    /// 64 KiB.
    Kib64,
}

impl Granule {
    /// Returns the size in KiB.
    const fn kib(self) -> u32 {
        match self {
            Self::Kib16 => 16,
            Self::Kib64 => 64,
        }
    }
}

impl fmt::Display for Granule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kib())
    }
}

impl FromStr for Granule {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text {
            "16" => Ok(Self::Kib16),
            "64" => Ok(Self::Kib64),
            _ => Err("the granule is 16 or 64"),
        }
    }
}

/// Assembles the guest whose translation tables have this granule to a raw image, for `-kernel`.
///
/// # Errors
/// Returns an error if the binutils are missing and cannot be installed.
pub fn assemble_granule(granule: Granule, image: &Path) -> Result<()> {
    tool::ensure_installed(&TOOLS[..1])?;
    let source = repository().join("e2e/lab/guest/granule.s");
    let shift = format!("SHIFT={}", (granule.kib() << 10).trailing_zeros());
    let options = ["--defsym", &shift];
    assemble_image(
        "aarch64-linux-gnu",
        &options,
        &source,
        AARCH64_ADDRESS,
        image,
    )
}

/// Address at which QEMU places a raw kernel image for a 64-bit CPU on the virt machine.
const AARCH64_ADDRESS: &str = "0x40080000";

/// Build inputs of one guest.
struct Recipe {
    guest: Guest,
    source: &'static str,
    /// Base name of the image.
    name: &'static str,
    /// Additional options of the assembler.
    options: &'static [&'static str],
    /// Prefix of the names of the binutils for the guest.
    prefix: &'static str,
    /// Address at which QEMU places a raw kernel image on the virt machine.
    address: &'static str,
}

const RECIPES: [Recipe; 3] = [
    Recipe {
        guest: Guest::Aarch64,
        source: "aarch64",
        name: "aarch64",
        options: &[],
        prefix: "aarch64-linux-gnu",
        address: AARCH64_ADDRESS,
    },
    Recipe {
        guest: Guest::Live,
        source: "aarch64",
        name: "live",
        options: &["--defsym", "LIVE=1"],
        prefix: "aarch64-linux-gnu",
        address: AARCH64_ADDRESS,
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

/// The assembled guests. Dropping the value removes the images.
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
    /// Returns the image of a guest whose timers have this delay, for `-kernel`.
    pub fn image(&self, guest: Guest, timer_seconds: u32) -> &Path {
        let has_guest_and_delay = |image: &&Image| {
            let has_delay = guest == Guest::Live || image.timer_seconds == timer_seconds;
            image.guest == guest && has_delay
        };
        let image = self.images.iter().find(has_guest_and_delay);
        image.map_or(Path::new(""), |image| &image.path)
    }
}

/// Assembles the guests in a new folder, because another task may have other versions of them.
///
/// Images with the default delay are also copied to `guest` in the lab folder, for manual use.
///
/// # Errors
/// Returns an error if the binutils are missing and cannot be installed, or a source has an error.
pub fn assemble() -> Result<Guests> {
    tool::ensure_installed(&TOOLS)?;
    let manual_folder = artifacts_dir().join("guest");
    fs::create_dir_all(&manual_folder)?;
    let manual_folder = fs::canonicalize(&manual_folder)?;
    let folder = tempfile::Builder::new()
        .prefix("for-")
        .tempdir_in(&manual_folder)?;
    check_fact_program(folder.path())?;
    let mut images = Vec::new();
    for recipe in &RECIPES {
        for timer_seconds in TIMER_SECONDS {
            let is_default = timer_seconds == TIMER_SECONDS[0];
            if recipe.guest == Guest::Live && !is_default {
                continue;
            }
            let path = recipe.make(folder.path(), timer_seconds)?;
            if is_default {
                // The rename is atomic, because the existing image may be in use.
                let name = format!("{}.bin", recipe.name);
                let copy = folder.path().join("copy");
                fs::copy(&path, &copy)?;
                fs::rename(copy, manual_folder.join(name))?;
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
    /// Assembles a raw image and returns its path.
    fn make(&self, folder: &Path, timer_seconds: u32) -> Result<PathBuf> {
        let sources = repository().join("e2e/lab/guest");
        let delay = format!("TIMER_SECONDS={timer_seconds}");
        let mut options = self.options.to_vec();
        if self.guest != Guest::Live {
            options.extend(["--defsym", &delay]);
        }
        let source = sources.join(format!("{}.s", self.source));
        let image = folder.join(format!("{}-{timer_seconds}.bin", self.name));
        assemble_image(self.prefix, &options, &source, self.address, &image)?;
        Ok(image)
    }
}

/// Assembles a source to a raw image for this address.
fn assemble_image(
    prefix: &str,
    options: &[&str],
    source: &Path,
    address: &str,
    image: &Path,
) -> Result<()> {
    let (object, linked) = (image.with_extension("o"), image.with_extension("elf"));
    let tool = |name: &str| Command::new(format!("{prefix}-{name}"));
    let mut assembler = tool("as");
    assembler.args(options);
    if let Some(sources) = source.parent() {
        assembler.arg("-I").arg(sources);
    }
    tool::run(assembler.arg("-o").arg(&object).arg(source))?;
    let text = format!("-Ttext={address}");
    tool::run(
        tool("ld")
            .args([&text, "--entry", address, "-o"])
            .arg(&linked)
            .arg(&object),
    )?;
    tool::run(
        tool("objcopy")
            .args(["-O", "binary"])
            .arg(&linked)
            .arg(image),
    )?;
    Ok(())
}

/// Checks that the program of `cpreg probe` is what its source assembles to. With `BLESS`, writes
/// the program instead.
fn check_fact_program(folder: &Path) -> Result<()> {
    let data = repository().join("crates/cpreg-hosts/data");
    let (source, program) = (data.join("fact-program.s"), data.join("fact-program.bin"));
    let image = folder.join("fact-program.bin");
    assemble_image("aarch64-linux-gnu", &[], &source, "0x0", &image)?;
    let assembled = fs::read(&image)?;
    if std::env::var_os("BLESS").is_some() {
        fs::write(&program, assembled)?;
    } else if assembled != fs::read(&program)? {
        return Err(format!(
            "{} is not what {} assembles to: set BLESS=1 to write it",
            program.display(),
            source.display()
        )
        .into());
    }
    Ok(())
}
