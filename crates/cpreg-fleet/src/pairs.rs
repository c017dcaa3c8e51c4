//! [`plan_pairs`], [`plan_row`], [`plan_rows`]: plans of many pairs of a VM and a destination, on
//! all cores.

use cpreg::destination::Destination;
use cpreg::plan::Check;
use cpreg::vm::Vm;
use rayon::prelude::*;

use crate::cell::{PlannedCell, plan_cell_in_detail};
use crate::host::Host;
use crate::host_set::HostSet;
use crate::inputs::PlanInputs;
use crate::subject::Subject;

/// Plans every VM at every destination, and returns what `inspect` makes of each check.
///
/// The result has one row for each VM, with one element for each destination. `inspect` gets the
/// indexes of the VM and of the destination. If VM and destination with the same index belong to
/// the same host, the result holds every ordered pair of hosts, and each host with itself.
///
/// ```
/// use cpreg::destination::Features;
/// use cpreg::plan::{Consents, Verdict};
/// use cpreg::tolerance::Tolerances;
/// use cpreg_fleet::{Host, PlanInputs, plan_pairs};
///
/// # fn main() -> Result<(), cpreg_hosts::Error> {
/// let index = cpreg_hosts::HostIndex::built_in()?;
/// let mut vms = Vec::new();
/// let mut destinations = Vec::new();
/// for name in ["linux-6.12.107/n1", "linux-7.3.4/n1"] {
///     let host = index.resolve(name)?.host;
///     let host = Host::recorded(host.name(), host.record());
///     vms.push(host.new_vm(Features::PMU)?);
///     destinations.push(host.destination_for_new_vm(Features::PMU)?);
/// }
/// let inputs = PlanInputs {
///     tolerances: &Tolerances::default(),
///     consents: &Consents::default(),
/// };
/// let verdicts = plan_pairs(&vms, &destinations, inputs, |_, _, check| check.verdict);
/// assert_ne!(verdicts[0][1], Verdict::Refused, "a newer kernel takes the VM");
/// # Ok(())
/// # }
/// ```
pub fn plan_pairs<T: Send>(
    vms: &[Vm],
    destinations: &[Destination],
    inputs: PlanInputs<'_>,
    inspect: impl Fn(usize, usize, Check) -> T + Sync,
) -> Vec<Vec<T>> {
    let rows = vms.par_iter().enumerate().map(|(vm_index, vm)| {
        let cells = destinations.iter().enumerate().map(|(index, destination)| {
            let check = Check::new(vm, destination, inputs.tolerances, inputs.consents);
            inspect(vm_index, index, check)
        });
        cells.collect()
    });
    rows.collect()
}

/// Row of a matrix: one VM at all hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row<T> {
    /// Name of the VM.
    pub name: String,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// `true` for a new VM of a host, of which no file exists.
    pub is_new: bool,
    /// `true` if the VM's file decides which program loads it, whatever a host has.
    pub has_own_loader: bool,
    /// Cells in the order of the hosts.
    pub cells: Vec<T>,
}

impl<T> Row<T> {
    /// Returns the row of a VM with these cells.
    pub(crate) fn new(subject: Subject, cells: Vec<T>) -> Self {
        Self {
            vcpus: subject.vm.vcpus.len(),
            is_new: subject.shape.is_none(),
            has_own_loader: subject.loader.is_some(),
            name: subject.name,
            cells,
        }
    }

    /// Returns the row with other contents of its cells.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Row<U> {
        Row {
            name: self.name,
            vcpus: self.vcpus,
            is_new: self.is_new,
            has_own_loader: self.has_own_loader,
            cells: self.cells.into_iter().map(convert).collect(),
        }
    }
}

/// Plans a VM at every host, and returns what `inspect` makes of each cell.
///
/// Hosts that decide alike have one plan, and `inspect` gets the first of them.
pub fn plan_row<T: Clone + Send + Sync>(
    subject: Subject,
    hosts: &HostSet,
    inputs: PlanInputs<'_>,
    inspect: impl Fn(&Subject, &Host, PlannedCell) -> T + Sync,
) -> Row<T> {
    let cells = hosts.plan_each(&subject.guest(), |host| {
        let planned = plan_cell_in_detail(&subject, host, inputs);
        inspect(&subject, host, planned)
    });
    Row::new(subject, cells)
}

/// Returns the row that `plan` returns for the VM that `open` returns for each item. Uses all
/// cores.
///
/// The rows are in the order of the items. Only as many VMs as there are cores are in memory at a
/// time. `plan` is [`plan_row`] or [`CellPlanner::plan_row`](crate::CellPlanner::plan_row).
pub fn plan_rows<I: Sync, T: Send, E: Send>(
    items: &[I],
    open: impl Fn(&I) -> Result<Subject, E> + Sync,
    plan: impl Fn(Subject) -> Row<T> + Sync,
) -> Vec<Result<Row<T>, E>> {
    let rows = items.par_iter().map(|item| open(item).map(&plan));
    rows.collect()
}

#[cfg(test)]
mod tests {
    use cpreg::destination::Features;
    use cpreg::plan::{Consents, Verdict};
    use cpreg::tolerance::Tolerances;

    use super::*;
    use crate::host::testing::recorded_hosts;

    #[test]
    fn every_ordered_pair_has_the_verdict_of_its_own_check() {
        let names = [
            "linux-5.10.223/neoverse-n1",
            "linux-6.1.176/neoverse-n1",
            "linux-6.12.107/neoverse-n1",
            "linux-7.3.4/neoverse-n1",
        ];
        let hosts = recorded_hosts(&names);
        let vms = hosts.iter().map(|host| host.new_vm(Features::PMU));
        let vms: Vec<_> = vms.collect::<Result<_, _>>().expect("recorded");
        let destinations = hosts
            .iter()
            .map(|host| host.destination_for_new_vm(Features::PMU));
        let destinations: Vec<_> = destinations.collect::<Result<_, _>>().expect("recorded");
        let inputs = PlanInputs {
            tolerances: &Tolerances::default(),
            consents: &Consents::default(),
        };
        let rows = plan_pairs(&vms, &destinations, inputs, |vm, destination, check| {
            (vm, destination, check.verdict)
        });
        for (source, row) in rows.iter().enumerate() {
            for (index, cell) in row.iter().enumerate() {
                let check = Check::new(
                    &vms[source],
                    &destinations[index],
                    inputs.tolerances,
                    inputs.consents,
                );
                assert_eq!(*cell, (source, index, check.verdict));
            }
            let own = row[source].2;
            assert_ne!(own, Verdict::Refused, "{} takes its own VMs", names[source]);
        }
        // A newer kernel lists registers that an older one lacks: the relation has a direction.
        assert_ne!(rows[2][0].2, rows[0][2].2);
    }
}
