//! [`HostRecord`]: a host with KVM, as `cpreg probe kvm` records it.
//!
//! For each set of vCPU features, a record holds the registers of a fresh vCPU, their values, and
//! the results of writing other values.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`HostRecord`] and its parts; names of hosts |
//! | `register.rs` | [`RegisterRecord`]: the value of a register, and the writes tried on it |
//! | [`json`] | the file of a recorded host, `cpreg.host/2` |
//! | [`destination`] | the host as a destination for a guest with some features |
//!
//! `cpreg-kvm` records hosts. [`crate::host_index`] contains the recorded hosts that come with
//! cpreg.

pub mod destination;
pub mod json;
pub(crate) mod register;

use std::collections::BTreeMap;

use cpreg::destination::Features;
use cpreg::hardware::HardwareFacts;
use cpreg::register::RegisterId;

pub use register::{AtReset, RegisterRecord, WriteTrial};

#[cfg(test)]
pub(crate) mod testing;

/// Results of `KVM_CHECK_EXTENSION`, by the capability's name in `linux/kvm.h` (`KVM_CAP_ARM_SVE`).
///
/// The result of a capability that the host lacks is 0.
pub type Capabilities = BTreeMap<String, i32>;

/// A recorded host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// Kernel and CPU.
    pub identity: Identity,
    /// Capabilities of KVM.
    pub capabilities: Capabilities,
    /// Recorded guests, by their features.
    pub guests: BTreeMap<Features, GuestRecord>,
    /// Properties that guests see and that no register list holds.
    pub hardware: HardwareFacts,
}

/// Features that KVM gives a guest only if it has the capability.
const FEATURE_CAPABILITIES: [(Features, &str); 5] = [
    (Features::PMU, "KVM_CAP_ARM_PMU_V3"),
    (Features::SVE, "KVM_CAP_ARM_SVE"),
    (
        Features::POINTER_AUTHENTICATION,
        "KVM_CAP_ARM_PTRAUTH_ADDRESS",
    ),
    (Features::EL2, "KVM_CAP_ARM_EL2"),
    (Features::MTE, "KVM_CAP_ARM_MTE"),
];

impl HostRecord {
    /// Returns the features that no guest of the host can have: KVM there was asked for their
    /// capabilities, and lacks them.
    pub fn lacking_features(&self) -> Features {
        let lacking = FEATURE_CAPABILITIES
            .into_iter()
            .filter(|(_, name)| self.capabilities.get(*name) == Some(&0));
        lacking.fold(Features::NONE, |all, (feature, _)| all | feature)
    }
}

/// Kernel and CPU of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `uname -r`: `6.12.107+deb13-cloud-arm64`.
    pub release: String,
    /// `uname -v`: `#1 SMP Debian 6.12.107-1 (2026-10-20)`.
    pub version: String,
    /// MIDR_EL1 of the host's first CPU.
    pub midr: u64,
    /// Name of the CPU, such as `neoverse-n1`, which the user gave or which follows from MIDR_EL1.
    pub cpu: String,
    /// Mode of KVM: `nested`, `nvhe`, `protected` or `mte`, joined by `+`. Empty for the usual
    /// mode.
    pub mode: String,
    /// `true` if the CPU is emulated. The values then prove nothing about a real machine with this
    /// CPU.
    pub emulated: bool,
    /// The different kinds of CPU of the host, in the order of their first CPUs. Empty if not
    /// known.
    pub cpus: Vec<PhysicalCpu>,
}

/// Kind of CPU of a host, as registers identify it.
///
/// A host with more than one kind is heterogeneous (Arm's big.LITTLE): a guest sees the registers
/// of the CPU on which its vCPU runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhysicalCpu {
    /// MIDR_EL1.
    pub midr: u64,
    /// REVIDR_EL1.
    pub revidr: u64,
    /// CTR_EL0 as a process reads it.
    pub ctr: u64,
    /// Number of CPUs of this kind.
    pub count: u32,
}

/// Recorded guest with one set of features.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestRecord {
    /// Registers of a fresh vCPU, ascending by id.
    pub registers: Vec<RegisterRecord>,
    /// Bits of each ID register that user space may change, if the kernel reports them.
    pub writable: Option<BTreeMap<RegisterId, u64>>,
}

/// Prefix of the name of every recorded host: `linux-6.12.107/neoverse-n1`.
pub const HOST_NAME_PREFIX: &str = "linux-";

impl Identity {
    /// Returns the kernel's upstream version: `6.12.107`.
    ///
    /// Debian's `uname -r` may lack the version (`5.10.0-32-cloud-arm64`), and `uname -v` has it in
    /// that case. All other releases begin with the upstream version.
    pub fn upstream(&self) -> &str {
        let package = self.package().and_then(|package| package.split('-').next());
        package.unwrap_or_else(|| {
            let is_part = |letter: char| letter.is_ascii_digit() || letter == '.';
            let end = self.release.find(|letter| !is_part(letter));
            let numbers = end.and_then(|end| self.release.get(..end));
            numbers.unwrap_or(&self.release).trim_end_matches('.')
        })
    }

    /// Returns the version of the distribution's package, if `uname -v` has it, as Debian's does.
    pub fn package(&self) -> Option<&str> {
        let (_, rest) = self.version.split_once(" Debian ")?;
        rest.split(' ').next().filter(|word| !word.is_empty())
    }

    /// Returns the CPU model and the mode of KVM: `neoverse-n1`, `max+nested`.
    pub fn cpu_and_mode(&self) -> String {
        let plus = if self.mode.is_empty() { "" } else { "+" };
        format!("{}{plus}{}", self.cpu, self.mode)
    }

    /// Returns the name of the host: `linux-6.12.107/neoverse-n1`.
    pub fn name(&self) -> String {
        format!(
            "{HOST_NAME_PREFIX}{}/{}",
            self.upstream(),
            self.cpu_and_mode()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_lacking_only_if_kvm_was_asked() {
        let mut record = HostRecord {
            identity: Identity::default(),
            capabilities: Capabilities::new(),
            guests: BTreeMap::new(),
            hardware: HardwareFacts::UNKNOWN,
        };
        assert_eq!(record.lacking_features(), Features::NONE);
        for (name, number) in [("KVM_CAP_ARM_SVE", 0), ("KVM_CAP_ARM_PMU_V3", 1)] {
            record.capabilities.insert(name.to_owned(), number);
        }
        assert_eq!(record.lacking_features(), Features::SVE);
    }

    #[test]
    fn a_host_is_named_after_its_upstream_kernel() {
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
        let package = |version: &str| Some(version.to_owned());
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
        // A release that does not begin with a number has no upstream version.
        assert_eq!(name("v1", "", "").0, "linux-/neoverse-n1");
    }
}
