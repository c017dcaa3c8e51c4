//! Names and printing of a [`RegisterId`].
//!
//! The names are in the generated tables, and [`super::parse`] parses them. An id prints as the
//! first spelling in this table that exists for the id:
//!
//! | spelling | register |
//! |---|---|
//! | `TCR2_EL1`, `PSCI_VERSION`, `X0`, `ID_DFR0` | any register with a name |
//! | `CONTEXTIDR_S` | the Secure instance of an AArch32 register |
//! | `CCSIDR_EL1[3]` | CCSIDR for the CSSELR value 3 |
//! | `Z0[1]`, `P0[1]`, `FFR[1]` | a further slice of an SVE register |
//! | `KVM_REG_ARM_FW_REG(9)` | firmware register without a name |
//! | `KVM_REG_ARM_FW_FEAT_BMAP_REG(9)` | firmware bitmap without a name |
//! | `S3_0_C2_C0_3` | any other system register |
//! | `P15_0_C0_C1_2`, `P15_0_C7` | any other AArch32 register (32, 64 bits); `_S` if Secure |
//! | `0x603000000013c103`, always 16 digits | any id |
//!
//! [`super::parse`] parses further spellings. Names of IMPLEMENTATION DEFINED registers are valid
//! only on some CPUs, so ids do not print as these names.
//! [`RegisterId::implementation_defined_names`] returns them.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::cmp::Ordering;
use core::fmt;

use super::coprocessor::CoprocessorRegister;
use super::id::{DecodedId, RegisterId, SystemRegister};
use super::tables;

/// Meaning of names.
///
/// KVM swapped the encodings of two ids, which is now frozen ABI. KVM also gives ids of the core
/// class to some registers that have system register encodings too.
///
/// | id | under KVM | by encoding |
/// |---|---|---|
/// | 0x603000000013df1a | `KVM_REG_ARM_TIMER_CNT`: the counter CNTVCT_EL0 | `CNTV_CVAL_EL0` |
/// | 0x603000000013df02 | `KVM_REG_ARM_TIMER_CVAL`: compare value CNTV_CVAL_EL0 | `CNTVCT_EL0` |
/// | 0x60200000001000d4 | `FPSR` | `CORE_FPSR` |
/// | 0x603000000013da21 | `SYSREG_FPSR` | `FPSR` |
///
/// (The same holds for FPCR, SP_EL0, SP_EL1, ELR_EL1 and the SPSRs.) QEMU under TCG uses ids by
/// their encoding. In every list recorded from TCG, …df1a is constant while the guest runs, like a
/// compare value, and …df02 is absent. In lists from KVM, …df1a always differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Naming {
    /// Names by the registers for which KVM uses the ids.
    #[default]
    Kvm,
    /// Names by the architecture's encoding, as QEMU under TCG uses ids.
    Architectural,
}

impl RegisterId {
    /// Returns the register's name under KVM, if the tables have one.
    ///
    /// `Display` prints a spelling for every id; see the module.
    pub fn name(self) -> Option<&'static str> {
        find_by_id(tables::NAMES_BY_ID, self)
    }

    /// Returns the register's name with this meaning of ids, if the tables have one.
    pub fn name_in(self, naming: Naming) -> Option<&'static str> {
        match naming {
            Naming::Kvm => self.name(),
            Naming::Architectural => {
                find_by_id(tables::ARCHITECTURAL_BY_ID, self).or_else(|| self.name())
            }
        }
    }

    /// Returns all names in the tables, sorted. A register may have more than one.
    pub fn all_names() -> impl Iterator<Item = &'static str> {
        tables::IDS_BY_NAME.iter().map(|(name, _)| *name)
    }

    /// Returns the id for printing like `{}`, but with this choice of names.
    pub const fn display_in(self, naming: Naming) -> DisplayRegisterId {
        DisplayRegisterId { id: self, naming }
    }

    /// Returns names of an IMPLEMENTATION DEFINED register.
    ///
    /// Each name comes with the CPUs that have it, separated by commas: `CPUECTLR_EL1`,
    /// `neoverse-n1,neoverse-v1`.
    pub fn implementation_defined_names(
        self,
    ) -> impl Iterator<Item = (&'static str, &'static str)> {
        tables::IMPLEMENTATION_DEFINED
            .iter()
            .filter(move |(id, _, _)| *id == self.raw())
            .map(|(_, name, cpus)| (*name, *cpus))
    }

    /// Returns `true` if the register is a counter of time under this meaning of ids.
    ///
    /// Counters of time are CNTVCT_EL0, CNTPCT_EL0 and their self-synchronized views.
    pub fn is_counter(self, naming: Naming) -> bool {
        let counter = match naming {
            Naming::Kvm => Self::TIMER_CNT,
            Naming::Architectural => Self::TIMER_CVAL,
        };
        self == counter
            || self == Self::PTIMER_CNT
            || matches!(
                self.system_register(),
                Some(SystemRegister {
                    op0: 3,
                    op1: 3,
                    crn: 14,
                    crm: 0,
                    op2: 5..=6
                })
            )
    }
}

