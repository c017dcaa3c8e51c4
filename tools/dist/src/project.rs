//! [`Project`]: the repository, its version and date; commands that must succeed.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::MetadataCommand;
use e2e_framework::tool;

pub(crate) use e2e_framework::Result;

/// Repository that is released.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    /// Build folder.
    pub(crate) target: PathBuf,
    /// Folder of tools with a fixed version.
    pub(crate) tools: PathBuf,
    /// Version of all crates.
    pub(crate) version: String,
    /// Names of the published crates.
    pub(crate) published: Vec<String>,
    /// Names of all other crates.
    pub(crate) unpublished: Vec<String>,
    /// Time of the last commit in seconds since 1970, or `SOURCE_DATE_EPOCH`.
    pub(crate) time: u64,
}

impl Project {
    /// Reads the workspace of this program.
    ///
    /// # Errors
    /// Returns an error if cargo or git fails.
    pub(crate) fn read() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.ancestors().nth(2).ok_or("no repository")?.to_owned();
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .exec()?;
        let names = |is_published: bool| -> Vec<String> {
            let packages = metadata.packages.iter();
            let chosen = packages.filter(|package| package.publish.is_none() == is_published);
            chosen.map(|package| package.name.to_string()).collect()
        };
        let mut packages = metadata.packages.iter();
        let command = packages.find(|package| package.name == "cpreg-cli");
        let command = command.ok_or("no crate cpreg-cli")?;
        let target = metadata.target_directory.as_std_path();
        Ok(Self {
            version: command.version.to_string(),
            published: names(true),
            unpublished: names(false),
            time: source_time(&root)?,
            tools: target.join("tools"),
            target: target.to_owned(),
            root,
        })
    }

    /// Returns the same project, with its sources and its build folder elsewhere.
    pub(crate) fn at(&self, root: PathBuf) -> Self {
        Self {
            target: root.join("target"),
            root,
            ..self.clone()
        }
    }

    /// Returns the folder of the release.
    pub(crate) fn output(&self) -> PathBuf {
        self.target.join("dist")
    }

    /// Returns a cargo command that runs in the repository.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo(&self.root);
        command.env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// Returns the folder of a program with this version from crates.io, which is built with these
    /// options if it is missing.
    ///
    /// # Errors
    /// Returns an error if it does not build.
    pub(crate) fn ensure_tool(
        &self,
        name: &str,
        version: &str,
        options: &[&str],
    ) -> Result<PathBuf> {
        let folder = self.tools.join(format!("{name}-{version}"));
        let bin = folder.join("bin");
        if !bin.join(name).is_file() {
            eprintln!("installing {name} {version}");
            // Its own build folder would stay.
            let build = tempfile::tempdir()?;
            let mut command = self.cargo();
            command.args(["install", "--quiet", "--locked", "--root"]);
            command.arg(&folder);
            command.args(options).arg(format!("{name}@{version}"));
            run(command.env("CARGO_TARGET_DIR", build.path()))?;
        }
        Ok(bin)
    }

    /// Returns the content of a file of the repository.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub(crate) fn read_file(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.root.join(name);
        Ok(fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?)
    }

    /// Returns a project of this repository for tests, which build nothing.
    #[cfg(test)]
    pub(crate) fn stand_in(target: &Path) -> Self {
        Self {
            root: Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
            target: target.to_owned(),
            tools: target.join("tools"),
            version: "1.2.3".to_owned(),
            published: Vec::new(),
            unpublished: Vec::new(),
            time: 7,
        }
    }
}

/// Returns the time to which all files of the release are set.
fn source_time(root: &Path) -> Result<u64> {
    let text = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => read_output(
            Command::new("git")
                .args(["log", "-1", "--format=%ct"])
                .current_dir(root),
        )?,
    };
    Ok(text.trim().parse()?)
}

/// Returns a cargo command that runs in this folder.
pub(crate) fn cargo(folder: &Path) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(folder);
    command
}

/// Runs a command that must succeed.
///
/// # Errors
/// Returns an error if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = tool::format_command(command);
    let status = command
        .status()
        .map_err(|error| format!("cannot start `{name}`: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("`{name}`: {status}").into())
}

/// Runs a command that must succeed, and returns its output with the last line end.
///
/// # Errors
/// Returns an error if it fails, or prints something other than UTF-8.
pub(crate) fn read_output(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8(tool::run(command)?.stdout)?)
}
