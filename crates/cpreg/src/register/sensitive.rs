//! Which registers tell about the guest rather than about its CPU: what a report of a VM leaves out.
//!
//! | registers | what they tell | |
//! |---|---|---|
//! | pointer-authentication keys | how to forge a pointer that the guest trusts | [`RegisterId::is_secret`] |
//! | addresses and context numbers of EL0 and EL1 | where the guest's kernel and programs lie, which process ran | [`RegisterId::is_guest_pointer`] |
//!
//! What is done about them lives with whoever prints or writes values.

use super::coprocessor::CoprocessorRegister;
use super::id::{DecodedId, RegisterId, SystemRegister};
use super::name::Naming;

/// What a register holds in a report instead of its value.
///
/// Zero would say that it was never used, which decisions may take for harmless. This fits every register that is
/// blanked: 32 bits, aligned to 64 KiB, in the lower half of the address space.
pub const REDACTED: u64 = 0xb1a4_0000;

/// Registers that hold an address or a context number of the guest, by their architectural names, ascending.
///
/// KVM and TCG take any value for each of them, so no decision hangs on which one it is. EL2's and EL3's are not among
/// them: whether an emulator takes those depends on the value.
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
    /// Whether the value is a secret of the guest: either half of one of the five
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

    /// Whether the value is an address or a context number of the guest, which says nothing about its CPU: translation
    /// tables, vectors, thread pointers, fault and breakpoint addresses of EL0 and EL1.
    pub fn is_guest_pointer(self) -> bool {
        // The Secure instance of an AArch32 register is the same register in the other world.
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
    fn every_name_is_a_registers_and_they_ascend() {
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
    fn secrets_are_ten() {
        let secrets = (0..=0xffff_u64)
            .map(|low| RegisterId::from_raw(0x6030_0000_0013_0000 | low))
            .filter(|id| id.is_secret());
        assert!(secrets.eq(RegisterId::POINTER_AUTHENTICATION_KEYS));
    }

    /// Who replaces such a value by another one that is not zero must not change what is decided.
    #[test]
    fn no_decision_looks_at_the_value_of_a_guest_pointer() {
        fn looks_at(condition: &Condition, id: RegisterId, own: bool) -> bool {
            match condition {
                Condition::Value { mask, expected } => own && (*mask, *expected) != (u64::MAX, 0),
                Condition::DiffersIn { .. } => own,
                Condition::OtherRegister { register, .. } => *register == id,
                Condition::WithoutFeature { unused, .. } => looks_at(unused, id, own),
                Condition::And(one, other) => looks_at(one, id, own) || looks_at(other, id, own),
                Condition::Always | Condition::NoSuchCache | Condition::PmuUnused => false,
            }
        }
        let tolerances = Tolerances::default();
        for id in pointers().chain(RegisterId::POINTER_AUTHENTICATION_KEYS) {
            assert_eq!(RegisterKind::from_id(id), RegisterKind::Storage, "{id}");
            assert_eq!(RegisterKind::from_id(id).scope(), Scope::Vcpu, "{id}");
            for entry in tolerances.entries() {
                let own = entry.registers.contains(id);
                assert!(
                    !looks_at(&entry.condition, id, own),
                    "{id}: {}",
                    entry.reason
                );
            }
        }
    }
}
