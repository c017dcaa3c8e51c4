//! [`Loader`]: the program that loads the state, and how versions of QEMU treat a different list.
//!
//! `sequential.rs` has the behaviour of Firecracker and Cloud Hypervisor.
//!
//! | input | QEMU to 10.2 | QEMU 11.0 | QEMU 11.1 |
//! |---|---|---|---|
//! | list longer than the loader's | fails at once | not checked | not checked |
//! | source only, below the loader's last register | fails, unnamed | fails, named | (1) |
//! | source only, above the loader's last register | silently dropped | fails, named | (1) |
//! | destination only | no message | warning | warning unless tolerated |
//! | failure, followed by a tolerated register | – | – | forgets the failure |
//!
//! (1) Fails and names the register, unless QEMU's own table tolerates the register.
//!
//! Sources: QEMU `target/arm/machine.c` and `target/arm/kvm.c` of v5.2.0, v10.0 and v11.0.3 (read),
//! and loads by 5.2.0, 7.2.22, 10.0.13 and 11.1.3 on real kernels (recorded). The model assumes
//! that versions in between behave like their generation. [`super::load`] simulates a load.

use core::fmt;
use core::str::FromStr;

use super::Version;
use crate::error::{Error, ErrorKind};
use crate::register::{RegisterClass, RegisterId};

/// Version of a program that loads CPU state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loader {
    /// Program that loads the state.
    pub program: Program,
    /// Version of the program.
    pub version: Version,
}

/// Program that loads CPU state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program(&'static str);

impl Program {
    /// QEMU, `qemu-system-aarch64`.
    pub const QEMU: Self = Self("qemu");
    /// A VMM that loads through cpreg. `cpreg_kvm::load` executes a plan register by register, in
    /// the plan's order.
    pub const CPREG: Self = Self("cpreg");
    /// Firecracker.
    pub const FIRECRACKER: Self = Self("firecracker");
    /// Cloud Hypervisor.
    pub const CLOUD_HYPERVISOR: Self = Self("cloud-hypervisor");

    /// Returns `true` if the program's own list keeps a register that KVM lists.
    ///
    /// QEMU leaves those of `struct kvm_regs` and SVE out of its list
    /// (`kvm_arm_reg_syncs_via_cpreg_list` in its `target/arm/kvm.c`, read in v10.0). The other
    /// programs keep all registers.
    pub fn has_in_list(self, id: RegisterId) -> bool {
        self != Self::QEMU || !matches!(id.class(), RegisterClass::Core | RegisterClass::Sve)
    }

    /// Returns the program's name, as in `qemu-10.0`.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// Generation of QEMU's handling of a list that differs from its own. The handling changed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Generation {
    /// Up to 10.2: QEMU checks the length, and the first unknown register ends the load.
    LengthChecked,
    /// 11.0: QEMU names every difference, and every unknown register fails the load.
    Strict,
    /// From 11.1: as in 11.0, with a table of tolerances.
    Tolerant,
}

impl Loader {
    /// Versions of QEMU whose behaviour [`super::load`] models, oldest first.
    pub const MODELLED: [Self; 5] = [
        Self::qemu(5, 2),
        Self::qemu(7, 2),
        Self::qemu(10, 0),
        Self::qemu(11, 0),
        Self::qemu(11, 1),
    ];

    /// Releases of other VMMs whose loads of their own snapshots were observed, oldest first.
    pub const OTHER_VMMS: [Self; 6] = [
        Self::firecracker(1, 10),
        Self::firecracker(1, 12),
        Self::firecracker(1, 14),
        Self::firecracker(1, 16),
        Self::cloud_hypervisor(51),
        Self::cloud_hypervisor(53),
    ];

    /// Loader of a VMM that loads through this version of cpreg.
    pub const CPREG: Self = Self {
        program: Program::CPREG,
        version: Version::new(0, 1),
    };

    /// Returns `true` if the loader executes a plan. Such a loader needs no conversion of the VM
    /// and no prediction.
    pub fn can_execute_plans(self) -> bool {
        self.program == Program::CPREG
    }

    /// Returns this version of QEMU.
    pub const fn qemu(major: u16, minor: u16) -> Self {
        Self {
            program: Program::QEMU,
            version: Version::new(major, minor),
        }
    }

    /// Returns this release of Firecracker.
    pub const fn firecracker(major: u16, minor: u16) -> Self {
        Self {
            program: Program::FIRECRACKER,
            version: Version::new(major, minor),
        }
    }

    /// Returns this release of Cloud Hypervisor.
    pub const fn cloud_hypervisor(major: u16) -> Self {
        Self {
            program: Program::CLOUD_HYPERVISOR,
            version: Version::new(major, 0),
        }
    }

    /// Returns `true` for QEMU.
    pub fn is_qemu(self) -> bool {
        self.program == Program::QEMU
    }

    /// Returns `true` if the loader writes the registers of the input and no others.
    ///
    /// QEMU writes all registers of its own list.
    pub fn writes_only_incoming(self) -> bool {
        [Program::FIRECRACKER, Program::CLOUD_HYPERVISOR].contains(&self.program)
    }

    /// Returns `true` if loads by exactly this version were observed.
    ///
    /// The model assumes that other versions behave like their generation.
    pub(super) fn is_observed(self) -> bool {
        Self::OTHER_VMMS.contains(&self)
            || Self::MODELLED.contains(&self) && self != Self::qemu(11, 0)
    }

