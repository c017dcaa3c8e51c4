//! [`Cell`]: the result of planning one VM at one host.

use cpreg::destination::Destination;
use cpreg::destination::loader::Program;
use cpreg::plan::{
    Check, DecidedPart, Dependence, PlanOutcome, PossibleCheck, Premise, UnchangedLoad, Verdict,
};
use cpreg::severity::Severity;
use cpreg::shape::{ShapeDifference, ShapePart};
use cpreg::tolerance::Tolerances;

use crate::host::{GuestKey, Host, PossibleDestination};
use crate::inputs::PlanInputs;
use crate::subject::Subject;

/// Result of planning one VM at one host: the verdict of `cpreg check`, and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Verdict on the load.
    pub verdict: Verdict,
    /// Highest severity of the changes that the guest could notice although it loads.
    pub severity: Option<Severity>,
    /// Highest severity of the proposed changes, if consent to all of them resolves all blockers.
    pub resolving_consent: Option<Severity>,
    /// Parts that block the load, or lack a decision. Each occurs once.
    pub blockers: Vec<Blocker>,
    /// Reason of a verdict that is refused or unknown: that of the first blocker, or the fact that
    /// is not known.
    pub reason: Option<String>,
    /// Result of loading the VM without cpreg.
    pub without_cpreg: UnchangedLoad,
}

/// Cell with the check that it summarises.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlannedCell {
    /// Summary.
    pub cell: Cell,
    /// Check at the destination, or the strictest one of several possible destinations. `None` if
    /// the VM was planned nowhere, or if the verdict depends on a fact that is not known.
    pub check: Option<Check>,
    /// Differences of the machines that block the load.
    pub machine: Vec<ShapeDifference>,
}

impl From<Cell> for PlannedCell {
    fn from(cell: Cell) -> Self {
        Self {
            cell,
            check: None,
            machine: Vec::new(),
        }
    }
}

/// Part that blocks a load, or lacks a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// Part of the machine, in words.
    Machine(String),
    /// Register, extension or property of the hosts.
    Part(DecidedPart),
}

/// One character for a cell, in tables.
///
/// The symbols are those of docs/kvm-matrix.md, where they have the same meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Symbol {
    /// The VM loads unchanged.
    Loads,
    /// The VM loads after a conversion.
    Converts,
    /// The VM loads or converts, and its guest could notice a change of severity medium or more.
    Noticeable,
    /// `--accept low` resolves all blockers.
    AcceptLow,
    /// The proposed consents resolve all blockers.
    AcceptAll,
    /// The VM is refused.
    Refused,
    /// Not enough information to decide.
    Unknown,
}

impl Symbol {
    /// All symbols, best first.
    pub const ALL: [Self; 7] = [
        Self::Loads,
        Self::Converts,
        Self::Noticeable,
        Self::AcceptLow,
        Self::AcceptAll,
        Self::Refused,
        Self::Unknown,
    ];

    /// Returns the character.
    pub const fn character(self) -> char {
        match self {
            Self::Loads => '+',
            Self::Converts => 'c',
            Self::Noticeable => 'n',
            Self::AcceptLow => 'l',
            Self::AcceptAll => 'a',
            Self::Refused => '-',
            Self::Unknown => '?',
        }
    }

    /// Returns the meaning, in words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Loads => "loads unchanged",
            Self::Converts => "converts: loads after `cpreg convert`, or through the relay",
            Self::Noticeable => {
                "loads or converts; the guest could notice a change of severity medium or high"
            }
            Self::AcceptLow => "refused; `--accept low` resolves all blockers",
            Self::AcceptAll => "refused; the consents that `cpreg check` proposes resolve all",
            Self::Refused => "refused",
            Self::Unknown => "unknown: not enough information to decide",
        }
    }
}

impl Cell {
    /// Returns a cell that cannot be decided, with the reason.
    pub fn undecidable(reason: String) -> Self {
        Self {
            reason: Some(reason),
            ..Self::without_details(Verdict::Unknown)
        }
    }

    /// Returns a cell with a verdict and nothing else.
    pub(crate) const fn without_details(verdict: Verdict) -> Self {
        Self {
            verdict,
            severity: None,
            resolving_consent: None,
            blockers: Vec::new(),
            reason: None,
            without_cpreg: UnchangedLoad::Unknown,
        }
    }

