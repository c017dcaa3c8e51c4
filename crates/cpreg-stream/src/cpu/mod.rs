//! The Arm `cpu` section, version 22: core fields, register list, trailing fields, subsections.
//!
//! Read from QEMU's `target/arm/machine.c`, v5.2 to 11.x, where the version is always 22. Offsets
//! and sizes match recorded streams of 5.2, 7.2, 10.0 and 11.1, under KVM and TCG.
//!
//! | offset | field |
//! |---|---|
//! | 0 | `regs` 16 × u32 (AArch32) |
//! | 64 | `xregs` 32 × u64 |
//! | 320 | `pc` u64 |
//! | 328 | `cpsr` u32 (PSTATE in AArch64) |
//! | 332 | `spsr` u32 |
//! | 336 | `banked_spsr` 8 × u64 |
//! | 400 | `banked_r13` 8 × u32 |
//! | 432 | `banked_r14` 8 × u32 |
//! | 464 | `usr_regs` 5 × u32 |
//! | 484 | `fiq_regs` 5 × u32 |
//! | 504 | `elr_el` 4 × u64 |
//! | 536 | `sp_el` 4 × u64 |
//! | 568 | `cpreg_vmstate_array_len` i32 = n |
//! | 572 | `cpreg_vmstate_indexes` n × u64, ascending (but see [HVF](cpreg::destination::hvf)) |
//! | 572 + 8n | `cpreg_vmstate_values` n × u64; registers of 32 bits are zero extended |
//! | 572 + 16n = t | `exclusive_addr`, `exclusive_val`, `exclusive_high` u64 |
//! | t + 24 | 5.2: `features` u64; later: zeros, ignored |
//! | t + 32 | `syndrome` u32, `fsr` u32, `vaddress` u64 |
//! | t + 48 | the physical and the virtual timer's expiry, u64 each; all ones if idle |
//! | t + 64 | `power_state` u8 |
//! | t + 65 | subsections, up to the section's footer |
//!
//! The crate `cpreg` gives the registers their meaning; [`crate::edit`] changes a section.
//!
//! | file | contents |
//! |---|---|
//! | `state` | [`Cpu`]: the bytes of a section and the offsets of its fields |
//! | `parse` | the parser from bytes to a [`Cpu`] |

mod parse;
mod state;

pub(crate) use parse::{is_register, read_cpu, require_arm, subsection_version};
pub(crate) use state::{
    COUNT_OFFSET, FEATURES_OFFSET, LIST_OFFSET, MAX_REGISTERS, MAX_SECTION_LEN,
    TRAILING_FIELDS_LEN, VERSION,
};
pub use state::{CoreFields, Cpu, Subsection, TrailingFields};
