//! Debian's packages, fetched for any suite and architecture, and unpacked into a folder. Nothing
//! is installed, and root is not needed.
//!
//! An [`Archive`] is one suite for one architecture. Its package lists and downloads are in
//! `apt-SUITE-ARCHITECTURE-…` in the lab folder, which is removed when the archive is dropped.
//!
//! The mirror is the one of this machine's apt, with its proxies and passwords.
//! `CPREG_DEBIAN_MIRROR` overrides the mirror. The machine's Debian keyring checks the signatures.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::Result;
use crate::tool::{self, Tool};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Programs that fetch and unpack packages.
pub const TOOLS: [Tool; 4] = [
    Tool {
        program: "apt-get",
        package: "apt",
    },
    Tool {
        program: "dpkg-deb",
        package: "dpkg",
    },
    Tool {
        program: "tar",
        package: "tar",
    },
    Tool {
        program: "xz",
        package: "xz-utils",
    },
];

/// Checks that packages can be fetched, and returns the mirror.
///
/// # Errors
/// Returns an error if a program or the keyring is missing, or this machine's apt has no Debian
/// mirror.
pub fn ensure_mirror() -> Result<String> {
    tool::ensure_installed(&TOOLS)?;
    if !Path::new(KEYRING).exists() {
        return Err(format!("{KEYRING} is missing: apt-get install debian-archive-keyring").into());
    }
    mirror()
}

/// One suite of Debian for one architecture, for an apt that regards no package as installed.
#[derive(Debug)]
pub struct Archive {
    suite: String,
    folder: TempDir,
    configuration: PathBuf,
}

impl Archive {
    /// Fetches the package lists of `suite` for `architecture` (Debian's name) into `lab`, an
    /// absolute path. `mirror` is the result of [`ensure_mirror`].
    ///
    /// # Errors
    /// Returns an error if the lists cannot be fetched, or are not signed by Debian.
    pub fn open(lab: &Path, mirror: &str, suite: &str, architecture: &str) -> Result<Self> {
        let temporary_folder = tempfile::Builder::new()
            .prefix(&format!("apt-{suite}-{architecture}-"))
            .tempdir_in(lab)?;
        let folder = temporary_folder.path();
        for inner in [
            "etc/preferences.d",
            "etc/apt.conf.d",
            "state/lists/partial",
            "cache/archives/partial",
            "dpkg",
        ] {
            fs::create_dir_all(folder.join(inner))?;
        }
        // With an empty list of installed packages, apt downloads all dependencies, down to the C
        // library.
        fs::write(folder.join("dpkg/status"), "")?;

        let mut sources = String::new();
        let base = suite.strip_suffix("-backports");
        for suite in [Some(suite), base].into_iter().flatten() {
            writeln!(sources, "deb [signed-by={KEYRING}] {mirror} {suite} main")?;
        }
        fs::write(folder.join("etc/sources.list"), sources)?;

        let root = folder.display();
        let mut configuration = format!(
            "APT::Architecture \"{architecture}\";\n\
             APT::Architectures {{ \"{architecture}\"; }};\n\
             APT::Install-Recommends \"false\";\n\
             APT::Sandbox::User \"root\";\n\
             Binary::apt-get::APT::Keep-Downloaded-Packages \"true\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n\
             Dir::Etc \"{root}/etc\";\n\
             Dir::Etc::sourcelist \"{root}/etc/sources.list\";\n\
             Dir::Etc::sourceparts \"-\";\n\
             Dir::Etc::parts \"{root}/etc/apt.conf.d\";\n\
             Dir::State \"{root}/state\";\n\
             Dir::State::status \"{root}/dpkg/status\";\n\
             Dir::Cache \"{root}/cache\";\n"
        );
        configuration += &machine_settings()?;
        let archive = Self {
            suite: suite.to_owned(),
            configuration: folder.join("apt.conf"),
            folder: temporary_folder,
        };
        fs::write(&archive.configuration, configuration)?;
        tool::run(archive.apt("apt-get").arg("update"))?;
        Ok(archive)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", &self.configuration)
            .env("LC_ALL", "C")
            .arg("-q");
        command
    }

