//! [`HostRecord`]: what a host with KVM is, as `cpreg probe kvm` finds it: for each set of vCPU features the registers that a fresh vCPU has,
//! their values, and which other values KVM took.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | [`HostRecord`] and its parts; what a host is called |
//! | `register.rs` | [`RegisterRecord`]: what was read of a register and tried on it |
//! | [`json`] | the file that it is kept in, `cpreg.host/1` |
//! | [`destination`] | the host as a destination for a guest with some features |
//!
//! How it is found out lives in `cpreg-kvm`; the recorded hosts that cpreg comes with in
//! [`crate::history`].

pub mod destination;
pub mod json;
pub(crate) mod register;

use std::collections::BTreeMap;

use cpreg::destination::Features;
use cpreg::register::RegisterId;

pub use register::{AtReset, RegisterRecord, WriteTrial};

#[cfg(test)]
pub(crate) mod testing;

/// What `KVM_CHECK_EXTENSION` says, by the capability's name in `linux/kvm.h` (`KVM_CAP_ARM_SVE`); those that it does not have are 0.
pub type Capabilities = BTreeMap<String, i32>;

/// A host, recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// Which kernel and CPU.
    pub identity: Identity,
    /// What it says it can do.
    pub capabilities: Capabilities,
    /// What it gives to guests, by their features.
    pub guests: BTreeMap<Features, GuestRecord>,
}

/// Which kernel and CPU a host is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `uname -r`: `6.12.107+deb13-cloud-arm64`.
    pub release: String,
    /// `uname -v`: `#1 SMP Debian 6.12.107-1 (2026-10-20)`.
    pub version: String,
    /// MIDR_EL1 of the host's first CPU.
    pub midr: u64,
    /// What to call the CPU: what the person who recorded it says, else its name by MIDR_EL1; `neoverse-n1`.
    pub cpu: String,
    /// How KVM runs there, where it is not as usual: `nested`, `nvhe`, `mte`; empty otherwise.
    pub mode: String,
    /// Whether the CPU is an emulator's, so that nothing about values is proven for a machine of that name.
    pub emulated: bool,
}

/// What a host gives to a guest with one set of features.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestRecord {
    /// The registers of a fresh vCPU, ascending by id.
    pub registers: Vec<RegisterRecord>,
    /// For each ID register the bits that user space may change, where the kernel tells.
    pub writable: Option<BTreeMap<RegisterId, u64>>,
}

/// What names of hosts begin with.
pub const PREFIX: &str = "linux-";

impl Identity {
    /// The kernel's upstream version: `6.12.107`.
    ///
    /// Debian's `uname -r` may leave it out (`5.10.0-32-cloud-arm64`), and then `uname -v` has it; all others begin with it.
    pub fn upstream(&self) -> &str {
        let package = self.package().and_then(|package| package.split('-').next());
        package.unwrap_or_else(|| {
            let is_part = |letter: char| letter.is_ascii_digit() || letter == '.';
            let end = self.release.find(|letter| !is_part(letter));
            let numbers = end.and_then(|end| self.release.get(..end));
            numbers.unwrap_or(&self.release).trim_end_matches('.')
        })
    }

    /// The version of the distribution's package, where `uname -v` has it, as Debian's: `6.12.107-1`.
    pub fn package(&self) -> Option<&str> {
        let (_, behind) = self.version.split_once(" Debian ")?;
        behind.split(' ').next().filter(|it| !it.is_empty())
    }

    /// Its CPU model and how KVM runs there: `neoverse-n1`, `max+nested`.
    pub fn cpu_and_mode(&self) -> String {
        let plus = if self.mode.is_empty() { "" } else { "+" };
        format!("{}{plus}{}", self.cpu, self.mode)
    }

    /// What to call the host: `linux-6.12.107/neoverse-n1`.
    pub fn name(&self) -> String {
        format!("{PREFIX}{}/{}", self.upstream(), self.cpu_and_mode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_called_by_its_upstream_kernel() {
        let name = |release: &str, version: &str, mode: &str| {
            let identity = Identity {
                release: release.to_owned(),
                version: version.to_owned(),
                cpu: "neoverse-n1".to_owned(),
                mode: mode.to_owned(),
                ..Identity::default()
            };
            (identity.name(), identity.package().map(str::to_owned))
        };
        let package = |it: &str| Some(it.to_owned());
        assert_eq!(
            name(
                "5.10.0-32-cloud-arm64",
                "#1 SMP Debian 5.10.223-1 (2024-08-10)",
                ""
            ),
            (
                "linux-5.10.223/neoverse-n1".to_owned(),
                package("5.10.223-1")
            )
        );
        assert_eq!(
            name("6.8.0-45-generic", "#45-Ubuntu SMP", "nvhe"),
            ("linux-6.8.0/neoverse-n1+nvhe".to_owned(), None)
        );
        assert_eq!(name("6.12", "", "").0, "linux-6.12/neoverse-n1");
        assert_eq!(name("v1", "", "").0, "linux-/neoverse-n1");
    }
}
