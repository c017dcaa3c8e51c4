//! Families of registers: ID registers, PMU registers.

use super::coprocessor::CoprocessorRegister;
use super::id::{DecodedId, RegisterId, SystemRegister};

impl RegisterId {
    /// Returns `true` if this is one of the 56 AArch64 encodings of ID registers: op0 3, op1 0,
    /// CRn 0, CRm 1 to 7, allocated or not.
    ///
    /// KVM lists all 56. MIDR, MPIDR, REVIDR, CTR, CLIDR and AIDR have other encodings.
    pub const fn is_id_register(self) -> bool {
        matches!(
            self.system_register(),
            Some(SystemRegister {
                op0: 3,
                op1: 0,
                crn: 0,
                crm: 1..=7,
                ..
            })
        )
    }

    /// Returns `true` if this is QEMU's id of an AArch32 cp15 ID register: opc1 0, CRn 0,
    /// CRm 1 to 7.
    ///
    /// Only TCG has these ids, in addition to the id of the AArch64 view of the same register.
    pub(crate) const fn is_aarch32_id_register(self) -> bool {
        matches!(
            self.decode(),
            DecodedId::Coprocessor(CoprocessorRegister {
                coprocessor: 15,
                wide: false,
                crn: 0,
                crm: 1..=7,
                opc1: 0,
                ..
            })
        )
    }

    /// Returns `true` if this register belongs to the Performance Monitors extension, in either
    /// instruction set's view.
    ///
    /// Kernels before v5.11 list the AArch64 ones even for a vCPU that has no PMU.
    pub const fn is_pmu(self) -> bool {
        match self.decode() {
            DecodedId::SystemRegister(register) => is_aarch64_pmu(register),
            DecodedId::Coprocessor(register) => is_aarch32_pmu(register),
            _ => false,
        }
    }

    /// Returns the number of an event counter, `PMEVCNTR<n>_EL0`, 0 to 30.
    pub(crate) fn event_counter(self) -> Option<u64> {
        const FIRST: RegisterId = RegisterId::sysreg(3, 3, 14, 8, 0);
        let number = self.raw().checked_sub(FIRST.raw());
        number.filter(|number| *number < 31)
    }
}

const fn is_aarch64_pmu(register: SystemRegister) -> bool {
    let SystemRegister {
        op0,
        op1,
        crn,
        crm,
        op2,
    } = register;
    match (op0, op1, crn, crm, op2) {
        // PMINTENSET, PMINTENCLR, PMMIR, PMSSCR and others at EL1.
        (3, 0, 9, 13..=14, _) => true,
        // PMCR to PMOVSSET.
        (3, 3, 9, 12..=14, _) => true,
        // The instruction counter.
        (3, 3, 9, 4 | 6, 0) => true,
        // PMEVCNTR<n>, PMEVTYPER<n>, PMCCFILTR.
        (3, 3, 14, 8..=15, _) => true,
        _ => false,
    }
}

const fn is_aarch32_pmu(register: CoprocessorRegister) -> bool {
    let CoprocessorRegister {
        coprocessor,
        wide,
        crn,
        crm,
        opc1,
        ..
    } = register;
    matches!(
        (coprocessor, wide, opc1, crn, crm),
        (15, false, 0, 9, 12..=14) | (15, false, 0, 14, 8..=15) | (15, true, 0, _, 9)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_56_id_registers() {
        let count = (0..=0xffff_u64)
            .map(|low| RegisterId::from_raw(0x6030_0000_0013_0000 | low))
            .filter(|id| id.is_id_register())
            .count();
        assert_eq!(count, 56);
        assert!(RegisterId::ID_AA64MMFR3_EL1.is_id_register());
        assert!(!RegisterId::MIDR_EL1.is_id_register());
        assert!(!RegisterId::CTR_EL0.is_id_register());
        let id_dfr0 = RegisterId::from_raw(0x4020_0000_200f_0082);
        assert!(id_dfr0.is_aarch32_id_register() && !id_dfr0.is_id_register());
        assert!(!RegisterId::from_raw(0x4020_0000_200f_0001).is_aarch32_id_register());
    }
}