    /// Returns the symbol of the cell.
    pub fn symbol(&self) -> Symbol {
        match (self.verdict, self.resolving_consent) {
            (Verdict::Loads | Verdict::Converts, _) if self.severity >= Some(Severity::Medium) => {
                Symbol::Noticeable
            }
            (Verdict::Loads, _) => Symbol::Loads,
            (Verdict::Converts, _) => Symbol::Converts,
            (Verdict::Unknown, _) => Symbol::Unknown,
            (Verdict::Refused, Some(Severity::Low)) => Symbol::AcceptLow,
            (Verdict::Refused, Some(_)) => Symbol::AcceptAll,
            (Verdict::Refused, None) => Symbol::Refused,
        }
    }
}

/// Plans a VM at a host. The verdict is that of `cpreg check`.
pub fn plan_cell(subject: &Subject, host: &Host, inputs: PlanInputs<'_>) -> Cell {
    plan_cell_in_detail(subject, host, inputs).cell
}

/// Plans a VM at a host, and returns the cell with its check.
pub fn plan_cell_in_detail(subject: &Subject, host: &Host, inputs: PlanInputs<'_>) -> PlannedCell {
    let guest = subject.guest();
    let mut planned = plan_possible(subject, host, &guest, inputs);
    let lacking = host.lacking_features(&guest);
    if planned.cell.verdict == Verdict::Refused && !lacking.is_empty() {
        let part = Blocker::Machine(format!("vCPU features {lacking}"));
        planned.cell.blockers.insert(0, part);
        planned.cell.reason = Some(format!("KVM of the host has no {lacking} for guests"));
    }
    planned
}

/// Plans a VM at each of the destinations that a host may be for it.
fn plan_possible(
    subject: &Subject,
    host: &Host,
    guest: &GuestKey,
    inputs: PlanInputs<'_>,
) -> PlannedCell {
    let possible = match host.possible(guest) {
        Ok(possible) => possible,
        Err(error) => return Cell::undecidable(error.to_string()).into(),
    };
    if possible.is_empty() {
        return cell_without_registers(subject, host).into();
    }
    let lacks_core_registers = possible
        .iter()
        .any(|it| it.destination.lacks_core_registers());
    if subject.program != Program::QEMU && host.is_profile() && lacks_core_registers {
        return Cell::undecidable(format!(
            "{} lists the registers of a QEMU, without those that {} holds too",
            host.name(),
            subject.name
        ))
        .into();
    }
    let mut checks: Vec<_> = possible
        .iter()
        .map(|possible| OneCheck::new(subject, possible, host.is_profile(), inputs))
        .collect();
    let with_premises: Vec<_> = possible
        .iter()
        .zip(&checks)
        .map(|(possible, check)| {
            let premise = Premise {
                has_feature: possible.has_feature,
                recorded_host: possible.recorded_host.as_deref(),
            };
            (premise, check.as_possible())
        })
        .collect();
    let is_single = possible.len() == 1 && host.is_kernel_enclosed().is_none();
    let dependence = if is_single {
        Dependence::default()
    } else {
        PossibleCheck::dependence(&with_premises, &subject.vm, host.is_kernel_enclosed())
    };
    let all: Vec<_> = with_premises.iter().map(|(_, check)| *check).collect();
    let index = PossibleCheck::strictest(&all);
    let Some(strictest) = checks.get(index) else {
        return Cell::undecidable("the VM was planned nowhere".to_owned()).into();
    };
    let unchanged_loads = possible
        .iter()
        .zip(&checks)
        .map(|(possible, check)| check.unchanged_load(&possible.destination));
    let without_cpreg = unchanged_loads
        .reduce(UnchangedLoad::or)
        .unwrap_or(UnchangedLoad::Unknown);
    let is_decisive = dependence.on_feature || dependence.on_kernel;
    if is_decisive && !strictest.is_blocked_by_machine() {
        let cell = Cell {
            without_cpreg,
            ..Cell::undecidable(open_fact(subject, host, dependence))
        };
        return cell.into();
    }
    let changes = checks
        .iter()
        .flat_map(|check| &check.check.plan.visible_changes);
    let cell = Cell {
        severity: match strictest.verdict() {
            Verdict::Loads | Verdict::Converts => changes.map(|change| change.severity).max(),
            Verdict::Refused | Verdict::Unknown => None,
        },
        without_cpreg,
        ..strictest.cell(subject, inputs.tolerances)
    };
    let OneCheck { check, machine } = checks.swap_remove(index);
    PlannedCell {
        cell,
        check: Some(check),
        machine,
    }
}

