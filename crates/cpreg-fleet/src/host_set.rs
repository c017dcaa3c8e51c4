//! [`HostSet`]: the destinations of a matrix, in groups that decide alike about a guest.
//!
//! Many recorded hosts list, hold and accept the same as another host, such as two releases of a
//! series. The matrix plans a VM once for all of them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use cpreg::destination::Destination;
use rayon::prelude::*;

use crate::cache::Cache;
use crate::host::{GuestKey, Host, PossibleDestination};
use crate::key::KeyContent;

/// Maximum number of guests whose groups are kept, as for the destinations of a [`Host`].
const MAX_KEPT_GUESTS: usize = 64;

/// Destinations of many VMs.
#[derive(Debug)]
pub struct HostSet {
    hosts: Vec<Host>,
    /// For each guest, the index of the first host that decides like each host.
    groups: Cache<GuestKey, Vec<usize>>,
}

impl HostSet {
    /// Returns a set of these hosts.
    pub fn new(hosts: Vec<Host>) -> Self {
        Self {
            hosts,
            groups: Cache::new(MAX_KEPT_GUESTS),
        }
    }

    /// Returns the hosts in their order.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Returns the result of `plan` for each host. Hosts that decide alike about a guest have one
    /// plan, that of the first of them.
    pub(crate) fn plan_each<T: Clone + Send + Sync>(
        &self,
        guest: &GuestKey,
        plan: impl Fn(&Host) -> T + Sync,
    ) -> Vec<T> {
        let representatives = self.representatives(guest);
        let numbered = self.hosts.par_iter().enumerate();
        // `None` for a host that decides like an earlier one.
        let planned = numbered
            .map(|(index, host)| (representatives.get(index) == Some(&index)).then(|| plan(host)));
        let planned: Vec<Option<T>> = planned.collect();
        let all = representatives.iter();
        all.filter_map(|first| planned.get(*first).cloned().flatten())
            .collect()
    }

    /// Returns, for each host, the index of the first host that decides like it about a guest.
    fn representatives(&self, guest: &GuestKey) -> Arc<Vec<usize>> {
        if let Some(known) = self.groups.get(guest) {
            return known;
        }
        let hosts = self.hosts.par_iter();
        let contents: Vec<_> = hosts.map(|host| deciding_content(host, guest)).collect();
        let mut first: HashMap<String, usize> = HashMap::new();
        let contents = contents.into_iter().enumerate();
        let representatives = contents.map(|(index, content)| match content {
            Some(content) => *first.entry(content).or_insert(index),
            None => index,
        });
        let representatives = Arc::new(representatives.collect());
        self.groups
            .insert(guest.clone(), Arc::clone(&representatives));
        representatives
    }
}

/// Returns everything about a recorded host that decides about a guest.
///
/// Returns `None` for a host that needs a plan of its own: its reasons contain its name, or its
/// profile has a machine.
fn deciding_content(host: &Host, guest: &GuestKey) -> Option<String> {
    host.record()?;
    let possible = host.possible(guest).ok()?;
    let mut content = format!("{}\n", host.lacking_features(guest));
    for PossibleDestination {
        destination,
        has_feature,
        recorded_host,
    } in possible.iter()
    {
        let (loader, count) = (destination.loader, destination.vcpus.len());
        let _ = writeln!(
            content,
            "{has_feature:?} {recorded_host:?} {loader:?} {count}"
        );
        // A key covers only the facts that can refuse a VM.
        let _ = writeln!(content, "{:?}", destination.hardware);
        for vcpu in &destination.vcpus {
            // A key covers only the first vCPU.
            let alone = Destination {
                vcpus: vec![vcpu.clone()],
                ..destination.clone()
            };
            let _ = writeln!(content, "{}", KeyContent::of_destination(&alone));
        }
    }
    Some(content)
}

#[cfg(test)]
mod tests {
    use cpreg::destination::Features;
    use cpreg::plan::Consents;
    use cpreg::tolerance::Tolerances;
    use cpreg_hosts::HostIndex;

    use super::*;
    use crate::cell::plan_cell;
    use crate::host::testing::recorded_hosts;
    use crate::inputs::PlanInputs;
    use crate::pairs::plan_row;
    use crate::subject::Subject;

    #[test]
    fn hosts_that_decide_alike_give_equal_cells() {
        let index = HostIndex::built_in().expect("the checked-in index is valid");
        let all = index.hosts();
        let hosts = all
            .iter()
            .map(|host| Host::recorded(host.name(), host.record()));
        let hosts = HostSet::new(hosts.collect());
        let sources = recorded_hosts(&[
            "linux-5.10.223/neoverse-n1",
            "linux-6.12.107/neoverse-n1",
            "linux-7.3.4/max",
        ]);
        let inputs = PlanInputs {
            tolerances: &Tolerances::default(),
            consents: &Consents::default(),
        };
        let subject = |host: &Host| Subject::new_vm(host, host.default_features());
        for source in &sources {
            let subject = subject(source).expect("recorded");
            let row = plan_row(subject.clone(), &hosts, inputs, |_, _, planned| {
                planned.cell
            });
            for (host, cell) in hosts.hosts().iter().zip(row.cells) {
                let alone = plan_cell(&subject, host, inputs);
                assert_eq!(cell, alone, "{} at {}", source.name(), host.name());
            }
        }
    }

    #[test]
    fn two_releases_of_a_series_decide_alike_and_others_do_not() {
        let hosts = HostSet::new(recorded_hosts(&[
            "linux-6.12.95/neoverse-n1",
            "linux-6.12.107/neoverse-n1",
            "linux-7.3.4/neoverse-n1",
            "linux-6.12.107/max",
        ]));
        let subject = Subject::new_vm(&hosts.hosts()[0], Features::PMU).expect("recorded");
        let representatives = hosts.representatives(&subject.guest());
        assert_eq!(*representatives, [0, 0, 2, 3]);
    }
}
