//! [`Baseline`]: the settings with which a VM that is born today moves among a set of hosts, in
//! both directions, with the features that it may keep.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | the baseline as data, and the search for it |
//! | [`setting`] | values of registers that all hosts accept |
//! | `host_register.rs` | a register of one host |
//! | [`features`] | features of the guest |
//! | [`lengths`] | SVE vector lengths of the guest |
//! | `birth.rs` | a VM that is born with the settings |
//! | [`moves`] | plans of all ordered pairs of hosts |
//! | [`advice`] | what the guest would keep without some hosts |
//!
//! The search for a value uses the acceptance of the core ([`cpreg::destination::accept`]). The
//! result counts only after every ordered pair of hosts is planned with the VM that is born, as
//! `cpreg check` plans it.

pub mod advice;
mod birth;
pub mod features;
mod host_register;
pub mod lengths;
pub mod moves;
pub mod setting;

use std::collections::BTreeSet;

use cpreg::destination::{Destination, Features};
use cpreg::plan::Verdict;
use cpreg::register::{Field, RegisterField, RegisterId};
use cpreg_hosts::Error;

use crate::host::Host;
use crate::inputs::PlanInputs;
use birth::Birth;
use features::{LostFeature, Offer, has_recording};
use lengths::VectorLimit;
use moves::{Move, MoveOutcome};
use setting::{FixedValue, Setting, Settings};

/// Settings with which a VM is born, and the moves of such VMs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Baseline {
    /// Features of the guest.
    pub features: Features,
    /// Features that the guest does without.
    pub lost_features: Vec<LostFeature>,
    /// Limit of the guest's vector lengths, if the hosts have different ones.
    pub vector_limit: Option<VectorLimit>,
    /// Values with which the VM is born, ascending by register.
    pub settings: Vec<Setting>,
    /// Differences that no setting removes.
    pub fixed: Vec<FixedValue>,
    /// Registers that only some hosts list and that the VM can be born without.
    pub drops: BTreeSet<RegisterId>,
    /// Moves from each host, in rows, to each host. The diagonal has the births.
    pub moves: Vec<Vec<Move>>,
}

/// Wishes of the user.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Features to keep.
    pub features: Features,
    /// Fields that keep their best value.
    pub fields: Vec<RegisterField>,
    /// Exact features of the guest, if the VMM fixes them.
    pub exact_features: Option<Features>,
}

impl Wishes {
    fn keeps(&self, id: RegisterId, field: Option<Field>) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|kept| kept.id == id && Some(kept.field) == field)
    }
}

impl Baseline {
    /// Finds the settings for these hosts, and plans all moves.
    ///
    /// The guest keeps all features that every host offers, unless more pairs of hosts move a VM
    /// without some of them.
    ///
    /// ```
    /// use cpreg::plan::Consents;
    /// use cpreg::tolerance::Tolerances;
    /// use cpreg_fleet::baseline::{Baseline, Wishes};
    /// use cpreg_fleet::{Host, PlanInputs};
    ///
    /// # fn main() -> Result<(), cpreg_hosts::Error> {
    /// let index = cpreg_hosts::HostIndex::built_in()?;
    /// let hosts = ["linux-6.12.107/n1", "linux-7.3.4/n1"].map(|name| {
    ///     let host = index.resolve(name)?.host;
    ///     Ok(Host::recorded(host.name(), host.record()))
    /// });
    /// let hosts = hosts.into_iter().collect::<Result<Vec<_>, cpreg_hosts::Error>>()?;
    /// let inputs = PlanInputs {
    ///     tolerances: &Tolerances::default(),
    ///     consents: &Consents::default(),
    /// };
    /// let hosts: Vec<_> = hosts.iter().collect();
    /// let baseline = Baseline::find(&hosts, &Wishes::default(), inputs)?;
    /// assert_eq!(baseline.settings[0].name(), "PSCI_VERSION");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns an error if the recordings of a host do not cover the features of the guest.
    pub fn find(hosts: &[&Host], wishes: &Wishes, inputs: PlanInputs<'_>) -> Result<Self, Error> {
        if let Some(features) = wishes.exact_features {
            return Self::with_features(hosts, features, wishes, inputs);
        }
        let offer = Offer::new(hosts, wishes.features);
        let mut best: Option<Self> = None;
        let mut fixed_with_all = Vec::new();
        for features in offer.sets() {
            let is_recorded = hosts.iter().all(|host| has_recording(host, features));
            if !is_recorded && !features.is_empty() {
                continue;
            }
            let found = Self::with_features(hosts, features, wishes, inputs)?;
            let blocked = found.blocked_moves();
            if best.is_none() {
                fixed_with_all.clone_from(&found.fixed);
            }
            if best
                .as_ref()
                .is_none_or(|best| blocked < best.blocked_moves())
            {
                best = Some(found);
            }
            if blocked == 0 {
                break;
            }
        }
        let mut best = match best {
            Some(best) => best,
            None => Self::with_features(hosts, Features::NONE, wishes, inputs)?,
        };
        let is_removed = |fixed: &FixedValue| {
            let mut others = best.fixed.iter();
            !others.any(|other| other.name() == fixed.name())
        };
        let removed = fixed_with_all.iter().filter(|fixed| is_removed(fixed));
        let removed: Vec<_> = removed.map(FixedValue::name).collect();
        best.lost_features = offer.losses(best.features, &removed);
        Ok(best)
    }

