//! Entries for the formats of other programs: the registers that an entry decides, and its text.

use cpreg::destination::Accelerator;
use cpreg::register::RegisterId;
use cpreg::tolerance::{RegisterSelector, Tolerance, Tolerances};

use crate::remedy::{self, AdviceContext, Vmm};
use crate::tolerance::text::{condition, difference, handling};

/// Number of CCSIDR_EL1 slots: seven levels, each with data and instructions (Arm DDI 0487,
/// CSSELR_EL1).
const CACHE_SIZE_SLOTS: u8 = 14;

/// An entry, and the registers that it decides because no earlier entry does.
pub(super) struct EffectiveEntry<'a> {
    pub(super) entry: &'a Tolerance,
    /// Registers that the entry decides; empty for a class of registers without a list.
    pub(super) registers: Vec<RegisterId>,
    /// Registers of the entry that an earlier entry decides.
    pub(super) shadowed_registers: Vec<RegisterId>,
}

/// Returns the entries for this accelerator with the selected registers, or all registers if none
/// is selected.
pub(super) fn effective_entries<'a>(
    tolerances: &'a Tolerances,
    selection: &[RegisterId],
    accelerator: Accelerator,
) -> Vec<EffectiveEntry<'a>> {
    let entries = tolerances.entries().iter().enumerate();
    let rows = entries.filter_map(|(number, entry)| {
        if entry
            .accelerator
            .is_some_and(|required| required != accelerator)
        {
            return None;
        }
        let is_selected = |id: &RegisterId| selection.is_empty() || selection.contains(id);
        let (registers, shadowed_registers): (Vec<_>, Vec<_>) =
            match listed_registers(&entry.registers) {
                Some(ids) => ids.into_iter().filter(is_selected).collect(),
                None => selection
                    .iter()
                    .copied()
                    .filter(|id| entry.registers.contains(*id))
                    .collect::<Vec<_>>(),
            }
            .into_iter()
            .partition(|id| {
                tolerances.find(*id, entry.difference, Some(accelerator)) == Some(number)
            });
        let is_class = listed_registers(&entry.registers).is_none() && selection.is_empty();
        let is_relevant = is_class || !registers.is_empty() || !shadowed_registers.is_empty();
        is_relevant.then_some(EffectiveEntry {
            entry,
            registers,
            shadowed_registers,
        })
    });
    rows.collect()
}

/// Returns the registers of a selector; `None` for a class of registers without a list.
fn listed_registers(selector: &RegisterSelector) -> Option<Vec<RegisterId>> {
    match selector {
        RegisterSelector::Ids(ids) => Some(ids.to_vec()),
        RegisterSelector::CacheSizes => {
            Some((0..CACHE_SIZE_SLOTS).map(RegisterId::ccsidr).collect())
        }
        RegisterSelector::PerformanceMonitors
        | RegisterSelector::ImplementationDefined
        | RegisterSelector::ReservedAArch32 => None,
    }
}

/// Returns the difference, handling and condition of an entry as a sentence: `Source only: ignore,
/// if it holds 0x0.`
pub(super) fn rule(entry: &Tolerance) -> String {
    let mut letters = difference(entry.difference).chars();
    let first = letters.next().map(char::to_uppercase);
    format!(
        "{}{}: {}{}.",
        first.into_iter().flatten().collect::<String>(),
        letters.as_str(),
        handling(entry.handling),
        condition(&entry.condition)
    )
}

/// Returns the parts of an entry that justify its rule, as paragraphs: reason, visible change,
/// remedy and history. The remedy names options of `vmm`.
pub(super) fn grounds(entry: &Tolerance, vmm: Vmm) -> Vec<String> {
    let mut grounds = vec![format!("Why: {}.", entry.reason)];
    if let Some(visible) = &entry.visible_effect {
        grounds.push(format!(
            "The guest could notice ({}): {}.",
            visible.severity, visible.description
        ));
    }
    if let Some(remedy) = &entry.remedy {
        let advice = remedy::advice(remedy, AdviceContext::new(vmm));
        grounds.push(format!("Fix: {advice}."));
    }
    if entry.is_operator_entry {
        grounds.push("An operator's entry, not one of cpreg's.".to_owned());
    }
    grounds.extend(entry.history.iter().map(|change| {
        let commit = if change.commit.is_empty() {
            String::new()
        } else {
            format!(" ({})", change.commit)
        };
        format!("{}{commit}: {}.", change.release, change.description)
    }));
    grounds
}

#[cfg(test)]
mod tests {
    use cpreg::tolerance::{Category, Condition, Handling, RegisterDifference};

    use super::*;

    #[test]
    fn shadowed_entry_decides_nothing() {
        let mut tolerances = Tolerances::default();
        tolerances.add_operator_entries([Tolerance {
            registers: RegisterSelector::Ids(vec![RegisterId::OSLSR_EL1].into()),
            accelerator: None,
            difference: RegisterDifference::SourceOnly,
            condition: Condition::Always,
            handling: Handling::Refuse,
            visible_effect: None,
            category: Category::Operator,
            reason: "a test".into(),
            remedy: None,
            history: Vec::new(),
            is_operator_entry: true,
            origin: None,
        }]);
        let rows = effective_entries(&tolerances, &[RegisterId::OSLSR_EL1], Accelerator::Kvm);
        let decided: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row.entry.is_operator_entry,
                    row.registers.len(),
                    row.shadowed_registers.len(),
                )
            })
            .collect();
        assert_eq!(decided, [(true, 1, 0), (false, 0, 1)]);
    }
}
