//! What Firecracker says when a snapshot does not load.
//!
//! It chains its errors with `: `, outermost first, so that one line has the whole story:
//! `Load snapshot error: Failed to restore from snapshot: … Failed to restore vCPUs: … Failed to restore the state of the vcpu: Failed to set
//! register ID to value VALUE: Invalid argument (os error 22)`. It stops at the first register that KVM refuses.
//!
//! | words | versions |
//! |---|---|
//! | `Failed to set register 0xID to value 0xVALUE: ERROR (os error N)` | 1.13 and later (commit e34ba7a5d) |
//! | `Failed to set register ID: ERROR (os error N)`, ID decimal | to 1.12 |
//! | `Failed to restore the state of the vcpu: …` | any |
//! | `Failed to restore the VM's GIC state: …` | any |
//! | `Error initializing the vcpu: …` | any |
//! | `Found unsupported KVM_ARM_VCPU_PMU_V3 bit set in vcpu features` | any |
//! | `Invalid data version: V`, `Magic value does not match arch: …` | 1.7 and later |
//!
//! Source: Firecracker's `src/vmm` (`arch/aarch64/vcpu.rs`, `arch/aarch64/vm.rs`, `snapshot/mod.rs`) at 81b38b9da and in its releases from 0.23.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use cpreg::destination::Versions;
use cpreg::errno::Errno;
use cpreg::register::RegisterId;

use crate::message::{NamedRegister, Said, Speaker, Symptom};
use crate::pattern::{Phrase, Rest, owned, scan};

/// What Firecracker says in the line, each with where it begins.
pub fn read(line: &str) -> Vec<(usize, Said)> {
    scan(line, Speaker::FIRECRACKER, PHRASES)
}

const PHRASES: &[Phrase] = &[
    Phrase {
        begins: "Failed to set register 0x",
        versions: Versions::since(1, 13),
        read: register,
    },
    Phrase {
        begins: "Failed to set register ",
        versions: Versions::until(1, 12),
        read: decimal_register,
    },
    Phrase {
        begins: "Failed to restore the state of the vcpu",
        versions: Versions::ANY,
        read: |_| Some(Symptom::VcpuNotRestored),
    },
    Phrase {
        begins: "Failed to restore the VM's GIC state",
        versions: Versions::ANY,
        read: |rest| {
            Some(Symptom::GicNotRestored {
                error: last_error(rest.line()),
            })
        },
    },
    Phrase {
        begins: "Error initializing the vcpu: ",
        versions: Versions::ANY,
        read: |rest| {
            Some(Symptom::VcpuInit {
                error: rest.error(),
            })
        },
    },
    Phrase {
        begins: "Found unsupported KVM_ARM_VCPU_PMU_V3 bit set in vcpu features",
        versions: Versions::ANY,
        read: |_| Some(Symptom::VcpuInit { error: None }),
    },
    Phrase {
        begins: "Invalid data version: ",
        versions: Versions::ANY,
        read: |rest| {
            Some(Symptom::SnapshotVersion {
                version: owned(rest.name()?),
            })
        },
    },
    Phrase {
        begins: "Magic value does not match arch: ",
        versions: Versions::ANY,
        read: |_| {
            Some(Symptom::SnapshotVersion {
                version: String::new(),
            })
        },
    },
];

/// `603000000013c510 to value 0x1: Invalid argument (os error 22)`
fn register(rest: &mut Rest<'_>) -> Option<Symptom> {
    let raw = rest.hexadecimal()?;
    rest.eat(" to value ")?;
    // A wide value does not fit.
    let value = rest
        .until(": ")
        .and_then(|digits| Rest(digits).hexadecimal());
    Some(refused(raw, &format!("{raw:#x}"), value, rest.error()))
}

/// `6931039826524241155: Invalid argument (os error 22)`
fn decimal_register(rest: &mut Rest<'_>) -> Option<Symptom> {
    let raw = rest.unsigned()?;
    rest.eat(": ")?;
    Some(refused(raw, &raw.to_string(), None, rest.error()))
}

fn refused(raw: u64, text: &str, value: Option<u64>, error: Option<Errno>) -> Symptom {
    let register = NamedRegister::of(RegisterId::from_raw(raw), text);
    match error {
        Some(Errno::ENOENT) => Symptom::UnknownToKvm { register, value },
        error => Symptom::NotTaken {
            register,
            value,
            is: None,
            error,
        },
    }
}

/// The number that a chain of errors ends with.
fn last_error(line: &str) -> Option<Errno> {
    let (_, number) = line.rsplit_once("os error ")?;
    let number = Rest(number).small()?;
    u16::try_from(number).ok().map(Errno)
}
