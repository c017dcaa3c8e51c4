//! Guest program, in assembler (`guest/*.s`), and the layout of its memory.
//!
//! The program is a part of this binary that is never called. `image` is the range between two
//! symbols, which is copied into the guest's memory. `guest/main.s` describes the program.

/// Physical address of the guest's memory.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Offset of the vCPUs' areas in the guest's memory.
pub const AREAS: u64 = 2 << 20;
/// Size of the area of a vCPU (`guest/main.s`).
pub const AREA_SIZE: u64 = 1 << 20;

/// Returns the minimum memory of the guest, in bytes.
pub const fn memory_needed(vcpus: usize) -> u64 {
    AREAS + vcpus as u64 * AREA_SIZE
}

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub use code::image;

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
#[allow(unsafe_code)]
mod code {
    // SAFETY: the block defines data in a section of its own and two symbols around it. It runs
    // nothing.
    core::arch::global_asm!(
        "	.pushsection .rodata.cpreg_guest, \"a\"",
        include_str!("guest/main.s"),
        include_str!("guest/compare.s"),
        include_str!("guest/time.s"),
        include_str!("guest/registers.s"),
        include_str!("guest/end.s"),
        options(raw)
    );

    // SAFETY: both are defined in the assembler above, in this order, in one section.
    unsafe extern "C" {
        safe static cpreg_guest_start: u8;
        safe static cpreg_guest_end: u8;
    }

    /// Returns the guest's code and data, with its entry point at the first byte.
    pub fn image() -> &'static [u8] {
        let start = &raw const cpreg_guest_start;
        let length = (&raw const cpreg_guest_end).addr() - start.addr();
        // SAFETY: the range between the two symbols is one piece of read-only data of this binary,
        // with static lifetime.
        unsafe { core::slice::from_raw_parts(start, length) }
    }
}