/// Returns the cell of a host of which only the accelerator is known.
fn cell_without_registers(subject: &Subject, host: &Host) -> Cell {
    let of_vm = subject.accelerator;
    if let (Some(of_vm), Some(of_host)) = (of_vm, host.accelerator())
        && of_vm != of_host
    {
        return Cell {
            verdict: Verdict::Refused,
            blockers: vec![Blocker::Machine(ShapePart::Accelerator.to_string())],
            reason: Some(format!(
                "the VM ran under {of_vm}, and the host has {of_host}"
            )),
            without_cpreg: UnchangedLoad::Fails,
            ..Cell::undecidable(String::new())
        };
    }
    Cell::undecidable(format!("the registers of {} are not known", host.name()))
}

/// Returns the fact on which the verdict depends and that is not known.
fn open_fact(subject: &Subject, host: &Host, dependence: Dependence) -> String {
    if dependence.on_kernel {
        return format!("the kernel of {} was not recorded", host.name());
    }
    let feature = subject.features.undetermined;
    format!("the registers of the VM do not show whether its guest has {feature}")
}

/// Check of a VM at one possible destination.
struct OneCheck {
    check: Check,
    /// Differences of the machines that block the load.
    machine: Vec<ShapeDifference>,
}

impl OneCheck {
    /// Checks a VM. Only a profile `has_machine` of its own; at any other host the VM is assumed to
    /// be started as at the source.
    fn new(
        subject: &Subject,
        possible: &PossibleDestination,
        has_machine: bool,
        inputs: PlanInputs<'_>,
    ) -> Self {
        let destination = &possible.destination;
        let accelerator = subject.accelerator;
        let shape = subject.shape.as_ref();
        let mut machine = destination.shape_differences(accelerator, shape.filter(|_| has_machine));
        if !has_machine {
            let machine_type = shape.and_then(|shape| shape.machine.as_deref());
            machine.extend(destination.missing_machine_type(machine_type));
        }
        machine.retain(|difference| difference.blocks);
        let check = if destination.accelerator_difference(accelerator).is_some() {
            Check::incomparable()
        } else {
            Check::new(&subject.vm, destination, inputs.tolerances, inputs.consents)
        };
        Self { check, machine }
    }

    const fn is_blocked_by_machine(&self) -> bool {
        !self.machine.is_empty()
    }

    const fn verdict(&self) -> Verdict {
        if self.is_blocked_by_machine() {
            Verdict::Refused
        } else {
            self.check.verdict
        }
    }

    fn unchanged_load(&self, destination: &Destination) -> UnchangedLoad {
        if self.is_blocked_by_machine() {
            UnchangedLoad::Fails
        } else {
            self.check.unchanged_load(destination)
        }
    }

    const fn as_possible(&self) -> PossibleCheck<'_> {
        PossibleCheck {
            verdict: self.verdict(),
            plan: &self.check.plan,
        }
    }

    fn cell(&self, subject: &Subject, tolerances: &Tolerances) -> Cell {
        let verdict = self.verdict();
        let plan = &self.check.plan;
        let (blockers, reason) = match verdict {
            Verdict::Loads | Verdict::Converts => (Vec::new(), None),
            Verdict::Refused | Verdict::Unknown => self.blockers(subject, tolerances),
        };
        let proposed = plan.proposed_adjustments.iter();
        let is_resolved = verdict == Verdict::Refused
            && !self.is_blocked_by_machine()
            && plan.outcome_with_proposed == PlanOutcome::Ready;
        Cell {
            verdict,
            severity: None,
            resolving_consent: proposed
                .map(|adjustment| adjustment.severity)
                .max()
                .filter(|_| is_resolved),
            blockers,
            reason,
            without_cpreg: UnchangedLoad::Unknown,
        }
    }

    /// Returns the blockers of a VM that is refused or undecided, and the reason of the first.
    fn blockers(
        &self,
        subject: &Subject,
        tolerances: &Tolerances,
    ) -> (Vec<Blocker>, Option<String>) {
        if let Some(first) = self.machine.first() {
            let parts = self.machine.iter();
            let parts = parts.map(|difference| Blocker::Machine(difference.part.to_string()));
            return (parts.collect(), Some(first.describe()));
        }
        let is_unknown = self.check.verdict == Verdict::Unknown;
        let mut blockers = self.check.plan.blockers(tolerances);
        blockers.retain(|blocker| blocker.is_unknown == is_unknown);
        let reason = blockers.first().map(|blocker| blocker.reason.clone());
        let blockers = blockers.into_iter().map(|it| Blocker::Part(it.part));
        let blockers: Vec<_> = blockers.collect();
        if blockers.is_empty() && !subject.vm.vcpus.is_empty() {
            let reason =
                "the loader at the destination is not known, and loaders differ (--loader)";
            return (blockers, Some(reason.to_owned()));
        }
        (blockers, reason)
    }
}
