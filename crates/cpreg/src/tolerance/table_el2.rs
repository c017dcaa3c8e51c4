//! Tolerances for registers of EL2 that left KVM's list between v6.16 and v6.17.
//!
//! v6.16 is the first release with EL2 in VMs. It listed the registers of the virtual interrupt
//! controller, and RVBAR_EL2. Since v6.17 the former are attributes of the VGIC device
//! (`KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS`), and the latter does not exist for a guest.

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use super::{
    Category, Condition, Handling, HistoryEntry, RegisterDifference, RegisterSelector, Tolerance,
    VisibleEffect,
};
use crate::destination::Accelerator;
use crate::register::RegisterId;
use crate::remedy::Remedy;
use crate::severity::Severity;

/// Returns the built-in entries.
pub(super) fn built_in_entries() -> Vec<Tolerance> {
    const REMEDY: Remedy = Remedy::text(
        "move the VM only among hosts with kernels before v6.17, or only among later ones",
    );
    let entry = |registers, difference, handling, reason, commit| Tolerance {
        registers: RegisterSelector::Ids(Cow::Borrowed(registers)),
        accelerator: Some(Accelerator::Kvm),
        difference,
        condition: Condition::Always,
        handling,
        visible_effect: None,
        category: Category::ListedByMistake,
        reason: Cow::Borrowed(reason),
        remedy: Some(REMEDY),
        history: vec![HistoryEntry {
            release: "v6.17",
            commit,
            description: "no longer listed",
        }],
        is_operator_entry: false,
        origin: None,
    };
    vec![
        entry(
            &INTERRUPT_CONTROLLER,
            RegisterDifference::SourceOnly,
            Handling::Refuse,
            "kernels since v6.17 hold the virtual interrupts of a guest hypervisor in attributes of the VGIC device, and do not list this register",
            "c70a4027f5f3",
        ),
        Tolerance {
            visible_effect: Some(VisibleEffect {
                severity: Severity::High,
                description: Cow::Borrowed(
                    "the source's kernel holds it in attributes of the VGIC device: the virtual interrupts of a guest hypervisor are lost",
                ),
            }),
            ..entry(
                &[ICH_HCR_EL2],
                RegisterDifference::DestinationOnly,
                Handling::KeepAtReset,
                "without a guest hypervisor that runs guests, the register is not used",
                "c70a4027f5f3",
            )
        },
        entry(
            &[RVBAR_EL2],
            RegisterDifference::SourceOnly,
            Handling::Refuse,
            "on kernels since v6.17 a guest's read of this register is an undefined instruction",
            "1095b32665cf",
        ),
    ]
}

const fn el2(crn: u8, crm: u8, op2: u8) -> RegisterId {
    RegisterId::sysreg(3, 4, crn, crm, op2)
}

const RVBAR_EL2: RegisterId = el2(12, 0, 1);
const ICH_HCR_EL2: RegisterId = el2(12, 11, 0);

/// Registers of the virtual interrupt controller: `ICH_*_EL2`.
const INTERRUPT_CONTROLLER: [RegisterId; 26] = interrupt_controller();

const fn interrupt_controller() -> [RegisterId; 26] {
    let mut registers = [ICH_HCR_EL2; 26];
    // ICH_VMCR_EL2.
    registers[1] = el2(12, 11, 7);
    let mut number = 0_u8;
    while number < 4 {
        // ICH_AP0R<n>_EL2, ICH_AP1R<n>_EL2.
        registers[2 + number as usize] = el2(12, 8, number);
        registers[6 + number as usize] = el2(12, 9, number);
        number += 1;
    }
    let mut number = 0_u8;
    while number < 16 {
        // ICH_LR<n>_EL2.
        registers[10 + number as usize] = el2(12, 12 + (number >> 3), number & 7);
        number += 1;
    }
    registers
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn the_registers_have_names() {
        let mut names: Vec<_> = INTERRUPT_CONTROLLER
            .iter()
            .map(ToString::to_string)
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 26);
        assert!(
            names.iter().all(|name| name.starts_with("ICH_")),
            "{names:?}"
        );
        assert_eq!(RVBAR_EL2.to_string(), "RVBAR_EL2");
    }
}