    pub(super) const fn generation(self) -> Generation {
        match (self.version.major, self.version.minor) {
            (..=10, _) => Generation::LengthChecked,
            (11, 0) => Generation::Strict,
            _ => Generation::Tolerant,
        }
    }

    /// Returns `Some(true)` if the loader prints `Failed to put registers after init` when a write
    /// after the last section fails.
    ///
    /// QEMU 10.0 and later print the message (observed), and 7.2 and earlier do not. Returns `None`
    /// for the versions in between, which were not examined.
    pub(super) fn reports_put_failure(self) -> Option<bool> {
        match self.version {
            version if version <= Version::new(7, 2) => Some(false),
            version if version >= Version::new(10, 0) => Some(true),
            _ => None,
        }
    }
}

/// Returns `true` if QEMU 11.1's own table tolerates a register that only the source has, under KVM
/// (QEMU commits 113ed8e53c and 6dd8be31f8).
pub(super) fn qemu_tolerates_in_input(id: RegisterId, value: Option<u64>) -> bool {
    QEMU_TOLERATED_REGISTERS.contains(&id)
        || (id == RegisterId::VENDOR_HYP_BMAP_2 && value == Some(0))
}

/// Returns `true` if QEMU 11.1's own table tolerates a register that only the destination has,
/// under KVM (commits as for [`qemu_tolerates_in_input`]).
pub(super) fn qemu_tolerates_missing(id: RegisterId) -> bool {
    QEMU_TOLERATED_REGISTERS.contains(&id)
}

const QEMU_TOLERATED_REGISTERS: [RegisterId; 3] = [
    RegisterId::TCR2_EL1,
    RegisterId::PIRE0_EL1,
    RegisterId::PIR_EL1,
];

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.can_execute_plans() {
            return f.pad(self.program.name());
        }
        if self.program == Program::CLOUD_HYPERVISOR && self.version.minor == 0 {
            return write!(f, "{}-{}", self.program.name(), self.version.major);
        }
        write!(f, "{}-{}", self.program.name(), self.version)
    }
}

impl FromStr for Loader {
    type Err = Error;

    /// Parses `cpreg`, `qemu-10.0`, `firecracker-1.14` or `cloud-hypervisor-53`, in any case. A
    /// third number is allowed and ignored.
    fn from_str(text: &str) -> Result<Self, Error> {
        let lower = text.to_ascii_lowercase();
        if lower == Program::CPREG.name() {
            return Ok(Self::CPREG);
        }
        let unknown = || Error::new(text, ErrorKind::UnknownLoader);
        let (name, version) = lower.rsplit_once('-').ok_or_else(unknown)?;
        let mut numbers = version.split('.');
        let mut number = || -> Option<u16> { numbers.next()?.parse().ok() };
        let (major, minor) = (number().ok_or_else(unknown)?, number());
        let programs = [
            Program::QEMU,
            Program::FIRECRACKER,
            Program::CLOUD_HYPERVISOR,
        ];
        let program = programs.into_iter().find(|program| program.name() == name);
        // A release of Cloud Hypervisor is one number.
        let minor = match program {
            Some(Program::CLOUD_HYPERVISOR) if version.contains('.') => minor,
            Some(Program::CLOUD_HYPERVISOR) => Some(0),
            _ => minor,
        };
        Ok(Self {
            program: program.ok_or_else(unknown)?,
            version: Version::new(major, minor.ok_or_else(unknown)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn names_round_trip() {
        let others = Loader::OTHER_VMMS.into_iter().chain([Loader::CPREG]);
        for loader in Loader::MODELLED.into_iter().chain(others) {
            assert_eq!(loader.to_string().parse(), Ok(loader));
        }
        assert_eq!("firecracker-1.14.4".parse(), Ok(Loader::firecracker(1, 14)));
        for text in ["cloud-hypervisor-53", "Cloud-Hypervisor-53.0"] {
            assert_eq!(text.parse(), Ok(Loader::cloud_hypervisor(53)));
        }
        assert_eq!("qemu-10.0.13".parse(), Ok(Loader::qemu(10, 0)));
        assert_eq!("QEMU-10.0".parse(), Ok(Loader::qemu(10, 0)));
        assert_eq!("Cpreg".parse(), Ok(Loader::CPREG));
        for bad in [
            "qemu",
            "qemu-",
            "qemu-10",
            "qemu-a.b",
            "10.0",
            "xen-4.1",
            "firecracker-1",
            "firecracker",
            "cloud-hypervisor-",
            "cloud-hypervisor-53.x",
            "hypervisor-53",
        ] {
            let error = bad.parse::<Loader>().expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::UnknownLoader, "{bad}");
        }
    }

    #[test]
    fn cpreg_loader_has_the_crate_version() {
        let version = env!("CARGO_PKG_VERSION");
        assert!(version.starts_with(&alloc::format!("{}.", Loader::CPREG.version)));
    }

    #[test]
    fn machine_types_contain_their_version() {
        assert_eq!(
            Version::from_machine_type("virt-10.0"),
            Some(Version::new(10, 0))
        );
        for other in ["virt", "sbsa-ref", "virt-", "virt-10"] {
            assert_eq!(Version::from_machine_type(other), None, "{other}");
        }
    }

    #[test]
    fn the_generations_change_at_11_0_and_11_1() {
        assert_eq!(Loader::qemu(10, 2).generation(), Generation::LengthChecked);
        assert_eq!(Loader::qemu(11, 0).generation(), Generation::Strict);
        assert_eq!(Loader::qemu(12, 0).generation(), Generation::Tolerant);
    }
}
