//! What Cloud Hypervisor says when a snapshot or a migration does not load.
//!
//! Errors are nested as Rust prints them, `VmRestore(CpuManager(VcpuCreate(Could not set the vCPU state SetSysRegister(Invalid argument (os
//! error 22)))))`, and from about v45 as a chain of lines too. No version says which register it was; it stops at the first.
//!
//! | words | it means |
//! |---|---|
//! | `Could not set the vCPU state …` | a vCPU was not restored; why follows |
//! | `SetSysRegister(…)`, `Failed to set system register: …` | a system register |
//! | `SetAarchCoreRegister(…)`, `Failed to set aarch64 core register` | a core register |
//! | `SetExtendedRegister(…)`, `Failed to set extended register` | an SVE register (v53 and later) |
//! | `GetAarchCoreRegister(…)`, `Failed to get aarch64 core register` | the VM could not be saved; before v53 on every CPU with SVE |
//! | `VcpuInit(…)`, `VcpuFinalize(…)` | the vCPU's features |
//! | `Failed setting device attributes for the GIC`, `SetDeviceAttribute(…)` | the interrupt controller |
//!
//! Source: Cloud Hypervisor's `hypervisor/src/cpu.rs`, `hypervisor/src/arch/aarch64/gic.rs` and `vmm/src/cpu.rs` at ae44c2971 and in v28 to v53.

use alloc::vec::Vec;

use cpreg::destination::VersionRange;
use cpreg::errno::Errno;

use crate::message::{Access, Emitter, Statement, Symptom};
use crate::pattern::{Cursor, Pattern, scan, truncate};

/// What Cloud Hypervisor says in the line, each with where it begins.
pub fn parse(line: &str) -> Vec<(usize, Statement)> {
    scan(line, Emitter::CLOUD_HYPERVISOR, PATTERNS)
}

const fn any_version(
    begins: &'static str,
    parse: fn(&mut Cursor<'_>) -> Option<Symptom>,
) -> Pattern {
    Pattern {
        prefix: begins,
        versions: VersionRange::ANY,
        parse,
    }
}

const PATTERNS: &[Pattern] = &[
    any_version("Could not set the vCPU state", |_| {
        Some(Symptom::VcpuNotRestored)
    }),
    any_version("SetSysRegister(", |rest| {
        parse_unnamed_register(rest, Access::WriteSystem)
    }),
    any_version("Failed to set system register", |rest| {
        parse_unnamed_register(rest, Access::WriteSystem)
    }),
    any_version("SetAarchCoreRegister(", |rest| {
        parse_unnamed_register(rest, Access::WriteCore)
    }),
    any_version("Failed to set aarch64 core register", |rest| {
        parse_unnamed_register(rest, Access::WriteCore)
    }),
    any_version("SetExtendedRegister(", |rest| {
        parse_unnamed_register(rest, Access::WriteWide)
    }),
    any_version("Failed to set extended register", |rest| {
        parse_unnamed_register(rest, Access::WriteWide)
    }),
    any_version("GetAarchCoreRegister(", |rest| {
        parse_unnamed_register(rest, Access::Read)
    }),
    any_version("Failed to get aarch64 core register", |rest| {
        parse_unnamed_register(rest, Access::Read)
    }),
    any_version("VcpuInit(", |rest| {
        Some(Symptom::VcpuInit {
            error: find_errno(rest),
        })
    }),
    any_version("VcpuFinalize(", |rest| {
        Some(Symptom::VcpuInit {
            error: find_errno(rest),
        })
    }),
    any_version("Failed setting device attributes for the GIC", |rest| {
        Some(Symptom::GicNotRestored {
            error: find_errno(rest),
        })
    }),
    any_version("SetDeviceAttribute(", |rest| {
        Some(Symptom::GicNotRestored {
            error: find_errno(rest),
        })
    }),
];

fn parse_unnamed_register(rest: &mut Cursor<'_>, access: Access) -> Option<Symptom> {
    // `Failed to set system registers` would be another one.
    if rest.0.starts_with('s') {
        return None;
    }
    Some(Symptom::UnnamedRegister {
        access,
        error: find_errno(rest),
    })
}

/// The error, a few words on: behind `: `, in brackets, or on a line `Caused by:`.
fn find_errno(rest: &Cursor<'_>) -> Option<Errno> {
    const MAX_ERRNO_DISTANCE: usize = 160;
    let near = truncate(rest.0, MAX_ERRNO_DISTANCE);
    let (_, number) = near.split_once("os error ")?;
    let number = Cursor(number).parse_u32()?;
    u16::try_from(number).ok().map(Errno)
}
