//! `struct kvm_regs` of Linux: the core registers as Cloud Hypervisor stores them.
//!
//! | bytes | registers |
//! |---|---|
//! | 0 to 271 | X0 to X30, SP, PC, PSTATE |
//! | 272 to 327 | SP_EL1, ELR_EL1, five SPSRs |
//! | 328 to 335 | padding |
//! | 336 to 847 | V0 to V31 |
//! | 848 to 855 | FPSR, FPCR |
//! | 856 to 863 | padding |
//!
//! Source: Linux `arch/arm64/include/uapi/asm/kvm.h`.

use std::ops::Range;

use cpreg::register::RegisterId;

/// Length of the structure.
pub(super) const LEN: usize = 864;
/// Number of general registers of 64 bits: `user_pt_regs`, SP_EL1, ELR_EL1, five SPSRs.
const WORDS: u16 = 34 + 7;
const VECTORS_START: usize = 336;
const FPSR_START: usize = 848;
const FPCR_START: usize = 852;

/// Returns the registers with their places. KVM lists no V registers of a vCPU with SVE.
pub(super) fn places(has_sve: bool) -> Vec<(RegisterId, Range<usize>)> {
    let words = (0..WORDS).map(|number| {
        let start = usize::from(number) * 8;
        (RegisterId::core_u64(number * 2), start..start + 8)
    });
    let count = if has_sve { 0 } else { 32 };
    let vectors = (0..count).map(|number| {
        let start = VECTORS_START + usize::from(number) * 16;
        (RegisterId::v(number), start..start + 16)
    });
    let status = [FPSR_START, FPCR_START].map(|start| {
        // The number of a word is below 216.
        let word = u16::try_from(start / 4).unwrap_or_default();
        (RegisterId::core_u32(word), start..start + 4)
    });
    words.chain(vectors).chain(status).collect()
}
