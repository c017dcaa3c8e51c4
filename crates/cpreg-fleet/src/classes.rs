//! [`HostClasses`]: hosts that are the same for what decides, and the classes that take their VMs.

use std::collections::BTreeMap;

use cpreg::destination::Features;
use rayon::prelude::*;

use crate::cell::{Cell, plan_cell};
use crate::host::Host;
use crate::inputs::PlanInputs;
use crate::key::{HostKey, KeyContent};
use crate::subject::Subject;

/// Hosts with one key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostClass {
    /// Key of the hosts.
    pub key: HostKey,
    /// Everything about these hosts that decides.
    pub content: KeyContent,
    /// Indexes of the hosts, ascending.
    pub hosts: Vec<usize>,
}

/// Classes of hosts for guests with some features.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostClasses {
    /// Features of the guests.
    pub features: Features,
    /// Classes in the order of their first hosts.
    pub classes: Vec<HostClass>,
    /// Indexes of the hosts that were not recorded for guests with these features.
    pub not_recorded: Vec<usize>,
    /// One row for each class: its new VMs at each class.
    ///
    /// The relation has a direction, and is not transitive: that B takes the VMs of A, and C those
    /// of B, does not tell that C takes those of A.
    pub takes: Vec<Vec<Cell>>,
}

impl HostClasses {
    /// Returns the classes of hosts for guests with these features.
    pub fn new(hosts: &[Host], features: Features, inputs: PlanInputs<'_>) -> Self {
        let (classes, not_recorded) = Self::group(hosts, features);
        Self {
            features,
            takes: Self::plan(hosts, &classes, features, inputs),
            classes,
            not_recorded,
        }
    }

    /// Groups hosts by key. Returns the classes, and the hosts that were not recorded for guests
    /// with these features.
    fn group(hosts: &[Host], features: Features) -> (Vec<HostClass>, Vec<usize>) {
        let contents = hosts.par_iter().map(|host| KeyContent::new(host, features));
        let contents: Vec<_> = contents.collect();
        let mut classes: Vec<HostClass> = Vec::new();
        let mut by_key: BTreeMap<HostKey, usize> = BTreeMap::new();
        let mut not_recorded = Vec::new();
        for (index, content) in contents.into_iter().enumerate() {
            let Ok(content) = content else {
                not_recorded.push(index);
                continue;
            };
            let key = content.key();
            if let Some(class) = by_key.get(&key).and_then(|class| classes.get_mut(*class)) {
                class.hosts.push(index);
                continue;
            }
            by_key.insert(key.clone(), classes.len());
            classes.push(HostClass {
                key,
                content,
                hosts: vec![index],
            });
        }
        (classes, not_recorded)
    }

    /// Plans a new VM of each class at each class. Any host of a class stands for it.
    fn plan(
        hosts: &[Host],
        classes: &[HostClass],
        features: Features,
        inputs: PlanInputs<'_>,
    ) -> Vec<Vec<Cell>> {
        let examples: Vec<_> = classes
            .iter()
            .filter_map(|class| hosts.get(*class.hosts.first()?))
            .collect();
        let takes = examples.par_iter().map(|source| {
            let subject = Subject::new_vm(source, features);
            let cells = examples.iter().map(|destination| match &subject {
                Ok(subject) => plan_cell(subject, destination, inputs),
                Err(error) => Cell::undecidable(error.to_string()),
            });
            cells.collect()
        });
        takes.collect()
    }
}

#[cfg(test)]
mod tests {
    use cpreg::destination::loader::Program;
    use cpreg::plan::Consents;
    use cpreg::tolerance::Tolerances;
    use cpreg_hosts::HostIndex;

    use super::*;

    fn all_hosts() -> Vec<Host> {
        let index = HostIndex::built_in().expect("the checked-in index is valid");
        let hosts = index.hosts().into_iter();
        hosts
            .map(|host| Host::recorded(host.name(), host.record()))
            .collect()
    }

    #[test]
    fn every_host_is_in_one_class_and_classes_differ_in_a_named_part() {
        let hosts = all_hosts();
        let (classes, not_recorded) = HostClasses::group(&hosts, Features::PMU);
        let count: usize = classes.iter().map(|class| class.hosts.len()).sum();
        assert_eq!(count + not_recorded.len(), hosts.len());
        for class in &classes {
            let registers = |index: &usize| {
                let destination = hosts[*index].destination(Features::PMU, Program::CPREG);
                destination.expect("recorded").vcpus[0].registers().to_vec()
            };
            let first = registers(&class.hosts[0]);
            for host in &class.hosts {
                assert_eq!(registers(host), first, "{}", hosts[*host].name());
            }
        }
        for (index, one) in classes.iter().enumerate() {
            for other in &classes[index + 1..] {
                assert!(!one.content.differences(&other.content).is_empty());
            }
        }
    }

    #[test]
    fn hosts_of_a_class_take_the_same_vms() {
        let tolerances = Tolerances::default();
        let consents = Consents::default();
        let inputs = PlanInputs {
            tolerances: &tolerances,
            consents: &consents,
        };
        let hosts = all_hosts();
        let (classes, _) = HostClasses::group(&hosts, Features::PMU);
        let sources = classes
            .iter()
            .step_by(9)
            .map(|class| Subject::new_vm(&hosts[class.hosts[0]], Features::PMU).expect("recorded"));
        let sources: Vec<_> = sources.collect();
        for class in classes.iter().filter(|class| class.hosts.len() > 1) {
            for source in &sources {
                let cell = |index: &usize| {
                    let cell = plan_cell(source, &hosts[*index], inputs);
                    (
                        cell.verdict,
                        cell.severity,
                        cell.resolving_consent,
                        cell.blockers,
                    )
                };
                let first = cell(&class.hosts[0]);
                for host in &class.hosts[1..] {
                    assert_eq!(
                        cell(host),
                        first,
                        "{}: {}",
                        source.name,
                        hosts[*host].name()
                    );
                }
            }
        }
    }

    #[test]
    fn the_relation_of_classes_has_a_direction() {
        let tolerances = Tolerances::default();
        let consents = Consents::default();
        let inputs = PlanInputs {
            tolerances: &tolerances,
            consents: &consents,
        };
        let hosts = crate::host::testing::recorded_hosts(&[
            "linux-6.12.95/neoverse-n1",
            "linux-7.3.4/neoverse-n1",
            "linux-6.12.107/neoverse-n1",
        ]);
        let classes = HostClasses::new(&hosts, Features::PMU, inputs);
        let members: Vec<_> = classes.classes.iter().map(|class| &*class.hosts).collect();
        assert_eq!(members, [&[0, 2][..], &[1]]);
        let symbols: Vec<String> = classes
            .takes
            .iter()
            .map(|row| row.iter().map(|cell| cell.symbol().character()).collect())
            .collect();
        assert_eq!(symbols, ["+c", "l+"]);
    }
}
