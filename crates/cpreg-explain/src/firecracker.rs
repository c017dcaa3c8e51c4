//! Lines of Firecracker about a snapshot that does not load.
//!
//! Firecracker chains its errors with `: `, outermost first, so one line has all of them: `Load
//! snapshot error: Failed to restore from snapshot: … Failed to restore vCPUs: … Failed to restore
//! the state of the vcpu: Failed to set register ID to value VALUE: Invalid argument (os error
//! 22)`. A load stops at the first register that KVM refuses.
//!
//! | words | versions |
//! |---|---|
//! | `Failed to set register 0xID to value 0xVALUE: ERROR (os error N)` | 1.13 and later |
//! | `Failed to set register ID: ERROR (os error N)`, ID decimal | to 1.12 |
//! | `Failed to restore the state of the vcpu: …` | any |
//! | `Failed to restore the VM's GIC state: …` | any |
//! | `Error initializing the vcpu: …` | any |
//! | `Found unsupported KVM_ARM_VCPU_PMU_V3 bit set in vcpu features` | any |
//! | `Invalid data version: V`, `Magic value does not match arch: …` | 1.7 and later |
//! | `An error occured with serialization/deserialization: …` | to 1.11 |
//! | `An error occured during bincode decoding: …` | 1.12 to 1.14 |
//! | `An error occurred during bitcode serialization: …` | 1.15 and later |
//!
//! Commit e34ba7a5d introduced the form with a value.
//!
//! Source: Firecracker's `src/vmm` (`arch/aarch64/vcpu.rs`, `arch/aarch64/vm.rs`,
//! `snapshot/mod.rs`) at 81b38b9da and in its releases from 0.23.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use cpreg::destination::VersionRange;
use cpreg::errno::Errno;
use cpreg::register::RegisterId;

use crate::message::{Emitter, NamedRegister, Statement, Symptom};
use crate::pattern::{Cursor, Pattern, PatternTable, Scanner, to_name};

/// Parses the statements of Firecracker in a line, each with its byte offset.
pub fn parse(line: &str) -> Vec<(usize, Statement)> {
    static SCANNER: Scanner = Scanner::new(&[TABLE]);
    SCANNER.scan(line)
}

/// Table of the patterns of Firecracker.
pub(crate) const TABLE: PatternTable = PatternTable {
    emitter: Emitter::FIRECRACKER,
    patterns: PATTERNS,
};

const PATTERNS: &[Pattern] = &[
    Pattern {
        prefix: "Failed to set register 0x",
        versions: VersionRange::with_first(1, 13),
        parse: hex_register,
    },
    Pattern {
        prefix: "Failed to set register ",
        versions: VersionRange::with_last(1, 12),
        parse: decimal_register,
    },
    Pattern::for_any_version("Failed to restore the state of the vcpu", |_| {
        Some(Symptom::VcpuNotRestored)
    }),
    Pattern::for_any_version("Failed to restore the VM's GIC state", |rest| {
        Some(Symptom::GicNotRestored {
            error: parse_last_errno(rest.rest_of_line()),
        })
    }),
    Pattern::for_any_version("Error initializing the vcpu: ", |rest| {
        Some(Symptom::VcpuInit {
            error: rest.parse_errno(),
        })
    }),
    Pattern::for_any_version(
        "Found unsupported KVM_ARM_VCPU_PMU_V3 bit set in vcpu features",
        |_| Some(Symptom::VcpuInit { error: None }),
    ),
    Pattern::for_any_version("Invalid data version: ", |rest| {
        Some(Symptom::SnapshotVersion {
            version: to_name(rest.parse_name()?),
        })
    }),
    Pattern::for_any_version("Magic value does not match arch: ", |_| Some(undecodable())),
    Pattern {
        prefix: "An error occured with serialization/deserialization: ",
        versions: VersionRange::with_last(1, 11),
        parse: |_| Some(undecodable()),
    },
    Pattern {
        prefix: "An error occured during bincode decoding: ",
        versions: VersionRange::with_last(1, 14),
        parse: |_| Some(undecodable()),
    },
    Pattern {
        prefix: "An error occurred during bitcode serialization: ",
        versions: VersionRange::with_first(1, 15),
        parse: |_| Some(undecodable()),
    },
];

/// Returns the symptom of a snapshot whose version Firecracker does not name. A release decodes the
/// file of another one before it compares versions.
const fn undecodable() -> Symptom {
    Symptom::SnapshotVersion {
        version: String::new(),
    }
}

/// Parses `603000000013c510 to value 0x1: Invalid argument (os error 22)`.
fn hex_register(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let raw = rest.parse_hex()?;
    rest.expect(" to value ")?;
    // A value of more than 64 bits does not fit the statement and is dropped.
    let value = rest
        .take_until(": ")
        .and_then(|digits| Cursor(digits).parse_hex());
    Some(register_refusal(
        raw,
        &format!("{raw:#x}"),
        value,
        rest.parse_errno(),
    ))
}

/// Parses `6931039826524241155: Invalid argument (os error 22)`.
fn decimal_register(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let raw = rest.parse_u64()?;
    rest.expect(": ")?;
    Some(register_refusal(
        raw,
        &raw.to_string(),
        None,
        rest.parse_errno(),
    ))
}

fn register_refusal(raw: u64, text: &str, value: Option<u64>, error: Option<Errno>) -> Symptom {
    let register = NamedRegister::from_id(RegisterId::from_raw(raw), text);
    match error {
        Some(Errno::ENOENT) => Symptom::UnknownToKvm { register, value },
        error => Symptom::ValueNotAccepted {
            register,
            value,
            current: None,
            error,
        },
    }
}

/// Parses the error number at the end of a chain of errors.
fn parse_last_errno(line: &str) -> Option<Errno> {
    let (_, number) = line.rsplit_once("os error ")?;
    let number = Cursor(number).parse_u32()?;
    u16::try_from(number).ok().map(Errno)
}
