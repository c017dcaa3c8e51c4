//! Lines of gem5 about KVM's devices. Its lines about registers are mentions
//! (`register_mention`).
//!
//! Source: gem5's `src/cpu/kvm/device.cc`.

use cpreg::errno::Errno;

use crate::message::{AttributeAccess, Emitter, Symptom};
use crate::pattern::{Cursor, Pattern, PatternTable};

/// Table of the patterns of gem5.
pub(crate) const TABLE: PatternTable = PatternTable {
    emitter: Emitter::GEM5,
    patterns: PATTERNS,
};

const PATTERNS: &[Pattern] = &[
    Pattern::for_any_version("Failed to set attribute (group: ", |rest| {
        parse(rest, AttributeAccess::Set)
    }),
    Pattern::for_any_version("Failed to get attribute (group: ", |rest| {
        parse(rest, AttributeAccess::Get)
    }),
];

/// Parses `3, attr: 0, errno: 22)`.
fn parse(rest: &mut Cursor<'_>, access: AttributeAccess) -> Option<Symptom> {
    let group = rest.parse_u32()?;
    rest.expect(", attr: ")?;
    let attribute = rest.parse_u64()?;
    rest.expect(", errno: ")?;
    let error = u16::try_from(rest.parse_u32()?).ok().map(Errno);
    Some(Symptom::DeviceAttribute {
        access,
        group,
        attribute,
        error,
    })
}
