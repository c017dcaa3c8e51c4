//! Tolerance files that every command reads, unless `--no-default-tolerances` is given.
//!
//! | file | read by | missing file |
//! |---|---|---|
//! | each in `CPREG_TOLERANCES`, separated by `:` | users | error |
//! | `cpreg/tolerances.toml` in `XDG_CONFIG_HOME` or `~/.config` | users | skipped |
//! | `/etc/cpreg/tolerances.toml` | users and root | skipped |
//!
//! Entries of an earlier file come first. Root reads no file that a user without rights could name:
//! `sudo` may pass on a user's environment.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Variable with the names of tolerance files.
pub(crate) const VARIABLE: &str = "CPREG_TOLERANCES";
/// Tolerance file of the machine.
const SYSTEM_FILE: &str = "/etc/cpreg/tolerances.toml";
/// Tolerance file in a folder of configurations.
const USER_FILE: &str = "cpreg/tolerances.toml";

/// Properties of the process that decide which files it reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `true` if the effective user is root.
    pub(crate) is_root: bool,
    /// Value of [`VARIABLE`].
    pub(crate) variable: Option<OsString>,
    /// Value of `XDG_CONFIG_HOME`.
    pub(crate) config_home: Option<OsString>,
    /// Value of `HOME`.
    pub(crate) home: Option<OsString>,
    /// Tolerance file of the machine.
    pub(crate) system_file: PathBuf,
}

/// Default files of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DefaultFiles {
    /// Files that must exist, in order of precedence.
    pub(crate) named: Vec<PathBuf>,
    /// File of the user, which need not exist and comes after the named files.
    pub(crate) user: Option<PathBuf>,
    /// File of the machine, which need not exist and comes last.
    pub(crate) system: PathBuf,
    /// `true` if the variable is set and ignored.
    pub(crate) ignores_variable: bool,
}

impl Environment {
    /// Returns the environment of this process.
    pub(crate) fn current() -> Self {
        Self {
            is_root: is_root(),
            variable: env::var_os(VARIABLE),
            config_home: env::var_os("XDG_CONFIG_HOME"),
            home: env::var_os("HOME"),
            system_file: system_file(),
        }
    }

    /// Returns the default files.
    pub(crate) fn default_files(&self) -> DefaultFiles {
        let variable = self.variable.as_ref().filter(|value| !value.is_empty());
        if self.is_root {
            return DefaultFiles {
                named: Vec::new(),
                user: None,
                system: self.system_file.clone(),
                ignores_variable: variable.is_some(),
            };
        }
        let named = variable.into_iter().flat_map(env::split_paths);
        let named = named.filter(|path| !path.as_os_str().is_empty());
        // The XDG Base Directory Specification ignores relative paths.
        let folder = |value: &Option<OsString>| {
            let path = value.as_ref().map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let config_home = folder(&self.config_home)
            .or_else(|| folder(&self.home).map(|home| home.join(".config")));
        DefaultFiles {
            named: named.collect(),
            user: config_home.map(|folder| folder.join(USER_FILE)),
            system: self.system_file.clone(),
            ignores_variable: false,
        }
    }
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns `false`: other systems have no root.
#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// Returns the tolerance file of the machine.
///
/// A debug build reads the file in `CPREG_TEST_SYSTEM_TOLERANCES` instead, so that no test depends
/// on the machine. A release build ignores that variable.
fn system_file() -> PathBuf {
    let of_test = if cfg!(debug_assertions) {
        env::var_os("CPREG_TEST_SYSTEM_TOLERANCES")
    } else {
        None
    };
    of_test.map_or_else(|| Path::new(SYSTEM_FILE).to_owned(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Environment {
        Environment {
            home: Some("/home/me".into()),
            system_file: SYSTEM_FILE.into(),
            ..Environment::default()
        }
    }

    fn paths(paths: &[&str]) -> Vec<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn users_read_the_variable_then_their_file_then_that_of_the_machine() {
        let files = user().default_files();
        assert_eq!(files.named, paths(&[]));
        let file = "/home/me/.config/cpreg/tolerances.toml";
        assert_eq!(files.user, Some(file.into()));
        assert_eq!(files.system, Path::new(SYSTEM_FILE));

        let with_all = Environment {
            variable: Some("a.toml:/b.toml::".into()),
            config_home: Some("/config".into()),
            ..user()
        };
        let files = with_all.default_files();
        assert_eq!(files.named, paths(&["a.toml", "/b.toml"]));
        assert_eq!(files.user, Some("/config/cpreg/tolerances.toml".into()));
        assert_eq!(files.system, Path::new(SYSTEM_FILE));
        assert!(!files.ignores_variable);
    }

    #[test]
    fn relative_and_missing_folders_are_ignored() {
        for config_home in ["", "config", "./config"] {
            let environment = Environment {
                config_home: Some(config_home.into()),
                ..user()
            };
            let default = user().default_files();
            assert_eq!(environment.default_files(), default, "{config_home}");
        }
        let homeless = Environment {
            home: None,
            ..user()
        };
        assert_eq!(homeless.default_files().user, None);
    }

    #[test]
    fn root_reads_only_the_file_of_the_machine() {
        let root = Environment {
            is_root: true,
            variable: Some("/home/me/mine.toml".into()),
            config_home: Some("/home/me/config".into()),
            ..user()
        };
        let files = root.default_files();
        let expected = DefaultFiles {
            named: Vec::new(),
            user: None,
            system: SYSTEM_FILE.into(),
            ignores_variable: true,
        };
        assert_eq!(files, expected);
        for variable in [None, Some(OsString::new())] {
            let root = Environment {
                variable,
                ..root.clone()
            };
            assert!(!root.default_files().ignores_variable);
        }
    }
}