impl fmt::Display for RegisterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.display_in(Naming::Kvm).fmt(f)
    }
}

/// Printable [`RegisterId`]; see [`RegisterId::display_in`].
#[derive(Clone, Copy, Debug)]
pub struct DisplayRegisterId {
    id: RegisterId,
    naming: Naming,
}

impl fmt::Display for DisplayRegisterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id;
        if let Some(name) = id.name_in(self.naming) {
            return f.pad(name);
        }
        let text = match id.decode() {
            DecodedId::Demux { index: 0, selector } => format!("CCSIDR_EL1[{selector}]"),
            DecodedId::SystemRegister(SystemRegister {
                op0,
                op1,
                crn,
                crm,
                op2,
            }) => {
                format!("S{op0}_{op1}_C{crn}_C{crm}_{op2}")
            }
            DecodedId::Firmware { number } => format!("{FIRMWARE}{number})"),
            DecodedId::FirmwareBitmap { number } => format!("{FIRMWARE_BITMAP}{number})"),
            DecodedId::SveZ { register, slice } => format!("Z{register}[{slice}]"),
            DecodedId::SveP { register, slice } => format!("P{register}[{slice}]"),
            DecodedId::SveFfr { slice } => format!("FFR[{slice}]"),
            DecodedId::Coprocessor(register) => display_coprocessor(register),
            DecodedId::Core { .. }
            | DecodedId::Demux { .. }
            | DecodedId::SveVls
            | DecodedId::Unknown => format!("{:#018x}", id.raw()),
        };
        f.pad(&text)
    }
}

pub(super) const FIRMWARE: &str = "KVM_REG_ARM_FW_REG(";
pub(super) const FIRMWARE_BITMAP: &str = "KVM_REG_ARM_FW_FEAT_BMAP_REG(";
pub(super) const SECURE: &str = "_S";

fn display_coprocessor(register: CoprocessorRegister) -> String {
    let not_secure = RegisterId::coprocessor(CoprocessorRegister {
        secure: false,
        ..register
    });
    let CoprocessorRegister {
        coprocessor,
        wide,
        secure,
        crn,
        crm,
        opc1,
        opc2,
    } = register;
    let name = match not_secure.name() {
        Some(name) => name.to_owned(),
        None if wide => format!("P{coprocessor}_{opc1}_C{crm}"),
        None => format!("P{coprocessor}_{opc1}_C{crn}_C{crm}_{opc2}"),
    };
    if secure { name + SECURE } else { name }
}

fn find_by_id(table: &'static [(u64, &'static str)], id: RegisterId) -> Option<&'static str> {
    let index = table.binary_search_by_key(&id.raw(), |(id, _)| *id).ok()?;
    table.get(index).map(|(_, name)| *name)
}

/// Compares names in the order of the generated tables: bytes in upper case.
pub(super) fn compare_names(a: &str, b: &str) -> Ordering {
    let upper = |byte: u8| byte.to_ascii_uppercase();
    a.bytes().map(upper).cmp(b.bytes().map(upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_order() {
        assert!(tables::NAMES_BY_ID.is_sorted_by(|a, b| a.0 < b.0));
        assert!(tables::ARCHITECTURAL_BY_ID.is_sorted_by(|a, b| a.0 < b.0));
        assert!(tables::IDS_BY_NAME.is_sorted_by(|a, b| compare_names(a.0, b.0) == Ordering::Less));
        assert!(tables::IMPLEMENTATION_DEFINED.is_sorted());
    }

    #[test]
    fn display_pads() {
        assert_eq!(format!("{:<10}|", RegisterId::TCR2_EL1), "TCR2_EL1  |");
    }

    #[test]
    fn the_swapped_timers_print_by_the_naming() {
        let (df1a, df02) = (RegisterId::TIMER_CNT, RegisterId::TIMER_CVAL);
        for (id, kvm, architectural) in [
            (df1a, "KVM_REG_ARM_TIMER_CNT", "CNTV_CVAL_EL0"),
            (df02, "KVM_REG_ARM_TIMER_CVAL", "CNTVCT_EL0"),
            (RegisterId::TIMER_CTL, "CNTV_CTL_EL0", "CNTV_CTL_EL0"),
            (RegisterId::PTIMER_CTL, "CNTP_CTL_EL0", "CNTP_CTL_EL0"),
        ] {
            assert_eq!(format!("{id}"), kvm);
            assert_eq!(
                format!("{}", id.display_in(Naming::Architectural)),
                architectural
            );
        }
        assert!(df1a.is_counter(Naming::Kvm) && !df1a.is_counter(Naming::Architectural));
        assert!(df02.is_counter(Naming::Architectural) && !df02.is_counter(Naming::Kvm));
        assert!(RegisterId::PTIMER_CNT.is_counter(Naming::Kvm));
        assert!(!RegisterId::PTIMER_CVAL.is_counter(Naming::Kvm));
    }
}
