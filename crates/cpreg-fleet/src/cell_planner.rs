//! [`CellPlanner`]: the cells of many VMs, of which those that load alike are planned once.
//!
//! The VMs of a fleet differ in most values and agree on those that decide. The planner keeps the
//! cells of each [`DecisiveState`] at the recorded hosts.

use std::sync::Arc;

use cpreg::destination::Accelerator;
use cpreg::plan::DecisiveState;
use cpreg::tolerance::Tolerances;
use rayon::prelude::*;

use crate::cache::Cache;
use crate::cell::{Cell, plan_cell};
use crate::host::{GuestKey, Host};
use crate::host_set::HostSet;
use crate::inputs::PlanInputs;
use crate::pairs::Row;
use crate::subject::Subject;

/// Maximum number of states whose cells are kept.
const MAX_KEPT_STATES: usize = 256;
/// Maximum number of cells that are kept. A cell of a refused VM takes half a kibibyte.
const MAX_KEPT_CELLS: usize = 1 << 16;
/// Maximum number of different vCPUs of a state whose cells are kept. A vCPU takes 12 KiB, and the
/// vCPUs of a VM usually decide alike.
const MAX_DISTINCT_VCPUS: usize = 16;

/// Plans VMs at all hosts of a set.
///
/// ```
/// use cpreg::destination::Features;
/// use cpreg::plan::Consents;
/// use cpreg::tolerance::Tolerances;
/// use cpreg_fleet::{CellPlanner, Host, HostSet, PlanInputs, Subject};
///
/// # fn main() -> Result<(), cpreg_hosts::Error> {
/// let index = cpreg_hosts::HostIndex::built_in()?;
/// let host = index.resolve("linux-6.12.107/n1")?.host;
/// let hosts = HostSet::new(vec![Host::recorded(host.name(), host.record())]);
/// let inputs = PlanInputs {
///     tolerances: &Tolerances::default(),
///     consents: &Consents::default(),
/// };
/// let planner = CellPlanner::new(&hosts, inputs);
/// let row = planner.plan_row(Subject::new_vm(&hosts.hosts()[0], Features::PMU)?);
/// assert!(row.cells[0].verdict.can_load());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CellPlanner<'a> {
    hosts: &'a HostSet,
    inputs: PlanInputs<'a>,
    /// Cells at each host. `None` for a host that plans each VM.
    known: Cache<VmKey, Vec<Option<Cell>>>,
}

/// Properties of a VM on which its cells at recorded hosts depend.
#[derive(Debug, PartialEq, Eq, Hash)]
struct VmKey {
    guest: GuestKey,
    accelerator: Option<Accelerator>,
    state: DecisiveState,
}

impl VmKey {
    fn new(subject: &Subject, inputs: PlanInputs<'_>) -> Self {
        let PlanInputs {
            tolerances,
            consents,
        } = inputs;
        Self {
            guest: subject.guest(),
            accelerator: subject.accelerator,
            state: DecisiveState::new(&subject.vm, tolerances, consents),
        }
    }
}

impl<'a> CellPlanner<'a> {
    /// Returns a planner for these hosts.
    pub fn new(hosts: &'a HostSet, inputs: PlanInputs<'a>) -> Self {
        Self {
            hosts,
            inputs,
            known: Cache::new(max_kept_states(hosts.hosts().len())),
        }
    }

    /// Plans a VM at every host.
    ///
    /// Hosts that decide alike have one plan, and so have VMs with equal decisive states.
    pub fn plan_row(&self, subject: Subject) -> Row<Cell> {
        let key = VmKey::new(&subject, self.inputs);
        let hosts = self.hosts.hosts();
        let cells = match self.known.get(&key) {
            Some(known) => {
                let numbered = hosts.par_iter().zip(known.par_iter());
                let cells = numbered.map(|(host, cell)| {
                    let plan = || plan_cell(&subject, host, self.inputs);
                    cell.clone().unwrap_or_else(plan)
                });
                cells.collect()
            }
            None => self.plan_new(&subject, key),
        };
        Row::new(subject, cells)
    }

