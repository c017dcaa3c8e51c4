//! [`FatalChange`]: a change of a field that breaks a running guest.

use alloc::vec::Vec;
use core::fmt;

use crate::severity::Usage;

/// Change of a field that breaks a running guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct FatalChange {
    /// Name of the field.
    pub field: &'static str,
    /// The VM's value of the field.
    pub from: u64,
    /// Value that the guest would read at the destination.
    pub to: u64,
    /// The guest's use of what the change takes away.
    pub usage: Usage,
    /// Effect on the guest.
    pub consequence: &'static str,
}

/// Writes the fields and the consequence, in one sentence for each consequence.
pub(super) fn write_consequences(
    f: &mut fmt::Formatter<'_>,
    changes: &[FatalChange],
) -> fmt::Result {
    let mut rest: Vec<&FatalChange> = changes.iter().collect();
    let mut separator = "";
    while let Some(first) = rest.first().copied() {
        let is_alike = |change: &&FatalChange| {
            (change.consequence, change.usage) == (first.consequence, first.usage)
        };
        let fields: Vec<_> = rest
            .iter()
            .copied()
            .filter(is_alike)
            .map(|change| change.field)
            .collect();
        rest.retain(|change| !is_alike(change));
        let (noun, verb) = match fields.len() {
            1 => ("change", "breaks"),
            _ => ("changes", "break"),
        };
        write!(
            f,
            "{separator}the {noun} of {} {verb} a running guest: {}",
            fields.join(", "),
            first.consequence
        )?;
        if first.usage == Usage::Unknown {
            f.write_str(" (not known whether the guest uses it)")?;
        }
        separator = "; ";
    }
    Ok(())
}
