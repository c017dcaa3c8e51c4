//! Lines of Linux about registers: KVM's about a guest, and a kernel's about its own cores.
//!
//! - `kvm [PID]: Unsupported guest sys_reg access at: … { Op0( 3), Op1( 0), CRn( 0), CRm( 0), Op2(
//!   1), func_read },`: `arch/arm64/kvm/sys_regs.h`.
//! - `CPU features: SANITY CHECK: Unexpected variation in SYS_ID_AA64MMFR0_EL1. Boot CPU: …`:
//!   `arch/arm64/kernel/cpufeature.c`.

use cpreg::register::{Naming, RegisterId};

use crate::message::{Emitter, NamedRegister, Symptom};
use crate::pattern::{Cursor, Pattern, PatternTable};
use crate::register_mention;

/// Table of the patterns of Linux.
pub(crate) const TABLE: PatternTable = PatternTable {
    emitter: Emitter::LINUX,
    patterns: PATTERNS,
};

const PATTERNS: &[Pattern] = &[
    Pattern::for_any_version("Unsupported guest sys_reg access", |rest| {
        let (_, after) = rest.rest_of_line().split_once("Op0")?;
        let id = register_mention::parse_encoding(&mut Cursor(after))?;
        Some(Symptom::GuestAccess {
            register: NamedRegister::from_id(id, ""),
        })
    }),
    Pattern::for_any_version("SANITY CHECK: Unexpected variation in SYS_", |rest| {
        let name = rest.parse_name()?.trim_end_matches('.');
        let id = RegisterId::parse_in(name, Naming::Architectural).ok();
        Some(Symptom::CoresDiffer {
            register: NamedRegister {
                id,
                text: name.into(),
                accelerator: None,
            },
        })
    }),
];
