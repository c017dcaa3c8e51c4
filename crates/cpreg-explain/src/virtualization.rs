//! Lines of Apple's Virtualization framework, which restores only its own saved VMs.
//!
//! Source: public reports of UTM, Tart and Lima, and Apple's documentation of
//! `restoreMachineStateFrom`.

use crate::message::{Emitter, Symptom};
use crate::pattern::{Cursor, Pattern, PatternTable};

/// Table of the patterns of the framework.
pub(crate) const TABLE: PatternTable = PatternTable {
    emitter: Emitter::VIRTUALIZATION,
    patterns: PATTERNS,
};

const PATTERNS: &[Pattern] = &[
    Pattern::for_any_version("The virtual machine failed to restore", |_| {
        Some(Symptom::VirtualizationRestore)
    }),
    Pattern::for_any_version("Domain=VZErrorDomain Code=", parse_code),
    Pattern::for_any_version("VZErrorRestore", |_| Some(Symptom::VirtualizationRestore)),
];

/// Parses the code of `VZErrorRestore`.
fn parse_code(rest: &mut Cursor<'_>) -> Option<Symptom> {
    const RESTORE: u32 = 12;
    (rest.parse_u32()? == RESTORE).then_some(Symptom::VirtualizationRestore)
}
