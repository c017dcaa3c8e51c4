//! [`Alternatives`]: checks of a VM at all of its possible destinations.
//!
//! | cause | possible destinations |
//! |---|---|
//! | the VM's state leaves a feature of its guest open | with and without the feature |
//! | the destination's kernel was not recorded | its recorded neighbours |
//!
//! Both causes may coincide. The verdict is known if it depends on neither: with and without the
//! feature the results are the same, and the neighbours [enclose the kernel's
//! result](cpreg::plan::PossibleCheck::encloses_result).

use cpreg::destination::Features;
use cpreg::plan::{PlanDifference, Verdict};

use crate::command::Step;
use crate::unrecorded::UnrecordedKernel;

/// Checks of a VM at all of its possible destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternatives {
    /// Facts that leave several destinations possible.
    pub open: OpenFacts,
    /// One check for each possible destination; empty if no recorded host is one.
    pub checks: Vec<Alternative>,
    /// Index of the check that the report shows.
    pub shown: usize,
    /// `true` if the result depends on the open feature.
    pub depends_on_feature: bool,
    /// `true` if the result depends on the unrecorded kernel.
    pub depends_on_kernel: bool,
    /// Parts on which the plans differ, if the result depends on the kernel.
    pub differences: Vec<PlanDifference>,
}

/// Facts that leave several destinations possible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenFacts {
    /// Feature that the guest may have.
    pub feature: Option<OpenFeature>,
    /// Kernel of the destination.
    pub kernel: Option<OpenKernel>,
}

/// Feature that a guest may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFeature {
    /// The feature.
    pub feature: Features,
    /// Command that checks a guest with the feature.
    pub command_with: String,
    /// Command that checks a guest without the feature.
    pub command_without: String,
}

/// Kernel of a destination that was not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenKernel {
    /// The kernel.
    pub kernel: UnrecordedKernel,
    /// File for a recording of the destination.
    pub recording: String,
    /// Command that checks the VM against that file.
    pub command: String,
}

/// Check of a VM at one of its possible destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The destination.
    pub destination: PossibleDestination,
    /// Verdict of the check.
    pub verdict: Verdict,
}

/// Possible destination of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PossibleDestination {
    /// Argument that names the destination.
    pub argument: String,
    /// Command that checks the VM at the destination.
    pub command: String,
    /// `true` if the guest is assumed to have the open feature; `None` if none is open.
    pub has_feature: Option<bool>,
    /// Recorded host next to the destination's kernel; `None` if the kernel was recorded.
    pub recorded_host: Option<String>,
}

impl Alternatives {
    /// Returns `true` if the result depends on an open fact.
    pub const fn are_decisive(&self) -> bool {
        self.depends_on_feature || self.depends_on_kernel
    }

    /// Returns the open facts on which the result depends, in words.
    pub(crate) fn missing_facts(&self) -> Vec<String> {
        let feature = self.open.feature.iter().filter(|_| self.depends_on_feature);
        let kernel = self.open.kernel.iter().filter(|_| self.depends_on_kernel);
        feature
            .map(|open| format!("whether the guest has {}", noun(open.feature)))
            .chain(kernel.map(|open| open.kernel.missing_fact()))
            .collect()
    }