    /// Plans a VM with another state than any earlier one, and keeps its cells.
    fn plan_new(&self, subject: &Subject, key: VmKey) -> Vec<Cell> {
        let cells = self
            .hosts
            .plan_each(&key.guest, |host| plan_cell(subject, host, self.inputs));
        if key.state.distinct_vcpu_count() > MAX_DISTINCT_VCPUS {
            return cells;
        }
        let pairs = self.hosts.hosts().iter().zip(&cells);
        let kept = pairs.map(|(host, cell)| {
            let is_shared = is_sufficient_at(host, &key.guest, self.inputs.tolerances);
            is_shared.then(|| cell.clone())
        });
        let kept = Arc::new(kept.collect());
        self.known.insert(key, kept);
        cells
    }
}

/// Returns the maximum number of states whose cells at this number of hosts are kept.
fn max_kept_states(hosts: usize) -> usize {
    (MAX_KEPT_CELLS / hosts.max(1)).clamp(1, MAX_KEPT_STATES)
}

/// Returns `true` if the cells of VMs with equal keys are equal at a host.
///
/// A profile also compares the machines of both sides, and its reasons can name the VM.
fn is_sufficient_at(host: &Host, guest: &GuestKey, tolerances: &Tolerances) -> bool {
    host.record().is_some()
        && host.possible(guest).is_ok_and(|possible| {
            let mut destinations = possible.iter().map(|it| &it.destination);
            destinations.all(|it| DecisiveState::is_sufficient_at(it, tolerances))
        })
}

#[cfg(test)]
mod tests {
    use cpreg::destination::Loader;
    use cpreg::plan::Consents;
    use cpreg::register::{RegisterId, Value};
    use cpreg::tolerance::condition::RESET_POISON;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::host::testing::recorded_hosts;

    const HOSTS: [&str; 8] = [
        "linux-5.10.223/neoverse-n1",
        "linux-6.1.176/neoverse-n1",
        "linux-6.12.107/neoverse-n1",
        "linux-7.3.4/neoverse-n1",
        "linux-5.10.223/max",
        "linux-6.1.176/max",
        "linux-6.12.107/max",
        "linux-7.3.4/max",
    ];

    /// Returns the subject with a value in place of that of a register, by their indexes.
    fn changed(subject: &Subject, (vcpu, register): (Index, Index), value: u64) -> Subject {
        let mut changed = subject.clone();
        let vcpu = vcpu.index(changed.vm.vcpus.len());
        let registers = &mut changed.vm.vcpus[vcpu].registers;
        let place = register.index(registers.len());
        let id = registers.iter().nth(place).map(|(id, _)| id);
        registers.insert(id.expect("a place in the list"), Value::U64(value));
        changed
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// VMs that share cells have the cells that each of them has alone.
        #[test]
        fn shared_cells_are_those_of_each_vm(
            source in 0..HOSTS.len(),
            settings in any::<bool>(),
            changes in proptest::collection::vec(
                (any::<(Index, Index)>(), prop_oneof![any::<u64>(), Just(0), Just(1)]),
                1..200,
            ),
        ) {
            let hosts = recorded_hosts(&HOSTS);
            let hosts = hosts.iter().map(|host| host.with_loader(Some(Loader::qemu(10, 0))));
            let hosts = HostSet::new(hosts.collect());
            let inputs = PlanInputs {
                tolerances: &Tolerances::default(),
                consents: &Consents::default(),
            };
            let source = &hosts.hosts()[source];
            let mut one = Subject::new_vm(source, source.default_features()).expect("recorded");
            if settings {
                // Linux with 4 KiB pages.
                let linux = [
                    (RegisterId::SCTLR_EL1, 0x34f4_d91d),
                    (RegisterId::TCR_EL1, 0x1b5_b510_3510),
                ];
                for vcpu in &mut one.vm.vcpus {
                    for (id, value) in linux {
                        vcpu.registers.insert(id, Value::U64(value));
                    }
                }
            }
            let state = |subject: &Subject| {
                DecisiveState::new(&subject.vm, inputs.tolerances, inputs.consents)
            };
            let mut other = one.clone();
            for (place, value) in changes {
                let next = changed(&other, place, value);
                if state(&next) == state(&one) {
                    other = next;
                }
            }
            for host in hosts.hosts() {
                prop_assert!(is_sufficient_at(host, &one.guest(), inputs.tolerances));
            }
            let planner = CellPlanner::new(&hosts, inputs);
            planner.plan_row(one);
            let cells = planner.plan_row(other.clone()).cells;
            prop_assert_eq!(planner.known.len(), 1);
            for (host, cell) in hosts.hosts().iter().zip(cells) {
                prop_assert_eq!(cell, plan_cell(&other, host, inputs), "{}", host.name());
            }
        }
    }

