//! [`Advice`]: what a guest would keep without some of the hosts.

use std::collections::BTreeSet;

use cpreg::destination::Features;
use cpreg_hosts::Error;

use super::features::LossReason;
use super::moves::MoveOutcome;
use super::{Baseline, Wishes};
use crate::host::Host;
use crate::inputs::PlanInputs;

/// Effect of leaving out some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Advice {
    /// Hosts to leave out, as indexes.
    pub hosts: Vec<usize>,
    /// Features that the guest would have in addition.
    pub features: Features,
    /// Registers and fields that would keep a better value, or that would no longer differ.
    pub values: Vec<String>,
    /// Number of moves and births among the other hosts that would be ready, and of all.
    pub ready: (usize, usize),
}

/// Most hosts for which advice is computed: each set of hosts to leave out needs plans of all
/// pairs.
pub const MAX_HOSTS: usize = 24;

/// Most sets of hosts that are tried.
const MAX_SETS: usize = 8;

/// Returns the effect of leaving out the hosts that force a loss or a refusal.
///
/// At least two hosts remain in each case. The result is empty for more than [`MAX_HOSTS`] hosts.
///
/// # Errors
/// Returns an error if the recordings of a host do not cover the features of the guest.
pub fn advise(
    baseline: &Baseline,
    hosts: &[&Host],
    wishes: &Wishes,
    inputs: PlanInputs<'_>,
) -> Result<Vec<Advice>, Error> {
    if hosts.len() > MAX_HOSTS {
        return Ok(Vec::new());
    }
    let mut sets: Vec<_> = culprits(baseline).into_iter().collect();
    sets.retain(|set| !set.is_empty() && set.len() + 2 <= hosts.len());
    sets.sort_by_key(|set| (set.len(), set.clone()));
    sets.truncate(MAX_SETS);
    let mut advice = Vec::new();
    for left_out in sets {
        let remaining = hosts.iter().enumerate();
        let remaining = remaining.filter(|(index, _)| !left_out.contains(index));
        let remaining: Vec<_> = remaining.map(|(_, host)| *host).collect();
        let without = Baseline::find(&remaining, wishes, inputs)?;
        let found = compare(baseline, &without, left_out);
        if found.is_useful(baseline) {
            advice.push(found);
        }
    }
    Ok(advice)
}

/// Returns the sets of hosts that force losses.
fn culprits(baseline: &Baseline) -> BTreeSet<Vec<usize>> {
    let features = baseline.lost_features.iter();
    let features = features
        .filter(|lost| lost.reason == LossReason::Lacking)
        .map(|lost| lost.forced_by.clone());
    let lengths = baseline.vector_limit.iter();
    let lengths = lengths.map(|limit| limit.forced_by.clone());
    let settings = baseline.settings.iter();
    let settings = settings.map(|setting| setting.forced_by.clone());
    let fixed = baseline.fixed.iter().flat_map(|fixed| &fixed.values);
    let fixed = fixed.map(|(_, hosts)| hosts.clone());
    features
        .chain(lengths)
        .chain(settings)
        .chain(fixed)
        .collect()
}

fn compare(all: &Baseline, without: &Baseline, left_out: Vec<usize>) -> Advice {
    let find = |name: &str| {
        let mut settings = without.settings.iter();
        settings.find(|setting| setting.name() == name)
    };
    let is_fixed = |name: &str| without.fixed.iter().any(|fixed| fixed.name() == name);
    let better = all.settings.iter().filter(|setting| {
        let rank = |value| setting.field.map_or(value, |field| field.rank(value));
        if setting.value == setting.best {
            return false;
        }
        let name = setting.name();
        !is_fixed(&name) && find(&name).is_none_or(|other| rank(other.value) > rank(setting.value))
    });
    let fixed = all.fixed.iter().filter(|fixed| !is_fixed(&fixed.name()));
    let values = better
        .map(super::Setting::name)
        .chain(fixed.map(super::FixedValue::name));
    Advice {
        features: without.features.difference(all.features),
        values: values.collect(),
        ready: (
            without.count(MoveOutcome::Ready),
            without.moves.iter().map(Vec::len).sum(),
        ),
        hosts: left_out,
    }
}

impl Advice {
    /// Returns `true` if the guest keeps more, or if all moves become ready.
    fn is_useful(&self, baseline: &Baseline) -> bool {
        let all = baseline.moves.iter().map(Vec::len).sum::<usize>();
        let resolves = self.ready.0 == self.ready.1 && baseline.count(MoveOutcome::Ready) < all;
        !self.features.is_empty() || !self.values.is_empty() || resolves
    }
}
