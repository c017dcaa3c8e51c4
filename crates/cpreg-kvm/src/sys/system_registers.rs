//! System registers that Linux lets every process read, with `mrs`.
#![expect(unsafe_code, reason = "only assembly reads system registers")]

use core::arch::asm;

/// Returns CNTFRQ_EL0, the frequency of the system counter in hertz.
///
/// Returns `None` if the firmware left the register at 0.
pub(super) fn read_counter_frequency() -> Option<u32> {
    let frequency: u64;
    // SAFETY: The instruction reads a register and has no other effect. Linux lets EL0 read the
    // register (CNTKCTL_EL1.EL0VCTEN), because the vDSO and `getauxval` users need it. Where the
    // access traps, Linux emulates it (`cntfrq_read_handler` in Linux `arch/arm64/kernel/traps.c`).
    unsafe {
        asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack, preserves_flags));
    }
    u32::try_from(frequency)
        .ok()
        .filter(|frequency| *frequency != 0)
}

/// Returns CTR_EL0, the cache type, as the kernel shows it to processes.
///
/// The kernel shows one value on all CPUs if their values differ.
pub(super) fn read_ctr() -> u64 {
    let value: u64;
    // SAFETY: The instruction reads a register and has no other effect. Linux lets EL0 read the
    // register, or emulates the access (`ctr_read_handler` in Linux `arch/arm64/kernel/traps.c`).
    unsafe {
        asm!("mrs {}, ctr_el0", out(reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// Returns DCZID_EL0, the block size of `DC ZVA`.
pub(super) fn read_dczid() -> u64 {
    let value: u64;
    // SAFETY: The instruction reads a register that EL0 can always read, and has no other effect.
    unsafe {
        asm!("mrs {}, dczid_el0", out(reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}
