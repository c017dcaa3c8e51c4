//! The workspace as `cargo metadata` describes it, and its source files.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::result::Result;

/// Workspace of this program.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

/// Fields of a crate of the workspace that the lints compare.
#[derive(Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    /// Registries that take the crate: all with `None`, none with an empty list.
    pub(crate) publish: Option<Vec<String>>,
    pub(crate) description: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) documentation: Option<String>,
    pub(crate) readme: Option<PathBuf>,
    pub(crate) rust_version: Option<String>,
    pub(crate) keywords: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
    /// Root files of libraries, commands, tests, examples, benchmarks and build scripts.
    pub(crate) targets: Vec<PathBuf>,
}

/// An entry of a `[dependencies]` table.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: DependencyKind,
    /// Folder of the crate, if the crate is in the workspace.
    pub(crate) path: Option<PathBuf>,
    /// Required versions; `*` without a version.
    pub(crate) req: String,
}

impl Dependency {
    pub(crate) fn is_for_development(&self) -> bool {
        self.kind == DependencyKind::Development
    }
}

impl From<cargo_metadata::Package> for Package {
    fn from(package: cargo_metadata::Package) -> Self {
        let dependencies = package.dependencies.into_iter().map(|it| Dependency {
            name: it.name,
            kind: it.kind,
            path: it.path.map(Into::into),
            req: it.req.to_string(),
        });
        let targets = package.targets.into_iter().map(|it| it.src_path.into());
        Self {
            name: package.name.to_string(),
            manifest_path: package.manifest_path.into(),
            publish: package.publish,
            description: package.description,
            license: package.license,
            documentation: package.documentation,
            readme: package.readme.map(Into::into),
            rust_version: package.rust_version.map(|version| version.to_string()),
            keywords: package.keywords,
            categories: package.categories,
            dependencies: dependencies.collect(),
            targets: targets.collect(),
        }
    }
}

impl Workspace {
    /// Reads the workspace of this program.
    ///
    /// # Errors
    /// Returns an error if cargo fails or its output cannot be parsed.
    pub(crate) fn read() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"))
            .no_deps()
            .exec()?;
        Ok(Self {
            packages: metadata.packages.into_iter().map(Package::from).collect(),
            root: metadata.workspace_root.into(),
            target: metadata.target_directory.into(),
        })
    }

    /// Lists all Rust files, by paths relative to the root.
    ///
    /// # Errors
    /// Returns an error if a folder cannot be read.
    pub(crate) fn rust_files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        self.add_rust_files(&self.root, &mut files)?;
        files.sort();
        Ok(files)
    }

    /// Reads a text file, by its path relative to the root.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub(crate) fn read_text(&self, path: &Path) -> Result<String> {
        fs::read_to_string(self.root.join(path))
            .map_err(|error| format!("cannot read {}: {error}", path.display()).into())
    }

    fn add_rust_files(&self, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
        let unreadable = |error| format!("cannot read {}: {error}", folder.display());
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if entry.file_type().map_err(unreadable)?.is_dir() {
                // Build folders, including those of the fuzz targets.
                if !is_hidden && path != self.target && entry.file_name() != "target" {
                    self.add_rust_files(&path, files)?;
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(&self.root).unwrap_or(&path).to_owned());
            }
        }
        Ok(())
    }
}

/// Returns a command that starts the cargo that started this program.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}