    /// Returns the versions of a package in the suite (or the base of a backports suite), newest
    /// first.
    ///
    /// # Errors
    /// Returns an error if apt fails.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        // Lines of `package | version | source`.
        let listed = tool::output_of(self.apt("apt-cache").args(["madison", package]))?;
        Ok(listed
            .lines()
            .filter_map(|line| Some(line.split('|').nth(1)?.trim().to_owned()))
            .collect())
    }

    /// Returns the packages whose names match a regular expression.
    ///
    /// # Errors
    /// Returns an error if apt fails.
    pub fn names(&self, expression: &str) -> Result<Vec<String>> {
        let mut search = self.apt("apt-cache");
        let listed = tool::output_of(search.args(["search", "--names-only", expression]))?;
        let first_word = |line: &str| Some(line.split_whitespace().next()?.to_owned());
        Ok(listed.lines().filter_map(first_word).collect())
    }

    /// Downloads these packages (`name` or `name=version`) without dependencies.
    ///
    /// # Errors
    /// Returns an error if a package does not exist.
    pub fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let folder = tempfile::Builder::new()
            .prefix("alone-")
            .tempdir_in(self.folder.path())?
            .keep();
        let mut download = self.apt("apt-get");
        tool::run(download.current_dir(&folder).arg("download").args(packages))?;
        package_files(&folder)
    }

    /// Downloads these packages with all dependencies.
    ///
    /// # Errors
    /// Returns an error if apt fails.
    pub fn download_with_dependencies(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        tool::run(
            self.apt("apt-get")
                .args(["-y", "--download-only", "--no-install-recommends"])
                .args(["--target-release", &self.suite, "install"])
                .args(packages),
        )?;
        package_files(&self.folder.path().join("cache/archives"))
    }
}

/// Returns the package files in a folder, ordered by name.
fn package_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages.push(path);
        }
    }
    packages.sort_unstable();
    Ok(packages)
}

/// Returns the architecture of this machine, with Debian's name: `amd64`.
///
/// # Errors
/// Returns an error if dpkg fails.
pub fn native_architecture() -> Result<String> {
    tool::output_of(Command::new("dpkg").arg("--print-architecture"))
}

/// Returns the address from which this machine's apt gets Debian.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("CPREG_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    // apt knows origin and label only of lists that it fetched earlier. Otherwise the address
    // decides.
    let mut targets = String::new();
    for release_info in ["--release-info", "--no-release-info"] {
        let format = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(LABEL)";
        targets += &tool::output_of(Command::new("apt-get").args([
            "indextargets",
            release_info,
            "--format",
            format,
            "Created-By: Packages",
        ]))?;
        targets.push('\n');
    }
    choose_mirror(&targets).ok_or_else(|| {
        "this machine's apt has no Debian mirror: set CPREG_DEBIAN_MIRROR to the address of one"
            .into()
    })
}

/// Chooses the mirror among lines of `ADDRESS|SUITE|COMPONENT|ORIGIN|LABEL`.
fn choose_mirror(targets: &str) -> Option<String> {
    let mut candidates = Vec::new();
    for line in targets.lines() {
        let fields: Vec<_> = line.split('|').collect();
        let [address, suite, "main", origin, label] = fields[..] else {
            continue;
        };
        // The security archive has only updates, so it cannot be the mirror.
        if suite.contains("security") || address.contains("security") {
            continue;
        }
        let is_known = origin == "Debian" && label == "Debian";
        let is_debian =
            is_known || (!origin.starts_with(char::is_alphabetic) && address.contains("debian"));
        if is_debian {
            candidates.push((!is_known, suite.contains('-'), address));
        }
    }
    candidates.sort_unstable();
    candidates
        .first()
        .map(|(_, _, address)| address.trim_end_matches('/').to_owned())
}

