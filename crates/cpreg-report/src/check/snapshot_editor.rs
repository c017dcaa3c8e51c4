//! A plan in the language of Firecracker's `snapshot-editor`, which can only remove registers.
//!
//! `snapshot-editor edit-vmstate remove-regs ID…` removes registers from all vCPUs. After the load
//! the removed registers have the destination's reset values.

use std::collections::BTreeSet;

use cpreg::destination::ValueOrigin;
use cpreg::plan::Action;
use cpreg::register::RegisterId;

use super::CheckFindings;
use crate::command::quote;
use crate::value::id_digits;

/// Returns the registers whose removal has the effect of the plan, ascending by id.
///
/// Returns `None` if the plan needs more than a removal: another value than the reset value, or
/// different changes of the vCPUs.
pub(crate) fn removed_registers(findings: &CheckFindings<'_>) -> Option<Vec<RegisterId>> {
    let has_reset_values = findings.destination.value_origin != ValueOrigin::Guest;
    let plan = &findings.check.plan;
    let vcpus = plan.vcpus.iter().map(|vcpu| {
        let mut removed = BTreeSet::new();
        for decision in &vcpu.decisions {
            match &decision.action {
                Action::Copy => {}
                Action::Ignore => {
                    removed.insert(decision.register);
                }
                Action::KeepAtReset if decision.source.is_some() => {
                    removed.insert(decision.register);
                }
                Action::KeepAtReset => {}
                Action::Set(value)
                    if has_reset_values && decision.destination.as_ref() == Some(value) =>
                {
                    removed.insert(decision.register);
                }
                _ => return None,
            }
        }
        Some(removed)
    });
    let vcpus: Vec<_> = vcpus.collect::<Option<_>>()?;
    let first = vcpus.first()?;
    let is_same = vcpus.iter().all(|removed| removed == first);
    (is_same && !first.is_empty()).then(|| first.iter().copied().collect())
}

/// Returns the command that removes these registers.
pub(super) fn command(removed: &[RegisterId], source: &str, output: &str) -> String {
    let ids: Vec<_> = removed.iter().map(|id| id_digits(*id)).collect();
    format!(
        "snapshot-editor edit-vmstate remove-regs {} --vmstate-path {} --output-path {}",
        ids.join(" "),
        quote(source),
        quote(output)
    )
}
