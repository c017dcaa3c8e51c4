//! Lines of Cloud Hypervisor about a snapshot or a migration that does not load.
//!
//! Errors are nested as Rust prints them: `VmRestore(CpuManager(VcpuCreate(Could not set the vCPU
//! state SetSysRegister(Invalid argument (os error 22)))))`. From about v45 on, Cloud Hypervisor
//! also prints them as a chain of lines. No version names the register. A load stops at the first
//! register that fails.
//!
//! | words | meaning |
//! |---|---|
//! | `Could not set the vCPU state …` | a vCPU was not restored; the reason follows |
//! | `SetSysRegister(…)`, `Failed to set system register: …` | a system register |
//! | `SetAarchCoreRegister(…)`, `Failed to set aarch64 core register` | a core register |
//! | `SetExtendedRegister(…)`, `Failed to set extended register` | an SVE register (v53 on) |
//! | `GetAarchCoreRegister(…)`, `Failed to get aarch64 core register` | the VM was not saved |
//! | `VcpuInit(…)`, `VcpuFinalize(…)` | the vCPU's features |
//! | `Failed setting device attributes for the GIC` | the interrupt controller |
//! | `SetDeviceAttribute(…)` | the interrupt controller |
//! | `Saved counter frequency (N Hz) != host (M Hz); …` | the clock (v53 on) |
//!
//! Versions earlier than v53 cannot save a VM on a CPU with SVE.
//!
//! Source: Cloud Hypervisor's `hypervisor/src/cpu.rs`, `hypervisor/src/arch/aarch64/gic.rs` and
//! `vmm/src/cpu.rs` at ae44c2971 and in v28 to v53.

use alloc::vec::Vec;

use cpreg::destination::VersionRange;
use cpreg::errno::Errno;

use crate::message::{Access, Emitter, Statement, Symptom};
use crate::pattern::{Cursor, Pattern, PatternTable, Scanner, truncate};

/// Parses the statements of Cloud Hypervisor in a line, each with its byte offset.
pub fn parse(line: &str) -> Vec<(usize, Statement)> {
    static SCANNER: Scanner = Scanner::new(&[TABLE]);
    SCANNER.scan(line)
}

/// Table of the patterns of Cloud Hypervisor.
pub(crate) const TABLE: PatternTable = PatternTable {
    emitter: Emitter::CLOUD_HYPERVISOR,
    patterns: PATTERNS,
};

const PATTERNS: &[Pattern] = &[
    Pattern::for_any_version("Could not set the vCPU state", |_| {
        Some(Symptom::VcpuNotRestored)
    }),
    Pattern::for_any_version("SetSysRegister(", |rest| {
        parse_unnamed_register(rest, Access::WriteSystem)
    }),
    Pattern::for_any_version("Failed to set system register", |rest| {
        parse_unnamed_register(rest, Access::WriteSystem)
    }),
    Pattern::for_any_version("SetAarchCoreRegister(", |rest| {
        parse_unnamed_register(rest, Access::WriteCore)
    }),
    Pattern::for_any_version("Failed to set aarch64 core register", |rest| {
        parse_unnamed_register(rest, Access::WriteCore)
    }),
    Pattern::for_any_version("SetExtendedRegister(", |rest| {
        parse_unnamed_register(rest, Access::WriteWide)
    }),
    Pattern::for_any_version("Failed to set extended register", |rest| {
        parse_unnamed_register(rest, Access::WriteWide)
    }),
    Pattern::for_any_version("GetAarchCoreRegister(", |rest| {
        parse_unnamed_register(rest, Access::Read)
    }),
    Pattern::for_any_version("Failed to get aarch64 core register", |rest| {
        parse_unnamed_register(rest, Access::Read)
    }),
    Pattern::for_any_version("VcpuInit(", |rest| {
        Some(Symptom::VcpuInit {
            error: find_errno(rest),
        })
    }),
    Pattern::for_any_version("VcpuFinalize(", |rest| {
        Some(Symptom::VcpuInit {
            error: find_errno(rest),
        })
    }),
    Pattern::for_any_version("Failed setting device attributes for the GIC", |rest| {
        Some(Symptom::GicNotRestored {
            error: find_errno(rest),
        })
    }),
    Pattern {
        prefix: "Saved counter frequency (",
        versions: VersionRange::with_first(53, 0),
        parse: counter_frequency,
    },
    Pattern::for_any_version("SetDeviceAttribute(", |rest| {
        Some(Symptom::GicNotRestored {
            error: find_errno(rest),
        })
    }),
];

/// Parses `62500000 Hz) != host (1000000000 Hz)`.
fn counter_frequency(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let saved = rest.parse_u64()?;
    rest.expect(" Hz) != host (")?;
    let host = rest.parse_u64()?;
    Some(Symptom::CounterFrequency { saved, host })
}

fn parse_unnamed_register(rest: &mut Cursor<'_>, access: Access) -> Option<Symptom> {
    // `Failed to set system registers` is another message, without a register.
    if rest.0.starts_with('s') {
        return None;
    }
    Some(Symptom::UnnamedRegister {
        access,
        error: find_errno(rest),
    })
}

/// Finds the error that follows within a few words: after `: `, in brackets, or in a line `Caused
/// by:`.
fn find_errno(rest: &Cursor<'_>) -> Option<Errno> {
    const MAX_ERRNO_DISTANCE: usize = 160;
    let near = truncate(rest.0, MAX_ERRNO_DISTANCE);
    let (_, number) = near.split_once("os error ")?;
    let number = Cursor(number).parse_u32()?;
    u16::try_from(number).ok().map(Errno)
}
