//! [`Architecture`]: the processors for which a release has programs, with their names.

use std::env;
use std::fmt;

use clap::ValueEnum;
use e2e_framework::lab::toolchain;

use crate::project::Result;

/// Processor of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    /// x86-64
    #[value(name = "x86_64")]
    X86_64,
    /// arm64
    #[value(name = "aarch64")]
    Aarch64,
}

impl Architecture {
    /// Returns the architecture of this machine.
    ///
    /// # Errors
    /// Returns an error if a release has no program for it.
    pub(crate) fn native() -> Result<Self> {
        let all = Self::value_variants().iter().copied();
        let mut native = all.filter(|architecture| architecture.name() == env::consts::ARCH);
        let name = env::consts::ARCH;
        Ok(native.next().ok_or(format!("no packages for {name}"))?)
    }

    /// Returns the architectures for which this machine builds. An arm64 program builds on any
    /// machine.
    ///
    /// # Errors
    /// Returns an error if this machine is of another architecture.
    pub(crate) fn buildable() -> Result<Vec<Self>> {
        Ok(match Self::native()? {
            Self::X86_64 => vec![Self::X86_64, Self::Aarch64],
            Self::Aarch64 => vec![Self::Aarch64],
        })
    }

    /// Returns the name that Rust, Linux and RPM use.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Returns the name that Debian and OCI images use.
    pub(crate) const fn debian_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Returns the name of Rust's target.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => toolchain::TARGET,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_builds_for_itself() {
        let native = Architecture::native().unwrap();
        assert!(Architecture::buildable().unwrap().contains(&native));
        assert!(native.target().starts_with(native.name()));
    }
}
