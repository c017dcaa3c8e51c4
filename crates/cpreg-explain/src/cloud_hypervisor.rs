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

use cpreg::destination::Versions;
use cpreg::errno::Errno;

use crate::message::{Access, Said, Speaker, Symptom};
use crate::pattern::{Phrase, Rest, cut, scan};

/// What Cloud Hypervisor says in the line, each with where it begins.
pub fn read(line: &str) -> Vec<(usize, Said)> {
    scan(line, Speaker::CLOUD_HYPERVISOR, PHRASES)
}

const fn any(begins: &'static str, read: fn(&mut Rest<'_>) -> Option<Symptom>) -> Phrase {
    Phrase {
        begins,
        versions: Versions::ANY,
        read,
    }
}

const PHRASES: &[Phrase] = &[
    any("Could not set the vCPU state", |_| {
        Some(Symptom::VcpuNotRestored)
    }),
    any("SetSysRegister(", |rest| some(rest, Access::WriteSystem)),
    any("Failed to set system register", |rest| {
        some(rest, Access::WriteSystem)
    }),
    any("SetAarchCoreRegister(", |rest| {
        some(rest, Access::WriteCore)
    }),
    any("Failed to set aarch64 core register", |rest| {
        some(rest, Access::WriteCore)
    }),
    any("SetExtendedRegister(", |rest| some(rest, Access::WriteWide)),
    any("Failed to set extended register", |rest| {
        some(rest, Access::WriteWide)
    }),
    any("GetAarchCoreRegister(", |rest| some(rest, Access::Read)),
    any("Failed to get aarch64 core register", |rest| {
        some(rest, Access::Read)
    }),
    any("VcpuInit(", |rest| {
        Some(Symptom::VcpuInit {
            error: near_error(rest),
        })
    }),
    any("VcpuFinalize(", |rest| {
        Some(Symptom::VcpuInit {
            error: near_error(rest),
        })
    }),
    any("Failed setting device attributes for the GIC", |rest| {
        Some(Symptom::GicNotRestored {
            error: near_error(rest),
        })
    }),
    any("SetDeviceAttribute(", |rest| {
        Some(Symptom::GicNotRestored {
            error: near_error(rest),
        })
    }),
];

fn some(rest: &mut Rest<'_>, access: Access) -> Option<Symptom> {
    // `Failed to set system registers` would be another one.
    if rest.0.starts_with('s') {
        return None;
    }
    Some(Symptom::SomeRegister {
        access,
        error: near_error(rest),
    })
}

/// The error, a few words on: behind `: `, in brackets, or on a line `Caused by:`.
fn near_error(rest: &Rest<'_>) -> Option<Errno> {
    const NEAR: usize = 160;
    let near = cut(rest.0, NEAR);
    let (_, number) = near.split_once("os error ")?;
    let number = Rest(number).small()?;
    u16::try_from(number).ok().map(Errno)
}
