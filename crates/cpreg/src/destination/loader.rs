//! [`Loader`]: the program that loads the state, and how it goes about it.
//!
//! | behaviour | QEMU to 10.2 | QEMU 11.0 | QEMU 11.1 |
//! |---|---|---|---|
//! | more registers in the input than it has | fails at once | no such check | no such check |
//! | register only in the input, below its own last one | fails, unnamed | fails, named | fails, named, unless tolerated |
//! | register only in the input, above its own last one | dropped in silence | fails, named | fails, named, unless tolerated |
//! | register only at the destination | nothing said | warning | warning unless tolerated |
//! | a failure followed by a tolerated register | – | – | the failure is lost |
//!
//! Sources: QEMU `target/arm/machine.c` and `target/arm/kvm.c` of v5.2.0, v10.0 and v11.0.3 (read), and what 5.2.0, 7.2.22,
//! 10.0.13 and 11.1.3 did on real kernels (recorded). Versions in between are taken to behave like their
//! generation. What one load comes to is played through in [`super::load`].

use core::fmt;
use core::str::FromStr;

use super::Version;
use crate::error::{Error, ErrorKind};
use crate::register::{RegisterClass, RegisterId};

/// A program that loads CPU state, in one of its versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loader {
    /// Which program.
    pub program: Program,
    /// Which version of it.
    pub version: Version,
}

/// A kind of program that loads CPU state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program(&'static str);

impl Program {
    /// QEMU, `qemu-system-aarch64_writable_bits`.
    pub const QEMU: Self = Self("qemu");
    /// A VMM that loads through cpreg (`cpreg_kvm::load`), which carries a plan out register by register, in the plan's order.
    pub const CPREG: Self = Self("cpreg");

    /// Whether it keeps a register that KVM lists in its own list. cpreg keeps them all; QEMU keeps what `struct kvm_regs` and SVE hold apart
    /// (`kvm_arm_reg_syncs_via_cpreg_list` in its `target/arm/kvm.c`, read in v10.0).
    pub fn has_in_list(self, id: RegisterId) -> bool {
        self == Self::CPREG || !matches!(id.class(), RegisterClass::Core | RegisterClass::Sve)
    }

    /// Its name, as in `qemu-10.0`.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// What QEMU does with a list that is not its own: it changed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Generation {
    /// Up to 10.2: the length is checked, the first unknown register ends it.
    LengthChecked,
    /// 11.0: every difference named, every unknown register fails.
    Strict,
    /// From 11.1: as 11.0, with a table of tolerances.
    Tolerant,
}

impl Loader {
    /// The versions whose behaviour is modelled, one of each generation, oldest first.
    pub const MODELLED: [Self; 5] = [
        Self::qemu(5, 2),
        Self::qemu(7, 2),
        Self::qemu(10, 0),
        Self::qemu(11, 0),
        Self::qemu(11, 1),
    ];

    /// A VMM that loads through this version of cpreg.
    pub const CPREG: Self = Self {
        program: Program::CPREG,
        version: Version::new(0, 1),
    };

    /// Whether it does what the plan says, so that nothing has to be converted for it, and nothing of its own has to be foreseen.
    pub fn can_execute_plans(self) -> bool {
        self.program == Program::CPREG
    }

    /// This version of QEMU.
    pub const fn qemu(major: u16, minor: u16) -> Self {
        Self {
            program: Program::QEMU,
            version: Version::new(major, minor),
        }
    }

    /// Whether this very version's loads were seen; others are taken to behave like their generation.
    pub(super) fn is_observed(self) -> bool {
        Self::MODELLED.contains(&self) && self != Self::qemu(11, 0)
    }

    pub(super) const fn generation(self) -> Generation {
        match (self.version.major, self.version.minor) {
            (..=10, _) => Generation::LengthChecked,
            (11, 0) => Generation::Strict,
            _ => Generation::Tolerant,
        }
    }

    /// Whether a failure to write a register after the last section is said as
    /// `Failed to put registers after init`: seen in 10.0 and later, not in 7.2 and earlier, and
    /// unknown in between.
    pub(super) fn reports_put_failure(self) -> Option<bool> {
        match self.version {
            version if version <= Version::new(7, 2) => Some(false),
            version if version >= Version::new(10, 0) => Some(true),
            _ => None,
        }
    }
}

/// What QEMU 11.1's own table does with a register that only one side has, under KVM
/// (QEMU commits 113ed8e53c and 6dd8be31f8).
pub(super) fn qemu_tolerates_in_input(id: RegisterId, value: Option<u64>) -> bool {
    QEMU_TOLERATED_REGISTERS.contains(&id)
        || (id == RegisterId::VENDOR_HYP_BMAP_2 && value == Some(0))
}

/// As [`qemu_tolerates_in_input`], for a register that only the destination has.
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
        write!(f, "{}-{}", self.program.name(), self.version)
    }
}

impl FromStr for Loader {
    type Err = Error;

    /// Reads `cpreg`, or `qemu-10.0`; a third number is allowed and ignored.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text == Program::CPREG.name() {
            return Ok(Self::CPREG);
        }
        let unknown = || Error::new(text, ErrorKind::UnknownLoader);
        let version = text.strip_prefix("qemu-").ok_or_else(unknown)?;
        let mut numbers = version.split('.');
        let mut number = || -> Option<u16> { numbers.next()?.parse().ok() };
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok(Self::qemu(major, minor)),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn names_go_both_ways() {
        for loader in Loader::MODELLED.into_iter().chain([Loader::CPREG]) {
            assert_eq!(loader.to_string().parse(), Ok(loader));
        }
        assert_eq!("qemu-10.0.13".parse(), Ok(Loader::qemu(10, 0)));
        for bad in ["qemu", "qemu-", "qemu-10", "qemu-a.b", "10.0", "xen-4.1"] {
            let error = bad.parse::<Loader>().expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::UnknownLoader, "{bad}");
        }
    }

    #[test]
    fn cpreg_is_this_cpreg() {
        let version = env!("CARGO_PKG_VERSION");
        assert!(version.starts_with(&alloc::format!("{}.", Loader::CPREG.version)));
    }

    #[test]
    fn machine_types_name_their_version() {
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
