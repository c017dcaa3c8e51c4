//! What a [`RegisterId`] is called, and how it prints.
//!
//! The names are in the generated tables; reading them is [`super::parse`]'s. An id prints as the
//! first of these that it has:
//!
//! | spelling | of |
//! |---|---|
//! | `TCR2_EL1`, `PSCI_VERSION`, `X0`, `ID_DFR0` | anything with a name |
//! | `CONTEXTIDR_S` | the Secure instance of an AArch32 register |
//! | `CCSIDR_EL1[3]` | CCSIDR where CSSELR holds 3 |
//! | `Z0[1]`, `P0[1]`, `FFR[1]` | a further slice of an SVE register |
//! | `KVM_REG_ARM_FW_REG(9)`, `KVM_REG_ARM_FW_FEAT_BMAP_REG(9)` | firmware without a name |
//! | `S3_0_C2_C0_3` | any other system register |
//! | `P15_0_C0_C1_2`, `P15_0_C7` | any other AArch32 register, 32 and 64 bits; with `_S` if Secure |
//! | `0x603000000013c103`, always 16 digits | anything |
//!
//! What else is read is listed in [`super::parse`]. Names of IMPLEMENTATION DEFINED registers hold
//! on some CPUs only, so they are not printed; [`RegisterId::implementation_defined_names`] has
//! them.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::cmp::Ordering;
use core::fmt;

use super::coprocessor::CoprocessorRegister;
use super::id::{DecodedId, RegisterId, SystemRegister};
use super::tables;

/// What names mean.
///
/// Two of KVM's ids have each other's encoding, which is frozen ABI by now. And KVM keeps some
/// registers as core registers that have system register encodings too.
///
/// | id | under KVM | by encoding |
/// |---|---|---|
/// | 0x603000000013df1a | `KVM_REG_ARM_TIMER_CNT`: the counter, CNTVCT_EL0 | `CNTV_CVAL_EL0` |
/// | 0x603000000013df02 | `KVM_REG_ARM_TIMER_CVAL`: the compare value, CNTV_CVAL_EL0 | `CNTVCT_EL0` |
/// | 0x60200000001000d4 | `FPSR` | `CORE_FPSR` |
/// | 0x603000000013da21 | `SYSREG_FPSR` | `FPSR` |
///
/// (and so on for FPCR, SP_EL0, SP_EL1, ELR_EL1 and the SPSRs). QEMU under TCG means ids as they are
/// encoded: in every register list recorded from it …df1a stands still while the guest runs, as
/// a compare value does, and …df02 is not listed; under KVM …df1a is different in every list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Naming {
    /// As KVM means its ids.
    #[default]
    Kvm,
    /// As the architecture encodes registers, and so QEMU under TCG.
    Architectural,
}

impl RegisterId {
    /// The register's name under KVM, if it has one in the tables.
    ///
    /// Printing gives a spelling to every id; see the module.
    pub fn name(self) -> Option<&'static str> {
        find_by_id(tables::NAMES_BY_ID, self)
    }

    /// The register's name, if it has one in the tables.
    pub fn name_in(self, naming: Naming) -> Option<&'static str> {
        match naming {
            Naming::Kvm => self.name(),
            Naming::Architectural => {
                find_by_id(tables::ARCHITECTURAL_BY_ID, self).or_else(|| self.name())
            }
        }
    }

    /// The id for printing, as `{}` does it, but with this choice of names.
    pub const fn display_in(self, naming: Naming) -> DisplayRegisterId {
        DisplayRegisterId { id: self, naming }
    }

    /// Names of an IMPLEMENTATION DEFINED register, each with the CPUs that it holds on, separated
    /// by commas: `CPUECTLR_EL1`, `neoverse-n1,neoverse-v1`.
    pub fn implementation_defined_names(
        self,
    ) -> impl Iterator<Item = (&'static str, &'static str)> {
        tables::IMPLEMENTATION_DEFINED
            .iter()
            .filter(move |(id, _, _)| *id == self.raw())
            .map(|(_, name, cpus)| (*name, *cpus))
    }

    /// Whether the value is a counter of time, which goes on by itself, under this meaning of ids:
    /// CNTVCT_EL0, CNTPCT_EL0 or one of their self-synchronized views.
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

/// A [`RegisterId`] for printing; see [`RegisterId::display_in`].
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

/// The order of the generated tables: bytes in upper case.
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
    fn the_swapped_timers_print_as_what_they_are() {
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
