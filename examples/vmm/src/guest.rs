//! The guest program, in assembler (`guest/*.s`), and where things are in its memory.
//!
//! It is a part of this binary that is never called: [`image`] is what lies between two symbols, and is copied into the guest's
//! memory. What it does is told in `guest/main.s`.

/// Where the guest's memory begins.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Where its areas begin, one for each vCPU, as an offset into its memory.
pub const AREAS: u64 = 2 << 20;
/// How large an area is (`guest/main.s`).
pub const AREA_SIZE: u64 = 1 << 20;

/// How much memory the guest needs at least, in bytes.
pub const fn memory_needed(vcpus: usize) -> u64 {
    AREAS + vcpus as u64 * AREA_SIZE
}

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub use code::image;

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
#[allow(unsafe_code)]
mod code {
    // SAFETY: it defines data in a section of its own and two symbols around it, and runs nothing.
    core::arch::global_asm!(
        "	.pushsection .rodata.cpreg_guest, \"a\"",
        include_str!("guest/main.s"),
        include_str!("guest/registers.s"),
        include_str!("guest/end.s"),
        options(raw)
    );

    // SAFETY: both are defined in the assembler above, in this order, in one section.
    unsafe extern "C" {
        safe static cpreg_guest_start: u8;
        safe static cpreg_guest_end: u8;
    }

    /// The guest's code and data, to be entered at its first byte.
    pub fn image() -> &'static [u8] {
        let start = &raw const cpreg_guest_start;
        let length = (&raw const cpreg_guest_end).addr() - start.addr();
        // SAFETY: what lies between the two symbols is one piece of read-only data of this binary, there for as long as it runs.
        unsafe { core::slice::from_raw_parts(start, length) }
    }
}