    /// Values at which a rule could begin to read a register that does not count.
    #[test]
    fn values_that_do_not_count_change_no_cell() {
        let hosts = HostSet::new(recorded_hosts(&HOSTS));
        let inputs = PlanInputs {
            tolerances: &Tolerances::default(),
            consents: &Consents::default(),
        };
        let state =
            |subject: &Subject| DecisiveState::new(&subject.vm, inputs.tolerances, inputs.consents);
        for source in hosts.hosts() {
            let one = Subject::new_vm(source, source.default_features()).expect("recorded");
            let cells = CellPlanner::new(&hosts, inputs).plan_row(one.clone()).cells;
            let registers = one.vm.vcpus[0].registers.iter();
            let ids: Vec<_> = registers.map(|(id, _)| id).collect();
            for value in [0, 1, RESET_POISON, u64::MAX] {
                let mut other = one.clone();
                let mut changed = 0;
                for id in &ids {
                    let mut next = other.clone();
                    next.vm.vcpus[0].registers.insert(*id, Value::U64(value));
                    if state(&next) == state(&one) {
                        changed += 1;
                        other = next;
                    }
                }
                assert!(changed > 30, "{changed}");
                for (host, cell) in hosts.hosts().iter().zip(&cells) {
                    let alone = plan_cell(&other, host, inputs);
                    let pair = format!("{} at {}", source.name(), host.name());
                    assert_eq!(*cell, alone, "{pair}: {value:#x}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_kept_cells_is_bounded() {
        let recorded = recorded_hosts(&HOSTS[..1]).remove(0);
        let mut subject = Subject::new_vm(&recorded, recorded.default_features()).expect("known");
        let hosts = HostSet::new(vec![recorded]);
        let inputs = PlanInputs {
            tolerances: &Tolerances::default(),
            consents: &Consents::default(),
        };
        let planner = CellPlanner::new(&hosts, inputs);
        assert_eq!(max_kept_states(1), MAX_KEPT_STATES);
        let set = |subject: &mut Subject, vcpu: usize, value| {
            let registers = &mut subject.vm.vcpus[vcpu].registers;
            registers.insert(RegisterId::ID_AA64AFR0_EL1, Value::U64(value));
        };
        subject.vm.vcpus.truncate(1);
        for value in 0..=MAX_KEPT_STATES {
            set(&mut subject, 0, value as u64);
            planner.plan_row(subject.clone());
        }
        assert_eq!(planner.known.len(), 1);
        let vcpu = subject.vm.vcpus[0].clone();
        subject.vm.vcpus = vec![vcpu; MAX_DISTINCT_VCPUS + 1];
        for number in 0..=MAX_DISTINCT_VCPUS {
            set(&mut subject, number, number as u64);
        }
        planner.plan_row(subject);
        assert_eq!(planner.known.len(), 1);
    }

    #[test]
    fn a_profile_is_planned_for_each_vm() {
        let recorded = recorded_hosts(&HOSTS[2..3]).remove(0);
        let features = recorded.default_features();
        let destination = recorded.destination_for_new_vm(features).expect("known");
        let profile = Host::profile("a host".to_owned(), destination);
        let subject = Subject::new_vm(&recorded, features).expect("recorded");
        let tolerances = Tolerances::default();
        assert!(is_sufficient_at(&recorded, &subject.guest(), &tolerances));
        assert!(!is_sufficient_at(&profile, &subject.guest(), &tolerances));
        let hosts = HostSet::new(vec![recorded, profile]);
        let inputs = PlanInputs {
            tolerances: &Tolerances::default(),
            consents: &Consents::default(),
        };
        let planner = CellPlanner::new(&hosts, inputs);
        let rows = [(); 2].map(|()| planner.plan_row(subject.clone()));
        assert_eq!(rows[0], rows[1]);
        let key = VmKey::new(&subject, inputs);
        let kept = planner.known.get(&key).expect("kept");
        assert!(kept[0].is_some() && kept[1].is_none());
    }
}
