//! [`Alternatives`]: checks of a VM with and without a feature that its state leaves open.

use cpreg::destination::Features;
use cpreg::plan::Verdict;

use crate::command::Step;

/// Checks of a VM with and without a feature that its state leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternatives {
    /// Feature that the guest may have.
    pub feature: Features,
    /// Check of a guest with the feature.
    pub with: Alternative,
    /// Check of a guest without the feature.
    pub without: Alternative,
    /// `true` if the report shows the check of a guest without the feature.
    pub shows_without: bool,
    /// `true` if the result depends on the feature.
    pub is_decisive: bool,
}

/// Check of a VM at one of two possible destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// Argument that names the destination, with the guest's features.
    pub argument: String,
    /// Command that checks the VM at that destination.
    pub command: String,
    /// Verdict of that check.
    pub verdict: Verdict,
}

impl Alternatives {
    /// Returns the missing fact, in words.
    pub(crate) fn missing_fact(&self) -> String {
        format!("whether the guest has {}", self.noun())
    }

    /// Returns the verdicts with and without the feature: `with a PMU: loads, without: refused`.
    pub(crate) fn describe_verdicts(&self) -> String {
        format!(
            "with {}: {}, without: {}",
            self.noun(),
            self.with.verdict.name(),
            self.without.verdict.name()
        )
    }

    /// Returns the commands that give the verdict.
    pub(super) fn steps(&self) -> [Step; 2] {
        let default = if self.feature == Features::PMU {
            " (QEMU's default unless pmu=off)"
        } else {
            ""
        };
        [
            Step::new(
                format!("if the guest has {}{default}", self.noun()),
                [self.with.command.clone()],
            ),
            Step::new("if it has none", [self.without.command.clone()]),
        ]
    }

    fn noun(&self) -> String {
        if self.feature == Features::PMU {
            "a PMU".to_owned()
        } else {
            self.feature.to_string()
        }
    }

    /// Returns the arguments that name both destinations.
    pub(super) fn describe_destinations(&self) -> String {
        format!("{} or {}", self.with.argument, self.without.argument)
    }

    /// Returns a note about a verdict that does not depend on the feature.
    pub(super) fn note(&self) -> Option<String> {
        let noun = self.noun();
        let shown = if self.shows_without {
            "without"
        } else {
            "with"
        };
        (!self.is_decisive).then(|| {
            format!(
                "the VM does not show whether its guest has {noun}; the verdict does not depend on \
                 it, and the plan shown is that {shown} {noun}"
            )
        })
    }
}
