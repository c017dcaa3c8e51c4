//! Instructions of arm64, each in a function.

use std::arch::asm;

use crate::feature::feature_rows;

/// Number of bytes of the buffer for [`execute`] and [`store_vector`].
pub(crate) const BUFFER_LEN: usize = 256;

macro_rules! read_register {
    ($name:ident, $register:literal, $doc:literal) => {
        #[doc = $doc]
        pub(crate) fn $name() -> u64 {
            let value: u64;
            // SAFETY: the read has no effect but on `value`. EL0 may read the register, or Linux
            // emulates the read.
            unsafe {
                asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack));
            }
            value
        }
    };
}

read_register!(read_ctr, "ctr_el0", "Returns CTR_EL0.");
read_register!(read_dczid, "dczid_el0", "Returns DCZID_EL0.");
read_register!(read_counter_frequency, "cntfrq_el0", "Returns CNTFRQ_EL0.");

/// Returns the counter, read after all earlier instructions.
pub(crate) fn read_counter() -> u64 {
    let value: u64;
    // SAFETY: the read has no effect but on `value`, and EL0 may read the register. Without
    // `nomem`, the compiler keeps the order of reads and other memory accesses.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", "isb", out(reg) value, options(nostack)) };
    value
}

/// ID registers that Linux emulates for programs, with HWCAP_CPUID.
macro_rules! id_registers {
    ($($name:literal, $register:literal;)*) => {
        /// Returns the ID registers. The program must have HWCAP_CPUID.
        pub(crate) fn read_id_registers() -> Vec<(&'static str, u64)> {
            vec![$(($name, {
                let value: u64;
                // SAFETY: Linux emulates the read for programs with HWCAP_CPUID; it has no effect
                // but on `value`.
                unsafe {
                    asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack));
                }
                value
            })),*]
        }
    };
}
id_registers! {
    "ID_AA64PFR0_EL1", "S3_0_C0_C4_0";
    "ID_AA64PFR1_EL1", "S3_0_C0_C4_1";
    "ID_AA64ZFR0_EL1", "S3_0_C0_C4_4";
    "ID_AA64SMFR0_EL1", "S3_0_C0_C4_5";
    "ID_AA64DFR0_EL1", "S3_0_C0_C5_0";
    "ID_AA64ISAR0_EL1", "S3_0_C0_C6_0";
    "ID_AA64ISAR1_EL1", "S3_0_C0_C6_1";
    "ID_AA64ISAR2_EL1", "S3_0_C0_C6_2";
    "ID_AA64MMFR0_EL1", "S3_0_C0_C7_0";
    "ID_AA64MMFR1_EL1", "S3_0_C0_C7_1";
    "ID_AA64MMFR2_EL1", "S3_0_C0_C7_2";
}
read_register!(
    read_midr,
    "S3_0_C0_C0_0",
    "Returns MIDR_EL1. Needs HWCAP_CPUID."
);

/// Clears the block of `DC ZVA` that contains the middle of `buffer`.
///
/// The caller has read DCZID_EL0, which does not prohibit the instruction. The block has at most
/// 2048 bytes, and so is in the buffer.
pub(crate) fn zero_block(buffer: &mut [u8; 16384]) {
    let middle = buffer.as_mut_ptr().wrapping_add(buffer.len() / 2);
    // SAFETY: a block of at most 2048 bytes, aligned to its size, contains the middle of 16384
    // bytes, and so begins and ends in the buffer.
    unsafe { asm!("dc zva, {}", in(reg) middle, options(nostack)) };
}

/// Returns the vector length in bytes (`RDVL`). Needs HWCAP_SVE.
pub(crate) fn read_vector_length() -> u64 {
    let value: u64;
    // SAFETY: the instruction writes only x0.
    unsafe { asm!(".inst 0x04bf5020", out("x0") value, options(nomem, nostack)) };
    value
}

/// Stores a vector of 0x55 at the beginning of the buffer, which holds the greatest vector. Needs
/// HWCAP_SVE.
pub(crate) fn store_vector(buffer: &mut [u8; BUFFER_LEN]) {
    // SAFETY: `mov z0.b, #0x55` and `str z0, [x0]` write z0 and at most 256 bytes, the greatest
    // length of the architecture.
    unsafe {
        asm!(
            ".inst 0x2538caa0",
            ".inst 0xe5804000",
            in("x0") buffer.as_mut_ptr(),
            out("v0") _,
            options(nostack)
        );
    }
}

/// Returns a pointer with its signature (`PACIA`). Needs HWCAP_PACA.
pub(crate) fn sign(pointer: u64, modifier: u64) -> u64 {
    let mut signed = pointer;
    // SAFETY: `pacia x0, x1` changes only x0, which is no pointer here.
    unsafe {
        asm!(
            ".inst 0xdac10020",
            inout("x0") signed,
            in("x1") modifier,
            options(nomem, nostack)
        );
    }
    signed
}

/// Makes code executable that was written at these addresses, as CTR_EL0 requires.
pub(crate) fn synchronize(start: usize, len: usize, ctr: u64) {
    let has_idc = ctr >> 28 & 1 != 0;
    let has_dic = ctr >> 29 & 1 != 0;
    let lines = |log_words: u64| {
        let line = 4_usize << log_words;
        (start & !(line - 1)..start + len).step_by(line)
    };
    if !has_idc {
        for address in lines(ctr >> 16 & 0xf) {
            // SAFETY: cleaning a cache line changes no memory.
            unsafe { asm!("dc cvau, {}", in(reg) address, options(nostack)) };
        }
    }
    // SAFETY: a barrier changes no memory.
    unsafe { asm!("dsb ish", options(nostack)) };
    if !has_dic {
        for address in lines(ctr & 0xf) {
            // SAFETY: invalidating a line of instructions changes no memory.
            unsafe { asm!("ic ivau, {}", in(reg) address, options(nostack)) };
        }
    }
    synchronize_context();
}

/// Waits for stores, and fetches the next instructions again. Maintains no cache.
pub(crate) fn synchronize_context() {
    // SAFETY: barriers change no memory.
    unsafe { asm!("dsb ish", "isb", options(nostack)) };
}

/// Executes one instruction. `buffer` is its operand in x0; x2 is the middle of the buffer, and x3
/// a length of 32.
fn execute_word<const WORD: u32>(buffer: &mut [u8; BUFFER_LEN]) {
    let pointer = buffer.as_mut_ptr();
    // SAFETY: the instructions of `FEATURES` write x0 to x3, v0, memory in the buffer, and flags.
    // The buffer is aligned to 8 bytes by the caller, as atomic instructions require.
    unsafe {
        asm!(
            ".inst {word}",
            word = const WORD,
            inout("x0") pointer => _,
            inout("x1") 0_u64 => _,
            inout("x2") pointer.wrapping_add(BUFFER_LEN / 2) => _,
            inout("x3") 32_u64 => _,
            out("v0") _,
            options(nostack)
        );
    }
}

macro_rules! execute_any {
    ($($name:literal, $word:ident, $bit:literal, $instruction:literal, $field:expr;)*) => {
        /// Executes the instruction of a feature. The CPU may raise SIGILL.
        pub(crate) fn execute(instruction: u32, buffer: &mut AlignedBuffer) {
            match instruction {
                $($instruction => execute_word::<$instruction>(&mut buffer.0),)*
                _ => {}
            }
        }
    };
}
feature_rows!(execute_any);

/// Buffer for [`execute`], aligned for every access.
#[repr(align(256))]
pub(crate) struct AlignedBuffer(pub(crate) [u8; BUFFER_LEN]);
