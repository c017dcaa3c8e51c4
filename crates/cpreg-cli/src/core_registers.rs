//! Core registers under KVM's names. QEMU stores them in front of its register list, under its own
//! names.
//!
//! | QEMU (`target/arm/cpu.h`, v5.2 to 11.x) | register |
//! |---|---|
//! | `xregs[0..31]`, `pc`, `pstate` | X0 to X30, PC, PSTATE |
//! | `xregs[31]` | stack pointer in use: SP_EL0, or SP of the exception level if PSTATE.SP is 1 |
//! | `sp_el[n]` | SP_ELn, if that is not the one in use |
//! | `elr_el[1]`, `banked_spsr[1]` | ELR_EL1, SPSR_EL1 |
//! | `regs[0..15]`, `cpsr` | R0 to R15, CPSR in AArch32 state |

use cpreg::register::RegisterId;
use cpreg_report::contents::CoreRegister;
use cpreg_stream::CoreFields;

/// PSTATE.nRW, set in AArch32 state.
const AARCH32: u32 = 1 << 4;

/// Returns the core registers of the vCPU's execution state, AArch64 or AArch32.
pub(crate) fn decode(fields: &CoreFields) -> Vec<CoreRegister> {
    if fields.pstate & AARCH32 != 0 {
        return decode_aarch32(fields);
    }
    let general = |name: &str, id: RegisterId, value: u64| CoreRegister {
        name: name.to_owned(),
        id: Some(id),
        value,
    };
    let pstate = fields.pstate;
    let level_in_use = if pstate & 1 == 0 { 0 } else { pstate >> 2 & 3 };
    let stack = |level: u32, banked: u64| {
        if level == level_in_use {
            fields.x[31]
        } else {
            banked
        }
    };
    let mut registers = vec![
        general("PC", RegisterId::CORE_PC, fields.pc),
        general("PSTATE", RegisterId::CORE_PSTATE, pstate.into()),
        general("SP_EL0", RegisterId::CORE_SP_EL0, stack(0, fields.sp_el[0])),
        general("SP_EL1", RegisterId::CORE_SP_EL1, stack(1, fields.sp_el[1])),
        general("ELR_EL1", RegisterId::CORE_ELR_EL1, fields.elr_el[1]),
        general("SPSR_EL1", RegisterId::CORE_SPSR_EL1, fields.banked_spsr[1]),
    ];
    registers.extend((0..31).zip(fields.x).map(|(number, value)| {
        let id = RegisterId::x(number);
        general(&id.to_string(), id, value)
    }));
    registers
}

fn decode_aarch32(fields: &CoreFields) -> Vec<CoreRegister> {
    let general = |name: String, value: u32| CoreRegister {
        name,
        id: None,
        value: value.into(),
    };
    let mut registers = vec![
        general("R15".to_owned(), fields.regs[15]),
        general("CPSR".to_owned(), fields.pstate),
    ];
    registers.extend(
        (0..15)
            .zip(fields.regs)
            .map(|(number, value)| general(format!("R{number}"), value)),
    );
    registers
}

/// Returns the exception level and stack pointer, or AArch32 mode, of a PSTATE or CPSR, and the
/// masked interrupts.
pub(crate) fn describe_mode(pstate: u32) -> String {
    let mode = match pstate & 0x1f {
        0x00 => "EL0t",
        0x04 => "EL1t",
        0x05 => "EL1h",
        0x08 => "EL2t",
        0x09 => "EL2h",
        0x0c => "EL3t",
        0x0d => "EL3h",
        0x10 => "usr",
        0x11 => "fiq",
        0x12 => "irq",
        0x13 => "svc",
        0x16 => "mon",
        0x17 => "abt",
        0x1a => "hyp",
        0x1b => "und",
        0x1f => "sys",
        _ => return "invalid mode".to_owned(),
    };
    // Bits 9 to 6. Bit 9 is D in AArch64 state, and E, the byte order, in AArch32 state.
    let letters = ['D', 'A', 'I', 'F'].into_iter().zip([9, 8, 7, 6]);
    let masked: String = letters
        .filter(|(letter, bit)| pstate >> bit & 1 == 1 && (*letter != 'D' || pstate & AARCH32 == 0))
        .map(|(letter, _)| letter)
        .collect();
    if masked.is_empty() {
        mode.to_owned()
    } else {
        format!("{mode}, {masked} masked")
    }
}

/// Returns the PSCI power state of the `cpu` section in words.
pub(crate) const fn describe_power_state(state: u8) -> &'static str {
    match state {
        0 => "on",
        1 => "off",
        2 => "being switched on",
        _ => "in an unknown power state",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core_fields(pstate: u32) -> CoreFields {
        CoreFields {
            regs: std::array::from_fn(|n| u32::try_from(n).unwrap_or(0) + 100),
            x: std::array::from_fn(|n| n as u64),
            pc: 0x4000,
            pstate,
            spsr: 0,
            banked_spsr: [0, 0x3c5, 0, 0, 0, 0, 0, 0],
            banked_r13: [0; 8],
            banked_r14: [0; 8],
            usr_regs: [0; 5],
            fiq_regs: [0; 5],
            elr_el: [0, 0xe1, 0, 0],
            sp_el: [0xa0, 0xa1, 0xa2, 0xa3],
        }
    }

    fn value(pstate: u32, name: &str) -> Option<u64> {
        let registers = decode(&core_fields(pstate));
        let found = registers.iter().find(|register| register.name == name);
        found.map(|register| register.value)
    }

    #[test]
    fn stack_pointer_in_use_is_decoded() {
        assert_eq!(value(0x0, "SP_EL0"), Some(31));
        assert_eq!(value(0x0, "SP_EL1"), Some(0xa1));
        assert_eq!(value(0x5, "SP_EL0"), Some(0xa0));
        assert_eq!(value(0x5, "SP_EL1"), Some(31));
        assert_eq!(value(0x4, "SP_EL0"), Some(31));
        assert_eq!(value(0x9, "SP_EL1"), Some(0xa1));
    }

    #[test]
    fn aarch32_state_has_its_own_registers() {
        assert_eq!(value(0x1d3, "R15"), Some(115));
        assert_eq!(value(0x1d3, "CPSR"), Some(0x1d3));
        assert_eq!(value(0x1d3, "X0"), None);
        assert_eq!(value(0x3c5, "R0"), None);
    }

    #[test]
    fn modes_are_named() {
        assert_eq!(describe_mode(0x6000_03c5), "EL1h, DAIF masked");
        assert_eq!(describe_mode(0x0), "EL0t");
        assert_eq!(describe_mode(0x3d3), "svc, AIF masked");
        assert_eq!(describe_mode(0x7), "invalid mode");
    }
}
