//! [`CheckFindings::from_possible`]: one report of the checks at all possible destinations.

use cpreg::destination::Confidence;
use cpreg::plan::{Dependence, LoaderPrediction, PossibleCheck, Premise};

use super::CheckFindings;
use super::alternatives::{Alternative, Alternatives, OpenFacts, PossibleDestination};
use crate::unrecorded::{KernelRelation, UnrecordedKernel};

impl CheckFindings<'_> {
    /// Returns the strictest of the checks of one VM at its possible destinations.
    ///
    /// Returns `None` if there is no check. For a kernel that no recorded host is next to, the only
    /// check is [undecided](cpreg::plan::Check::undecided).
    pub fn from_possible(
        possible: Vec<(Self, PossibleDestination)>,
        open: OpenFacts,
    ) -> Option<Self> {
        let (mut findings, destinations): (Vec<_>, Vec<_>) = possible.into_iter().unzip();
        let first = findings.first()?;
        let checks = findings.iter().map(|findings| PossibleCheck {
            verdict: findings.verdict(),
            plan: &findings.check.plan,
        });
        let checks: Vec<_> = checks.collect();
        let kernel = open.kernel.as_ref().map(|open| &open.kernel);
        let premises = destinations.iter().map(|destination| Premise {
            has_feature: destination.has_feature,
            recorded_host: destination.recorded_host.as_deref(),
        });
        let with_premises: Vec<_> = premises.zip(checks.iter().copied()).collect();
        let Dependence {
            on_feature: depends_on_feature,
            on_kernel: depends_on_kernel,
        } = PossibleCheck::dependence(
            &with_premises,
            &first.vm,
            kernel.map(UnrecordedKernel::is_enclosed),
        );
        let differences = if depends_on_kernel {
            PossibleCheck::differences(&checks, |one, other| {
                destinations[one].has_feature == destinations[other].has_feature
            })
        } else {
            Vec::new()
        };
        let shown = PossibleCheck::strictest(&checks);
        let has_recorded_host = kernel.is_none_or(|it| it.relation != KernelRelation::BACKPORTS);
        let alternatives = destinations.into_iter().zip(&checks);
        let alternatives = alternatives.filter(|_| has_recorded_host);
        let alternatives = alternatives.map(|(destination, check)| Alternative {
            destination,
            verdict: check.verdict,
        });
        let alternatives = Alternatives {
            checks: alternatives.collect(),
            open,
            shown,
            depends_on_feature,
            depends_on_kernel,
            differences,
        };
        let mut strictest = findings.swap_remove(shown);
        for other in &findings {
            strictest.unite(other);
        }
        if alternatives.open.kernel.is_some() {
            strictest.check.plan.limit_confidence(Confidence::Inferred);
            for prediction in &mut strictest.check.loaders {
                let confidence = &mut prediction.load.confidence;
                *confidence = Confidence::Inferred.min(*confidence);
            }
        }
        strictest.alternatives = Some(alternatives);
        Some(strictest)
    }

    /// Adds what another check with the same result shows of the guest and of the loaders.
    fn unite(&mut self, other: &Self) {
        self.check.plan.add_visible_changes(&other.check.plan);
        for prediction in &mut self.check.loaders {
            let mut others = other.check.loaders.iter();
            let other = others.find(|other| other.loader == prediction.loader);
            unite_predictions(prediction, other);
        }
    }
}

/// Keeps of a prediction what another prediction for the same loader also says.
fn unite_predictions(prediction: &mut LoaderPrediction, other: Option<&LoaderPrediction>) {
    let load = &mut prediction.load;
    let Some(other) = other.map(|other| &other.load) else {
        load.loads = None;
        load.confidence = Confidence::Unknown;
        load.is_complete = false;
        return;
    };
    if load.loads != other.loads {
        load.loads = None;
        load.confidence = Confidence::Unknown;
    }
    load.confidence = load.confidence.min(other.confidence);
    if load.events != other.events {
        load.events.clear();
        load.is_complete = false;
    }
    load.is_complete &= other.is_complete;
    for lost in &other.lost_registers {
        if !load.lost_registers.contains(lost) {
            load.lost_registers.push(*lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use cpreg::destination::Loader;
    use cpreg::destination::load::SimulatedLoad;
    use cpreg::register::RegisterId;

    use super::*;

    fn prediction(loads: Option<bool>, lost: &[RegisterId]) -> LoaderPrediction {
        LoaderPrediction {
            loader: Loader::qemu(11, 1),
            is_destination_loader: false,
            load: SimulatedLoad {
                loads,
                confidence: Confidence::Inferred,
                events: Vec::new(),
                is_complete: true,
                lost_registers: lost.iter().map(|id| (0, *id)).collect(),
            },
        }
    }

    #[test]
    fn a_prediction_holds_only_if_all_agree() {
        let loads = || prediction(Some(true), &[]);
        let mut equal = loads();
        unite_predictions(&mut equal, Some(&loads()));
        assert_eq!(equal, loads());
        for other in [
            None,
            Some(prediction(Some(false), &[])),
            Some(prediction(None, &[])),
        ] {
            let mut united = loads();
            unite_predictions(&mut united, other.as_ref());
            assert_eq!(united.load.loads, None);
            assert_eq!(united.load.confidence, Confidence::Unknown);
        }
        let mut losing = loads();
        unite_predictions(
            &mut losing,
            Some(&prediction(Some(true), &[RegisterId::TCR2_EL1])),
        );
        assert_eq!(losing.load.lost_registers, [(0, RegisterId::TCR2_EL1)]);
    }
}