    fn with_features(
        hosts: &[&Host],
        features: Features,
        wishes: &Wishes,
        inputs: PlanInputs<'_>,
    ) -> Result<Self, Error> {
        let destinations = hosts.iter();
        let destinations = destinations.map(|host| host.destination_for_new_vm(features));
        let destinations: Vec<Destination> = destinations.collect::<Result<_, _>>()?;
        let mut values = Settings::find(&destinations, |id, field| wishes.keeps(id, field));
        let vector_limit = features
            .contains(Features::SVE)
            .then(|| VectorLimit::find(&destinations))
            .flatten();
        let limit = vector_limit.as_ref().map(VectorLimit::limit);
        let (moves, drops) = loop {
            let settings = &values.settings;
            let births = hosts
                .iter()
                .map(|host| Birth::new(host, features, settings, limit));
            let births: Vec<_> = births.collect::<Result<_, _>>()?;
            let (moves, drops) = moves::plan(&births, inputs);
            let mut has_new = false;
            for (place, value, forced_by) in moves::lost_fields(&moves) {
                let is_kept = wishes.keeps(place.id, Some(place.field));
                has_new |=
                    !is_kept && values.add_lost_field(&destinations, place, value, forced_by);
            }
            // Each round adds a field, so the loop ends.
            if !has_new {
                break (moves, drops);
            }
        };
        let Settings { settings, fixed } = values;
        Ok(Self {
            features,
            lost_features: Vec::new(),
            vector_limit,
            settings,
            fixed,
            drops,
            moves,
        })
    }

    /// Returns the moves between different hosts, with the indexes of both.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize, &Move)> {
        let rows = self.moves.iter().enumerate();
        rows.flat_map(|(from, row)| {
            let cells = row.iter().enumerate();
            cells
                .filter(move |(to, _)| *to != from)
                .map(move |(to, one)| (from, to, one))
        })
    }

    /// Returns the births, each with the index of its host.
    pub fn births(&self) -> impl Iterator<Item = (usize, &Move)> {
        let rows = self.moves.iter().enumerate();
        rows.filter_map(|(index, row)| Some((index, row.get(index)?)))
    }

    /// Returns the number of moves and births with this outcome.
    pub fn count(&self, outcome: MoveOutcome) -> usize {
        let moves = self.moves.iter().flatten();
        moves.filter(|one| one.outcome == outcome).count()
    }

    /// Returns the number of moves and births that settings could unblock.
    fn blocked_moves(&self) -> usize {
        let moves = self.moves.iter().flatten();
        moves
            .filter(|one| !matches!(one.outcome, MoveOutcome::Ready | MoveOutcome::CpuDiffers))
            .count()
    }

    /// Returns the features that the user keeps and that a host lacks.
    pub fn unmet_wishes(&self) -> impl Iterator<Item = &LostFeature> {
        self.lost_features.iter().filter(|lost| lost.is_wanted)
    }

    /// Returns the worst verdict of all moves and births.
    ///
    /// A feature that the user keeps and a host lacks is a refusal.
    pub fn verdict(&self) -> Verdict {
        let verdicts = || self.moves.iter().flatten().map(|one| one.verdict);
        let has = |verdict| verdicts().any(|other| other == verdict);
        if has(Verdict::Refused) || self.unmet_wishes().next().is_some() {
            Verdict::Refused
        } else if has(Verdict::Unknown) {
            Verdict::Unknown
        } else if has(Verdict::Converts) {
            Verdict::Converts
        } else {
            Verdict::Loads
        }
    }
}

#[cfg(test)]
mod tests;
