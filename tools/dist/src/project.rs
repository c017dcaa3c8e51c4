//! [`Project`]: the repository, its version and date; commands that must succeed.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// An error with a message for the user.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Result of a part.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Repository that is released.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    /// Build folder.
    pub(crate) target: PathBuf,
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
        let mut metadata = cargo(&root);
        metadata.args(["metadata", "--format-version", "1", "--no-deps"]);
        let metadata: Value = serde_json::from_str(&read_output(&mut metadata)?)?;
        let packages = metadata["packages"].as_array().ok_or("no packages")?;
        let names = |is_published: bool| -> Vec<String> {
            let chosen = packages
                .iter()
                .filter(|package| package["publish"].is_null() == is_published);
            chosen
                .filter_map(|package| package["name"].as_str().map(str::to_owned))
                .collect()
        };
        let command = packages
            .iter()
            .find(|package| package["name"] == "cpreg-cli")
            .ok_or("no crate cpreg-cli")?;
        let text = |value: &Value| -> Result<String> {
            Ok(value.as_str().ok_or("cargo metadata")?.to_owned())
        };
        Ok(Self {
            target: text(&metadata["target_directory"])?.into(),
            version: text(&command["version"])?,
            published: names(true),
            unpublished: names(false),
            time: source_time(&root)?,
            root,
        })
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
    let name = describe(command);
    let status = command
        .status()
        .map_err(|error| format!("cannot start `{name}`: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("`{name}`: {status}").into())
}

/// Runs a command that must succeed, and returns its output.
///
/// # Errors
/// Returns an error if it fails, or prints something other than UTF-8.
pub(crate) fn read_output(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command
        .output()
        .map_err(|error| format!("cannot start `{name}`: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{name}`: {}\n{text}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