/// Returns the settings with which this machine's apt reaches its mirrors (proxies, passwords,
/// lists that need not be fresh).
fn machine_settings() -> Result<String> {
    let mut settings = String::new();
    let overridden = [
        "Acquire::Languages",
        "Acquire::Retries",
        "Acquire::IndexTargets",
    ];
    for line in tool::output_of(Command::new("apt-config").arg("dump"))?.lines() {
        if line.starts_with("Acquire::") && !overridden.iter().any(|name| line.starts_with(name)) {
            settings += line;
            settings.push('\n');
        }
    }
    let settings_paths = ["netrc/f", "netrcparts/d"].map(|name| format!("Dir::Etc::{name}"));
    for setting in &settings_paths {
        let [name, _] = setting.split('/').collect::<Vec<_>>()[..] else {
            continue;
        };
        // Prints X='/etc/apt/auth.conf'.
        let line = tool::output_of(Command::new("apt-config").args(["shell", "X", setting]))?;
        if let Some(path) = line
            .strip_prefix("X='")
            .and_then(|rest| rest.strip_suffix('\''))
        {
            writeln!(settings, "{name} \"{path}\";")?;
        }
    }
    Ok(settings)
}

/// Unpacks packages over one another into `root`, without running their scripts.
///
/// # Errors
/// Returns an error if a package cannot be read.
pub fn unpack(packages: &[PathBuf], root: &Path) -> Result<()> {
    // With Debian's merged /usr, packages of either layout end up in the same folders.
    for folder in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(folder))?;
        symlink(Path::new("usr").join(folder), root.join(folder))?;
    }
    for package in packages {
        let mut contents = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(package)
            .stdout(Stdio::piped())
            .spawn()?;
        let archive = contents.stdout.take().ok_or("dpkg-deb without output")?;
        // The `tar` crate refuses a folder at the place of a symbolic link of merged /usr.
        let unpacked = tool::run(
            Command::new("tar")
                .arg("-xC")
                .arg(root)
                .args(["--keep-directory-symlink", "--no-same-owner"])
                .args(
                    ["doc", "man", "locale", "info", "bash-completion", "icons"]
                        .map(|folder| format!("--exclude=./usr/share/{folder}")),
                )
                .stdin(archive),
        );
        let status = contents.wait()?;
        unpacked?;
        if !status.success() {
            return Err(format!("{} cannot be read ({status})", package.display()).into());
        }
    }
    Ok(())
}

/// Removes a folder with its content, if the folder exists.
///
/// # Errors
///
/// Returns an error if the folder exists and cannot be removed.
pub fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", folder.display()).into())
        }
        _ => Ok(()),
    }
}

/// Returns the name of the architecture's folder below `usr/lib`: the folder with the C library.
///
/// # Errors
///
/// Returns an error if no folder has the C library.
pub fn find_triplet(root: &Path) -> Result<String> {
    for entry in fs::read_dir(root.join("usr/lib"))? {
        let entry = entry?;
        if entry.path().join("libc.so.6").exists() {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Err("no C library was unpacked".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_main_archive() {
        let fetched = "http://m/debian-security/|bookworm-security|main|Debian|Debian-Security\n\
                       http://other/apt/|stable|main|Other|Other\n\
                       http://m/debian/|bookworm-updates|main|Debian|Debian\n\
                       http://n/debian/|bookworm|main|Debian|Debian\n";
        assert_eq!(choose_mirror(fetched).as_deref(), Some("http://n/debian"));
        let never_fetched = "http://m/debian-security/|bookworm-security|main|$(ORIGIN)|$(LABEL)\n\
                             http://m/debian/|bookworm|main|$(ORIGIN)|$(LABEL)\n";
        assert_eq!(
            choose_mirror(never_fetched).as_deref(),
            Some("http://m/debian")
        );
        assert_eq!(
            choose_mirror("http://other/apt/|stable|main|Other|Other\n"),
            None
        );
    }
}
