//! [`DifferenceCounts`]: numbers of differences that all block the load, or that all lack a
//! decision.

use std::collections::BTreeSet;

use cpreg::plan::{Action, ExtensionAction, HardwareAction};

use super::CheckFindings;
use crate::text::pluralize;

/// Numbers of differences that all block the load, or that all lack a decision.
#[derive(Clone, Copy)]
pub(super) struct DifferenceCounts {
    pub(super) shape: usize,
    pub(super) hardware: usize,
    pub(super) registers: usize,
    pub(super) extensions: usize,
}

impl DifferenceCounts {
    /// Returns the number of all differences.
    pub(super) const fn count(self) -> usize {
        self.shape + self.hardware + self.registers + self.extensions
    }

    /// Returns the numbers without the properties of the hosts.
    pub(super) const fn without_hardware(self) -> Self {
        Self {
            hardware: 0,
            ..self
        }
    }

    /// Returns the numbers in words: `2 differences of the machine and 1 register`.
    pub(super) fn describe(self) -> String {
        let machine = match self.shape {
            1 => "1 difference of the machine".to_owned(),
            count => format!("{count} differences of the machine"),
        };
        let hardware = match self.hardware {
            1 => "1 property of the hosts".to_owned(),
            count => format!("{count} properties of the hosts"),
        };
        let all = [
            (self.shape, machine),
            (self.hardware, hardware),
            (self.registers, pluralize(self.registers, "register")),
            (self.extensions, pluralize(self.extensions, "extension")),
        ];
        let all = all.into_iter().filter(|(count, _)| *count != 0);
        let all: Vec<_> = all.map(|(_, text)| text).collect();
        match &all[..] {
            [others @ .., last] if !others.is_empty() => {
                format!("{} and {last}", others.join(", "))
            }
            _ => all.concat(),
        }
    }
}

impl CheckFindings<'_> {
    /// Counts the differences that block the load.
    pub(super) fn count_blockers(&self) -> DifferenceCounts {
        DifferenceCounts {
            shape: self
                .shape
                .iter()
                .filter(|difference| difference.blocks)
                .count(),
            hardware: self.hardware_with(HardwareAction::Refuse).len(),
            ..self.count_decisions(&Action::Refuse, &ExtensionAction::Refuse)
        }
    }

    /// Counts the differences whose effect on the load is not known.
    pub(super) fn count_undecided(&self) -> DifferenceCounts {
        DifferenceCounts {
            hardware: self.hardware_with(HardwareAction::Undecided).len(),
            ..self.count_decisions(&Action::Undecided, &ExtensionAction::Undecided)
        }
    }

    fn count_decisions(
        &self,
        action: &Action,
        extension_action: &ExtensionAction,
    ) -> DifferenceCounts {
        let vcpus = self.check.plan.vcpus.iter();
        let registers = vcpus.clone().flat_map(|vcpu| &vcpu.decisions);
        let registers = registers.filter(|decision| decision.action == *action);
        let registers: BTreeSet<_> = registers.map(|decision| decision.register).collect();
        let extensions = vcpus.flat_map(|vcpu| &vcpu.extensions);
        let extensions = extensions.filter(|decision| decision.action == *extension_action);
        let extensions: BTreeSet<_> = extensions.map(|decision| &decision.name).collect();
        DifferenceCounts {
            shape: 0,
            hardware: 0,
            registers: registers.len(),
            extensions: extensions.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blockers_are_listed_in_words() {
        let describe = |shape, hardware, registers, extensions| {
            let blockers = DifferenceCounts {
                shape,
                hardware,
                registers,
                extensions,
            };
            blockers.describe()
        };
        assert_eq!(describe(0, 0, 1, 0), "1 register");
        assert_eq!(
            describe(2, 0, 0, 1),
            "2 differences of the machine and 1 extension"
        );
        assert_eq!(
            describe(1, 0, 5, 2),
            "1 difference of the machine, 5 registers and 2 extensions"
        );
        assert_eq!(describe(0, 1, 0, 0), "1 property of the hosts");
        assert_eq!(
            describe(0, 2, 1, 0),
            "2 properties of the hosts and 1 register"
        );
    }
}
