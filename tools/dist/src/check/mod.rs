//! `cargo xtask dist check`: the files of the last release, inspected, installed, used and removed.
//!
//! | module | checks |
//! |---|---|
//! | [`inspect`] | programs, packages, man pages and units, without an installation |
//! | [`chroot`] | Debian packages in fresh systems of Debian 12 and 13 |
//! | [`lab`] | the arm64 Debian package on a real kernel with KVM |
//! | [`image`] | the container image |
//! | [`wheel`] | the Python wheel in a fresh environment |
//! | [`files`] | the files of the release, for all checks |
//! | [`reproducible`] | the same release, made again in another folder |

mod chroot;
mod files;
mod image;
mod inspect;
mod lab;
mod reproducible;
mod wheel;

use std::path::PathBuf;

use clap::ValueEnum;
use e2e_framework::case_counts::CaseCounts;
use e2e_framework::tool::{self, Tool};

use self::files::Files;
use crate::checksums;
use crate::project::{Project, Result};

/// Arguments of the checks.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Checks to run (default: all)
    #[arg(value_name = "CHECK")]
    checks: Vec<Check>,
    /// Folder of the release (default: target/dist)
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// A check of the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Check {
    /// Programs: static, with the list of their crates, without paths of this machine
    Programs,
    /// Debian packages: lintian, mandoc -T lint, systemd-analyze verify
    Deb,
    /// RPM packages: rpm -qpl and --checksig, installed into a folder, used and removed
    Rpm,
    /// Debian packages in fresh systems of Debian 12 and 13: installed, used and removed
    Install,
    /// Debian package of this machine's architecture: piuparts
    Piuparts,
    /// arm64 package in an emulated host: its programs under a real kernel with KVM
    Lab,
    /// Container image: skopeo, umoci, and the command in a file system with nothing else
    Image,
    /// Python wheel in a fresh environment: its tests, and mypy
    Wheel,
    /// All parts, made again from a clone in another folder: the same bytes
    Reproducible,
}

/// Programs that the checks start.
const TOOLS: [Tool; 11] = [
    Tool {
        program: "lintian",
        package: "lintian",
    },
    Tool {
        program: "mandoc",
        package: "mandoc",
    },
    Tool {
        program: "systemd-analyze",
        package: "systemd",
    },
    Tool {
        program: "rpm",
        package: "rpm",
    },
    Tool {
        program: "mmdebstrap",
        package: "mmdebstrap",
    },
    Tool {
        program: "piuparts",
        package: "piuparts",
    },
    Tool {
        program: "skopeo",
        package: "skopeo",
    },
    Tool {
        program: "umoci",
        package: "umoci",
    },
    Tool {
        program: "qemu-aarch64-static",
        package: "qemu-user-static",
    },
    Tool {
        program: "cpio",
        package: "cpio",
    },
    Tool {
        program: "readelf",
        package: "binutils",
    },
];

/// Runs the chosen checks; returns `true` if none fails.
///
/// # Errors
/// Returns an error if there is no release, or a tool is missing.
pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<bool> {
    tool::ensure_installed(&TOOLS)?;
    let folder = arguments.output.clone();
    let folder = std::path::absolute(folder.unwrap_or_else(|| project.output()))?;
    let files = Files {
        sums: checksums::read(&folder)?,
        folder,
    };
    if files.sums.is_empty() {
        let folder = files.folder.display();
        return Err(format!("{folder} has no release: run `cargo xtask dist` first").into());
    }
    for (name, length) in checksums::verify(&files.folder, &files.sums)? {
        println!("{length:>10}  {name}");
    }
    let mut counts = CaseCounts::default();
    for check in Check::value_variants() {
        if !arguments.checks.is_empty() && !arguments.checks.contains(check) {
            continue;
        }
        match check {
            Check::Programs => counts.run(&"programs", || inspect::programs(project, &files)),
            Check::Deb => {
                counts.run(&"deb lintian", || inspect::lintian(&files));
                counts.run(&"deb man pages and units", || inspect::documents(&files));
            }
            Check::Rpm => counts.run(&"rpm", || inspect::rpm(project, &files)),
            Check::Install => {
                for suite in chroot::SUITES {
                    counts.run(&format!("install {suite}"), || {
                        chroot::install(project, &files, suite)
                    });
                }
            }
            Check::Piuparts => counts.run(&"piuparts", || chroot::piuparts(&files)),
            Check::Lab => counts.run(&"lab", || lab::check(project, &files)),
            Check::Image => counts.run(&"image", || image::check(project, &files)),
            Check::Wheel => counts.run(&"wheel", || wheel::check(project, &files)),
            Check::Reproducible => {
                counts.run(&"reproducible", || reproducible::check(project, &files));
            }
        }
    }
    Ok(counts.print())
}