    /// Returns the verdicts of the checks: `with a PMU: loads, without: refused`.
    pub(crate) fn describe_verdicts(&self) -> Option<String> {
        let verdicts = self.checks.iter().map(|check| check.verdict.name());
        let verdicts: Vec<_> = verdicts.collect();
        let words: Vec<_> = if let (None, Some(open)) = (&self.open.kernel, &self.open.feature) {
            let checks = self.checks.iter().zip(verdicts);
            let words = checks.map(|(check, verdict)| match check.destination.has_feature {
                Some(true) => format!("with {}: {verdict}", noun(open.feature)),
                _ => format!("without: {verdict}"),
            });
            words.collect()
        } else {
            let places = self.at_places(&verdicts).into_iter();
            let words = places.map(|(place, verdict)| format!("at {place}: {verdict}"));
            words.collect()
        };
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// Returns the word of each check with the destination that it applies to. If the word is the
    /// same for all guests on a recorded host, the host occurs once.
    pub(super) fn at_places<'a>(&'a self, words: &[&'a str]) -> Vec<(&'a str, &'a str)> {
        let checks = self.checks.iter().map(|check| &check.destination);
        let checks: Vec<_> = checks.zip(words.iter().copied()).collect();
        let hosts =
            checks.chunk_by(|(one, _), (other, _)| one.recorded_host == other.recorded_host);
        let places = hosts.flat_map(|of_host| {
            let is_equal = of_host.iter().all(|(_, word)| *word == of_host[0].1);
            match &of_host[0].0.recorded_host {
                Some(host) if is_equal && of_host.len() > 1 => vec![(host.as_str(), of_host[0].1)],
                _ => {
                    let places = of_host.iter();
                    places
                        .map(|(it, word)| (it.argument.as_str(), *word))
                        .collect()
                }
            }
        });
        places.collect()
    }

    /// Returns the commands that give the verdict, best first.
    pub(super) fn steps(&self) -> Vec<Step> {
        match (&self.open.kernel, &self.open.feature) {
            (Some(open), _) if self.depends_on_kernel => self.steps_for_kernel(open),
            (_, Some(open)) => steps_for_feature(open).into(),
            _ => Vec::new(),
        }
    }

    fn steps_for_kernel(&self, open: &OpenKernel) -> Vec<Step> {
        let mut steps = vec![Step::new(
            format!("record KVM on {}, and check again", open.kernel.host),
            [
                format!("cpreg probe kvm -o {}", open.recording),
                open.command.clone(),
            ],
        )];
        let checks = self.checks.iter().map(|check| &check.destination);
        // A feature that decides nothing needs no second command.
        let checks = checks.filter(|it| self.depends_on_feature || it.has_feature != Some(false));
        steps.extend(checks.map(|destination| {
            let host = destination.recorded_host.as_deref().unwrap_or_default();
            let purpose = match self.open.feature.as_ref().zip(destination.has_feature) {
                Some((open, has_feature)) if self.depends_on_feature => {
                    let noun = if has_feature {
                        noun(open.feature)
                    } else {
                        format!("no {}", open.feature)
                    };
                    format!("if the guest has {noun} and KVM is that of {host}")
                }
                _ => format!("if KVM is that of {host}"),
            };
            Step::new(purpose, [destination.command.clone()])
        }));
        steps
    }

    /// Returns the destinations, in words.
    pub(super) fn describe_destinations(&self) -> String {
        let places = |conjunction| {
            let words = vec![""; self.checks.len()];
            let places = self.at_places(&words).into_iter();
            places
                .map(|(place, _)| place)
                .collect::<Vec<_>>()
                .join(conjunction)
        };
        match &self.open.kernel {
            Some(open) if self.checks.is_empty() => open.kernel.host.clone(),
            Some(open) => format!("{}, next to {}", open.kernel.host, places(" and ")),
            None => places(" or "),
        }
    }

    /// Returns the check at the only recorded host next to the kernel, if there is only one.
    ///
    /// Its plan is all that is known of the kernel.
    pub(super) fn only_neighbour(&self) -> Option<&Alternative> {
        match &self.checks[..] {
            [check] => Some(check),
            _ => None,
        }
    }

    /// Returns notes about a verdict that depends on no open fact.
    pub(super) fn notes(&self) -> Vec<String> {
        if self.are_decisive() {
            return Vec::new();
        }
        let shown = self.checks.get(self.shown).map(|check| &check.destination);
        let feature = self.open.feature.as_ref().map(|open| {
            let noun = noun(open.feature);
            let shown = match shown.and_then(|shown| shown.has_feature) {
                Some(true) => "with",
                _ => "without",
            };
            format!(
                "the VM does not show whether its guest has {noun}; the verdict does not depend on \
                 it, and the plan shown is that {shown} {noun}"
            )
        });
        let kernel = self.open.kernel.as_ref().map(|open| {
            let mut hosts: Vec<_> = self
                .checks
                .iter()
                .filter_map(|check| check.destination.recorded_host.as_deref())
                .collect();
            hosts.dedup();
            let UnrecordedKernel { host, reason, .. } = &open.kernel;
            format!(
                "{host} was not recorded ({reason}); the verdict is inferred from {}, which agree; \
                 the plan shown is that for {}",
                hosts.join(" and "),
                shown
                    .and_then(|shown| shown.recorded_host.as_deref())
                    .unwrap_or_default()
            )
        });
        feature.into_iter().chain(kernel).collect()
    }
}

fn steps_for_feature(open: &OpenFeature) -> [Step; 2] {
    let default = if open.feature == Features::PMU {
        " (QEMU's default unless pmu=off)"
    } else {
        ""
    };
    [
        Step::new(
            format!("if the guest has {}{default}", noun(open.feature)),
            [open.command_with.clone()],
        ),
        Step::new("if it has none", [open.command_without.clone()]),
    ]
}

fn noun(feature: Features) -> String {
    if feature == Features::PMU {
        "a PMU".to_owned()
    } else {
        feature.to_string()
    }
}
