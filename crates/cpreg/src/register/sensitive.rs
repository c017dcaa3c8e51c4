//! Registers that reveal the guest's data rather than its CPU. A report of a VM does not contain
//! their values.
//!
//! - Pointer-authentication keys ([`RegisterId::is_secret`]) allow forging pointers that the guest
//!   trusts.
//! - Addresses and context numbers of EL0 and EL1 ([`RegisterId::is_guest_pointer`]) reveal the
//!   locations of the guest's kernel and programs, and the running process.
//!
//! The code that prints or writes values redacts them.

use super::coprocessor::CoprocessorRegister;
use super::id::{DecodedId, RegisterId, SystemRegister};
use super::name::Naming;

/// Value of a redacted register in a report.
///
/// Zero would look like an unused register, which decisions may consider harmless. This value is
/// valid for every redacted register: 32 bits, aligned to 64 KiB, in the lower half of the address
/// space.
pub const REDACTED: u64 = 0xb1a4_0000;

/// Registers that hold an address or a context number of the guest, by their architectural names,
/// ascending.
///
/// KVM and TCG accept any value for each of them, so no decision depends on the value. The list has
/// no registers of EL2 and EL3, because emulators accept only some values of these.
const GUEST_POINTERS: [&str; 28] = [
    "CONTEXTIDR",
    "CONTEXTIDR_EL1",
    "DFAR",
    "FAR_EL1",
    "GCSPR_EL0",
    "GCSPR_EL1",
    "IFAR",
    "PAR",
    "PAR_64",
    "PAR_EL1",
    "SCXTNUM_EL0",
    "SCXTNUM_EL1",
    "TPIDR2_EL0",
    "TPIDRPRW",
    "TPIDRRO_EL0",
    "TPIDRURO",
    "TPIDRURW",
    "TPIDR_EL0",
    "TPIDR_EL1",
    "TTBR0",
    "TTBR0_64",
    "TTBR0_EL1",
    "TTBR1",
    "TTBR1_64",
    "TTBR1_EL1",
    "VBAR",
    "VBAR_EL1",
    "WFAR",
];

impl RegisterId {
    /// Returns `true` if the value is a secret of the guest: either half of one of the five
    /// pointer-authentication keys.
    pub const fn is_secret(self) -> bool {
        matches!(
            self.system_register(),
            Some(
                SystemRegister {
                    op0: 3,
                    op1: 0,
                    crn: 2,
                    crm: 1..=2,
                    op2: 0..=3
                } | SystemRegister {
                    op0: 3,
                    op1: 0,
                    crn: 2,
                    crm: 3,
                    op2: 0..=1
                }
            )
        )
    }

    /// Returns `true` if the value is an address or a context number of the guest, which does not
    /// describe its CPU.
    ///
    /// These are translation tables, vectors, thread pointers, fault and breakpoint addresses of
    /// EL0 and EL1.
    pub fn is_guest_pointer(self) -> bool {
        // The Secure instance of an AArch32 register has the same use in the Secure world.
        let id = match self.decode() {
            DecodedId::Coprocessor(register) => Self::coprocessor(CoprocessorRegister {
                secure: false,
                ..register
            }),
            _ => self,
        };
        let Some(name) = id.name_in(Naming::Architectural) else {
            return false;
        };
        GUEST_POINTERS.binary_search(&name).is_ok()
            || name.starts_with("DBGBVR")
            || name.starts_with("DBGWVR")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::kernel::{RegisterKind, Scope};
    use crate::tolerance::Tolerances;
    use crate::tolerance::condition::Condition;

    fn pointers() -> impl Iterator<Item = RegisterId> {
        let names = GUEST_POINTERS.iter().chain(&["DBGBVR0_EL1", "DBGWVR3"]);
        names.map(|name| RegisterId::parse_in(name, Naming::Architectural).expect("a register"))
    }

    #[test]
    fn every_name_is_a_register_and_names_ascend() {
        assert!(GUEST_POINTERS.is_sorted());
        for id in pointers() {
            assert!(id.is_guest_pointer() && !id.is_secret(), "{id}");
        }
        let secure = RegisterId::parse_in("TPIDRURW_S", Naming::Architectural).expect("a register");
        assert!(secure.is_guest_pointer());
        for id in [
            RegisterId::SCTLR_EL1,
            RegisterId::MIDR_EL1,
            RegisterId::PSCI_VERSION,
        ] {
            assert!(!id.is_guest_pointer(), "{id}");
        }
    }

    #[test]
    fn there_are_ten_secrets() {
        let secrets = (0..=0xffff_u64)
            .map(|low| RegisterId::from_raw(0x6030_0000_0013_0000 | low))
            .filter(|id| id.is_secret());
        assert!(secrets.eq(RegisterId::POINTER_AUTHENTICATION_KEYS));
    }

    /// Replacing such a value by another one that is not zero must not change any decision.
    #[test]
    fn no_decision_depends_on_the_value_of_a_guest_pointer() {
        fn reads_value_of(condition: &Condition, id: RegisterId, is_own: bool) -> bool {
            match condition {
                Condition::Value { mask, expected } => {
                    is_own && (*mask, *expected) != (u64::MAX, 0)
                }
                Condition::DiffersIn { .. } => is_own,
                Condition::OtherRegister { register, .. } => *register == id,
                Condition::WithoutFeature { unused, .. } => reads_value_of(unused, id, is_own),
                Condition::And(one, other) => {
                    reads_value_of(one, id, is_own) || reads_value_of(other, id, is_own)
                }
                Condition::Always | Condition::NoSuchCache | Condition::PmuUnused => false,
            }
        }
        let tolerances = Tolerances::default();
        for id in pointers().chain(RegisterId::POINTER_AUTHENTICATION_KEYS) {
            assert_eq!(RegisterKind::from_id(id), RegisterKind::Storage, "{id}");
            assert_eq!(RegisterKind::from_id(id).scope(), Scope::Vcpu, "{id}");
            for entry in tolerances.entries() {
                let is_own = entry.registers.contains(id);
                assert!(
                    !reads_value_of(&entry.condition, id, is_own),
                    "{id}: {}",
                    entry.reason
                );
            }
        }
    }
}
