//! [`Release`]: the chosen parts of a release, made one after the other.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::architecture::Architecture;
use crate::program::Programs;
use crate::project::{Project, Result};
use crate::{book, checksums, crates, deb, image, rpm, source, wheel};

/// Part of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The static programs
    Program,
    /// The Debian packages
    Deb,
    /// The RPM packages
    Rpm,
    /// The container image
    Image,
    /// The Python wheels
    Wheel,
    /// The packages of the published crates
    Crates,
    /// The source archive with all dependencies
    Source,
    /// The documents as HTML pages
    Book,
}

impl Part {
    /// Returns `true` if a file of this name is of the part.
    pub(crate) fn has_file(self, name: &str) -> bool {
        name.ends_with(match self {
            Self::Program => "-linux",
            Self::Deb => ".deb",
            Self::Rpm => ".rpm",
            Self::Image => "-oci.tar",
            Self::Wheel => ".whl",
            Self::Crates => ".crate",
            Self::Source => "-vendored.tar.gz",
            Self::Book => "-book.tar.gz",
        })
    }
}

/// Parts that contain programs.
const PARTS_WITH_PROGRAMS: [Part; 5] = [
    Part::Program,
    Part::Deb,
    Part::Rpm,
    Part::Image,
    Part::Wheel,
];

/// Choice of parts and architectures.
#[derive(Debug)]
pub(crate) struct Release<'p> {
    pub(crate) project: &'p Project,
    /// Parts to make; empty for all.
    pub(crate) parts: Vec<Part>,
    pub(crate) architectures: Vec<Architecture>,
    /// Program of this machine's architecture, in place of a build.
    pub(crate) program: Option<PathBuf>,
    /// Builds the packages of the crates from their own files.
    pub(crate) verifies_crates: bool,
}

impl Release<'_> {
    /// Makes the parts in a folder, in place of its last release. Returns the names and lengths of
    /// the files.
    ///
    /// # Errors
    /// Returns an error if a part cannot be made.
    pub(crate) fn make(&self, output: &Path) -> Result<Vec<(String, u64)>> {
        fs::create_dir_all(output)?;
        checksums::remove_last_release(output)?;
        let mut files = Vec::new();
        if PARTS_WITH_PROGRAMS.into_iter().any(|part| self.has(part)) {
            self.make_packages(output, &mut files)?;
        }
        if self.has(Part::Crates) {
            files.extend(crates::pack(self.project, self.verifies_crates, output)?);
        }
        if self.has(Part::Source) {
            files.push(source::pack(self.project, output)?);
        }
        if self.has(Part::Book) {
            files.push(book::make(self.project, output)?);
        }
        checksums::write(output, files)
    }

    fn has(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// Makes the parts that contain programs.
    fn make_packages(&self, output: &Path, files: &mut Vec<String>) -> Result<()> {
        let project = self.project;
        let native = self.native_programs()?;
        let native_command = native.command.clone();
        let mut all = Vec::new();
        if self.architectures.contains(&native.architecture) {
            all.push(native);
        }
        if self.program.is_none() {
            for architecture in &self.architectures {
                if *architecture != Architecture::native()? {
                    all.push(Programs::build(project, *architecture)?);
                }
            }
        }
        for programs in &all {
            if self.has(Part::Program) {
                files.extend(programs.copy(project, output)?);
            }
            if self.has(Part::Deb) {
                files.push(deb::make(project, &native_command, programs, output)?);
            }
            if self.has(Part::Rpm) {
                files.push(rpm::make(project, &native_command, programs, output)?);
            }
            if self.has(Part::Wheel) {
                files.push(wheel::make(project, programs, output)?);
            }
        }
        if self.has(Part::Image) {
            files.push(image::make(project, &all, output)?);
        }
        Ok(())
    }

    /// Returns the programs of this machine's architecture. The command writes the man pages of all
    /// packages.
    fn native_programs(&self) -> Result<Programs> {
        let architecture = Architecture::native()?;
        match &self.program {
            None => Programs::build(self.project, architecture),
            Some(command) => Ok(Programs {
                architecture,
                command: command.clone(),
                arm64: None,
            }),
        }
    }
}
