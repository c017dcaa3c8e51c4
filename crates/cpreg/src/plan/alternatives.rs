//! [`PossibleCheck`]: one of several checks of a VM, at destinations that are all possible.
//!
//! A source may leave open if its guest has a feature, such as a PMU. The feature decides which
//! registers the destination lists. The verdict is known only if it holds with and without.
//!
//! Or the kernel of the destination was not recorded. Its recorded neighbours only enclose it, so
//! equal results are not enough: Linux 5.10 accepts a value of ID_AA64DFR0_EL1 because it is its
//! own, Linux 6.12 because the field is writable, and Linux 6.1 refuses it. The verdict is known
//! if the results also [have the same basis](PossibleCheck::encloses_result).

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::{Action, Check, Decision, ExtensionAction, Plan, PlanOutcome, Verdict};
use crate::destination::Confidence;
use crate::destination::kernel::RegisterKind;
use crate::hardware::HardwareFact;
use crate::register::{Field, RegisterId, Value, differing_fields};
use crate::severity::Severity;
use crate::vm::{Content, Vm};

/// Check of a VM at one of its possible destinations.
#[derive(Clone, Copy, Debug)]
pub struct PossibleCheck<'p> {
    /// Verdict of the check.
    pub verdict: Verdict,
    /// Plan of the check.
    pub plan: &'p Plan,
}

/// Part of a VM on which the plans of possible destinations differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanDifference {
    /// Register, extension or property of the hosts.
    pub part: DecidedPart,
    /// Name of each plan's action, in the order of the checks; `None` if the plan has no decision.
    pub actions: Vec<Option<&'static str>>,
    /// Each destination's own value of a register, if known.
    pub values: Vec<Option<Value>>,
    /// Fields in which the VM's value differs from that of a destination that does not take it.
    pub fields: Vec<Field>,
}

/// Part of a VM that a plan decides about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DecidedPart {
    /// Property of the hosts that no register list holds.
    Hardware(HardwareFact),
    /// Register.
    Register(RegisterId),
    /// Extension, by name.
    Extension(Cow<'static, str>),
}

impl<'p> From<&'p Check> for PossibleCheck<'p> {
    fn from(check: &'p Check) -> Self {
        Self {
            verdict: check.verdict,
            plan: &check.plan,
        }
    }
}

impl PossibleCheck<'_> {
    /// Returns `true` if both checks of `vm` have the same result: the same verdict and, if the VM
    /// is to be loaded, the same loaded state.
    pub fn has_same_result(self, other: Self, vm: &Vm) -> bool {
        self.verdict == other.verdict
            && match self.verdict {
                Verdict::Refused | Verdict::Unknown => true,
                Verdict::Loads | Verdict::Converts => {
                    self.plan.apply(vm).is_same_state(&other.plan.apply(vm))
                }
            }
    }

    /// Returns `true` if both checks of `vm`, at kernels around an unrecorded one, show the result
    /// of that kernel: they have the same result on the same basis.
    ///
    /// A VM that loads depends on each register whose value KVM compares with its own: that value
    /// must be the same at both destinations. PSCI versions and hypercall services are exempt,
    /// because kernels only add them. A VM that is refused needs one blocker with the same value
    /// at both destinations.
    pub fn encloses_result(self, other: Self, vm: &Vm) -> bool {
        if !self.has_same_result(other, vm) {
            return false;
        }
        let [one, two] = [self, other].map(|check| check.plan.decided_parts());
        let mut pairs = one
            .iter()
            .filter_map(|(part, one)| Some((part, one, two.get(part)?)));
        match self.verdict {
            Verdict::Unknown => true,
            Verdict::Loads | Verdict::Converts => {
                pairs.all(|(part, one, two)| one.has_same_basis(two, part))
            }
            Verdict::Refused => {
                let is_refused =
                    |content: &DecidedContent<'_>| content.outcome() == PlanOutcome::Refused;
                // Without decisions, something that precedes registers blocks the load.
                one.is_empty()
                    || pairs.any(|(_, one, two)| {
                        is_refused(one)
                            && is_refused(two)
                            && (one.is_listed, one.value) == (two.is_listed, two.value)
                    })
            }
        }
    }

    /// Returns the index of the strictest check, or 0 if there is no check.
    pub fn strictest(checks: &[Self]) -> usize {
        let indexes = 1..checks.len();
        indexes.fold(0, |strictest, index| {
            if checks[index].is_stricter_than(checks[strictest]) {
                index
            } else {
                strictest
            }
        })
    }

    /// Returns `true` if this check blocks more than `other` or, with the same blockers, changes
    /// more for the guest.
    pub(crate) fn is_stricter_than(self, other: Self) -> bool {
        self.strictness() > other.strictness()
    }

    fn strictness(self) -> impl Ord {
        let rank = |outcome| match outcome {
            PlanOutcome::Ready => 0,
            PlanOutcome::Unknown => 1,
            PlanOutcome::Refused => 2,
        };
        let changes = &self.plan.visible_changes;
        let severity: Option<Severity> = changes.iter().map(|change| change.severity).max();
        (
            rank(self.plan.outcome()),
            rank(self.plan.outcome_with_proposed),
            self.plan.count_with(PlanOutcome::Refused),
            self.plan.count_with(PlanOutcome::Unknown),
            severity,
            changes.len(),
        )
    }

    /// Returns the parts on which two plans differ: in the outcome or in the loaded content. If
    /// there are none, returns those with another basis of the same decision or, failing that, the
    /// registers that only some destinations list.
    ///
    /// `is_pair` selects the pairs of checks to compare, by index.
    pub fn differences(
        checks: &[Self],
        is_pair: impl Fn(usize, usize) -> bool,
    ) -> Vec<PlanDifference> {
        let indexes = || 0..checks.len();
        let pairs = indexes().flat_map(|one| indexes().skip(one + 1).map(move |two| (one, two)));
        let pairs: Vec<_> = pairs.filter(|(one, two)| is_pair(*one, *two)).collect();
        let plans: Vec<_> = checks
            .iter()
            .map(|check| check.plan.decided_parts())
            .collect();
        let parts: BTreeSet<_> = plans.iter().flat_map(BTreeMap::keys).cloned().collect();
        let select =
            |is_equal: fn(&DecidedPart, &DecidedContent<'_>, &DecidedContent<'_>) -> bool| {
                let nothing = DecidedContent::default();
                let differences = parts.iter().filter_map(|part| {
                    let contents: Vec<_> = plans
                        .iter()
                        .map(|plan| plan.get(part).unwrap_or(&nothing))
                        .collect();
                    let mut pairs = pairs.iter();
                    if pairs.all(|&(one, two)| is_equal(part, contents[one], contents[two])) {
                        return None;
                    }
                    let mut fields: Vec<Field> = Vec::new();
                    for field in contents.iter().flat_map(|content| &content.fields) {
                        if !fields.contains(field) {
                            fields.push(*field);
                        }
                    }
                    Some(PlanDifference {
                        part: part.clone(),
                        actions: contents.iter().map(|content| content.action).collect(),
                        values: contents
                            .iter()
                            .map(|content| content.value.cloned())
                            .collect(),
                        fields,
                    })
                });
                differences.collect::<Vec<_>>()
            };
        let by_result = select(|_, one, other| {
            (one.outcome(), &one.loaded) == (other.outcome(), &other.loaded)
        });
        if !by_result.is_empty() {
            return by_result;
        }
        let by_basis = select(|part, one, other| one.has_same_basis(other, part));
        if !by_basis.is_empty() {
            return by_basis;
        }
        select(|_, one, other| one.is_listed == other.is_listed)
    }
}

/// Content of a decision that the comparison of plans uses.
#[derive(Clone, Debug, Default)]
struct DecidedContent<'p> {
    action: Option<&'static str>,
    outcome: Option<PlanOutcome>,
    loaded: Option<LoadedContent<'p>>,
    /// `true` if the VM has the register or extension.
    is_in_vm: bool,
    is_listed: bool,
    /// The destination's own value of the register.
    value: Option<&'p Value>,
    fields: Vec<Field>,
}

/// Content that a loader writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoadedContent<'p> {
    Register(&'p Value),
    Extension(&'p Content),
}

impl DecidedContent<'_> {
    /// Returns the outcome; no decision blocks nothing.
    fn outcome(&self) -> PlanOutcome {
        self.outcome.unwrap_or(PlanOutcome::Ready)
    }

    /// Returns `true` if the decisions about a part depend on the same value of the destinations,
    /// or on none.
    fn has_same_basis(&self, other: &Self, part: &DecidedPart) -> bool {
        let DecidedPart::Register(id) = part else {
            return true;
        };
        let is_compared_with_own_value = match RegisterKind::from_id(*id) {
            RegisterKind::Storage
            | RegisterKind::Counter
            | RegisterKind::PsciVersion
            | RegisterKind::FirmwareBitmap(_) => false,
            _ => self.is_in_vm && self.is_listed && other.is_listed,
        };
        !is_compared_with_own_value || self.value == other.value
    }
}

impl<'p> DecidedContent<'p> {
    fn from_register(decision: &'p Decision) -> Self {
        let outcome = decision.action.outcome();
        let loaded = match &decision.action {
            Action::Copy => decision.source.as_ref(),
            Action::Set(value) | Action::WriteReset(value) => Some(value),
            _ => None,
        };
        let values = [&decision.source, &decision.destination];
        let [source, destination] = values.map(|value| value.as_ref().and_then(Value::as_u64));
        let fields = match source.zip(destination) {
            Some((source, destination)) if outcome != PlanOutcome::Ready => {
                differing_fields(decision.register, source, destination)
                    .map(|difference| difference.field)
                    .collect()
            }
            _ => Vec::new(),
        };
        Self {
            action: Some(decision.action.name()),
            outcome: Some(outcome),
            loaded: loaded.map(LoadedContent::Register),
            is_in_vm: decision.source.is_some(),
            is_listed: decision.is_listed,
            value: decision.destination.as_ref(),
            fields,
        }
    }
}

impl Plan {
    /// Returns the decisions by their parts. For a part that differs among vCPUs, the first vCPU
    /// with the worst outcome counts.
    fn decided_parts(&self) -> BTreeMap<DecidedPart, DecidedContent<'_>> {
        fn add<'p>(
            parts: &mut BTreeMap<DecidedPart, DecidedContent<'p>>,
            part: DecidedPart,
            content: DecidedContent<'p>,
        ) {
            let known = parts.entry(part).or_insert_with(|| content.clone());
            if known.outcome().worse(content.outcome()) != known.outcome() {
                *known = content;
            }
        }
        let mut parts = BTreeMap::new();
        for decision in &self.hardware {
            let content = DecidedContent {
                action: Some(decision.action.name()),
                outcome: Some(decision.action.outcome()),
                ..DecidedContent::default()
            };
            add(&mut parts, DecidedPart::Hardware(decision.fact), content);
        }
        for vcpu in &self.vcpus {
            for decision in &vcpu.decisions {
                let content = DecidedContent::from_register(decision);
                add(
                    &mut parts,
                    DecidedPart::Register(decision.register),
                    content,
                );
            }
            for decision in &vcpu.extensions {
                let loaded = match &decision.action {
                    ExtensionAction::Copy => decision.source.as_ref(),
                    ExtensionAction::Set(content) => Some(content),
                    _ => None,
                };
                let content = DecidedContent {
                    action: Some(decision.action.name()),
                    outcome: Some(decision.action.outcome()),
                    loaded: loaded.map(LoadedContent::Extension),
                    is_in_vm: decision.source.is_some(),
                    is_listed: decision.destination.is_some(),
                    ..DecidedContent::default()
                };
                add(
                    &mut parts,
                    DecidedPart::Extension(decision.name.clone()),
                    content,
                );
            }
        }
        parts
    }

    /// Adds the visible changes of another plan for the same VM that this plan lacks.
    pub fn add_visible_changes(&mut self, other: &Self) {
        for change in &other.visible_changes {
            if !self.visible_changes.contains(change) {
                self.visible_changes.push(change.clone());
            }
        }
        self.visible_changes
            .sort_by_key(|change| core::cmp::Reverse(change.severity));
    }

    /// Lowers the confidence of every decision to at most `limit`.
    pub fn limit_confidence(&mut self, limit: Confidence) {
        for decision in &mut self.hardware {
            decision.confidence = decision.confidence.min(limit);
        }
        self.update_decisions(|decision| decision.confidence = decision.confidence.min(limit));
        for vcpu in &mut self.vcpus {
            for decision in &mut vcpu.extensions {
                decision.confidence = decision.confidence.min(limit);
            }
        }
    }

    /// Returns the number of decisions with this outcome.
    fn count_with(&self, outcome: PlanOutcome) -> usize {
        let hardware = self.hardware.iter().map(|it| it.action.outcome());
        let vcpus = self.vcpus.iter().flat_map(|vcpu| {
            let registers = vcpu.decisions.iter().map(|it| it.action.outcome());
            let extensions = vcpu.extensions.iter().map(|it| it.action.outcome());
            registers.chain(extensions)
        });
        hardware.chain(vcpus).filter(|it| *it == outcome).count()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::destination::{
        Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu, ValueOrigin,
    };
    use crate::hardware::HardwareFacts;
    use crate::plan::Consents;
    use crate::register::{RegisterId, Value};
    use crate::tolerance::Tolerances;

    const ACCEPTED: u64 = 8;

    /// Returns a destination with these registers, which all accept only [`ACCEPTED`].
    fn destination(ids: &[RegisterId]) -> Destination {
        let registers = ids.iter().map(|id| DestinationRegister {
            id: *id,
            value: Some(Value::U64(ACCEPTED)),
            accepted_values: AcceptedValues::Writable(0),
        });
        Destination {
            name: "here".into(),
            accelerator: Some(Accelerator::Kvm),
            loader: None,
            value_origin: ValueOrigin::Reset,
            vcpus: vec![DestinationVcpu::new(
                registers.collect::<Vec<_>>(),
                Vec::new(),
            )],
            kernel_version: None,
            hardware: HardwareFacts::UNKNOWN,
            shape: None,
        }
    }

    fn check(vm: &Vm, ids: &[RegisterId]) -> Check {
        let tolerances = Tolerances::default();
        Check::new(vm, &destination(ids), &tolerances, &Consents::default())
    }

    const DFR0: RegisterId = RegisterId::ID_AA64DFR0_EL1;
    const PFR0: RegisterId = RegisterId::ID_AA64PFR0_EL1;

    #[test]
    fn equal_checks_have_the_same_result_and_none_is_stricter() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED)]);
        let check = check(&vm, &[DFR0]);
        assert_eq!(check.plan.outcome(), PlanOutcome::Ready);
        let one = PossibleCheck::from(&check);
        assert!(one.has_same_result(one, &vm));
        assert!(!one.is_stricter_than(one));
    }

    #[test]
    fn a_refusal_is_stricter_than_a_load() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED)]);
        let [loads, refused] = [&[DFR0][..], &[]].map(|ids| check(&vm, ids));
        assert_eq!(refused.verdict, Verdict::Refused);
        let [loads, refused] = [&loads, &refused].map(PossibleCheck::from);
        assert!(!loads.has_same_result(refused, &vm));
        assert!(refused.is_stricter_than(loads) && !loads.is_stricter_than(refused));
    }

    #[test]
    fn refusals_have_the_same_result_and_more_blockers_are_stricter() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED), (PFR0, ACCEPTED)]);
        let [one, two] = [&[DFR0][..], &[]].map(|ids| check(&vm, ids));
        let [one, two] = [&one, &two].map(PossibleCheck::from);
        assert!(one.has_same_result(two, &vm));
        assert!(two.is_stricter_than(one) && !one.is_stricter_than(two));
    }

    #[test]
    fn a_refusal_among_checks_is_the_strictest() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED)]);
        let [loads, refused] = [&[DFR0][..], &[]].map(|ids| check(&vm, ids));
        let [loads, refused] = [&loads, &refused].map(PossibleCheck::from);
        assert!(!loads.has_same_result(refused, &vm));
        for differing in 0..3 {
            let mut checks = [loads; 3];
            checks[differing] = refused;
            assert_eq!(PossibleCheck::strictest(&checks), differing);
        }
    }

    #[test]
    fn differences_name_the_register_and_the_fields() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED), (PFR0, ACCEPTED + 2)]);
        // The destination accepts only one value of PFR0, and lists DFR0 in the first check only.
        let checks = [&[DFR0, PFR0][..], &[PFR0]].map(|ids| check(&vm, ids));
        let checks = checks.each_ref().map(PossibleCheck::from);
        let differences = PossibleCheck::differences(&checks, |_, _| true);
        assert_eq!(
            differences,
            [PlanDifference {
                part: DecidedPart::Register(DFR0),
                actions: vec![Some("copy"), Some("refuse")],
                values: vec![Some(Value::U64(ACCEPTED)), None],
                fields: Vec::new(),
            }]
        );
        let accepting = Vm::with_one_vcpu(&[(PFR0, ACCEPTED)]);
        let [refused, accepted] = [&vm, &accepting].map(|vm| check(vm, &[PFR0]));
        let differences =
            PossibleCheck::differences(&[&refused, &accepted].map(PossibleCheck::from), |_, _| {
                true
            });
        let difference = differences
            .iter()
            .find(|it| it.part == DecidedPart::Register(PFR0))
            .expect("the values differ");
        assert_eq!(difference.actions, [Some("refuse"), Some("copy")]);
        let fields: Vec<_> = difference.fields.iter().map(|field| field.name()).collect();
        assert_eq!(fields, ["EL0"]);
        let equal = [PossibleCheck::from(&refused); 2];
        assert_eq!(PossibleCheck::differences(&equal, |_, _| true), []);
        // Only the selected pairs count, and each check has an action.
        let mixed = [&refused, &refused, &accepted].map(PossibleCheck::from);
        assert_eq!(PossibleCheck::differences(&mixed, |_, two| two < 2), []);
        let differences = PossibleCheck::differences(&mixed, |one, _| one == 1);
        assert!(differences.iter().all(|it| it.actions.len() == 3));
        assert!(!differences.is_empty());
    }

    /// One destination holds the value; the other lets it be written.
    #[test]
    fn a_result_with_another_basis_says_nothing_about_a_kernel_in_between() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED)]);
        let own = check(&vm, &[DFR0]);
        let mut written = own.clone();
        written.plan.vcpus[0].decisions[0].destination = Some(Value::U64(ACCEPTED - 2));
        let [own, written] = [&own, &written].map(PossibleCheck::from);
        assert!(own.has_same_result(written, &vm));
        assert!(own.encloses_result(own, &vm) && !own.encloses_result(written, &vm));
        let differences = PossibleCheck::differences(&[own, written], |_, _| true);
        assert_eq!(differences.len(), 1);
        assert_eq!(differences[0].actions, [Some("copy"); 2]);
        assert_eq!(differences[0].values[1], Some(Value::U64(ACCEPTED - 2)));
    }

    #[test]
    fn refusals_need_a_common_blocker() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED), (PFR0, ACCEPTED)]);
        let checks = [&[DFR0][..], &[PFR0], &[]].map(|ids| check(&vm, ids));
        let [no_pfr0, no_dfr0, neither] = checks.each_ref().map(PossibleCheck::from);
        assert!(no_pfr0.has_same_result(no_dfr0, &vm));
        assert!(!no_pfr0.encloses_result(no_dfr0, &vm));
        assert!(no_pfr0.encloses_result(neither, &vm));
        assert!(neither.encloses_result(no_dfr0, &vm));
    }

    #[test]
    fn visible_changes_are_united_and_confidence_is_limited() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED)]);
        let mut plan = check(&vm, &[DFR0]).plan;
        plan.vcpus[0].decisions[0].confidence = Confidence::Proven;
        plan.limit_confidence(Confidence::Inferred);
        assert_eq!(plan.vcpus[0].decisions[0].confidence, Confidence::Inferred);
        let change = |severity| crate::plan::VisibleChange {
            vcpus: crate::plan::VcpuSet::default(),
            register: Some(DFR0),
            field: None,
            from: None,
            to: None,
            severity,
            description: "".into(),
            remedy: None,
        };
        let mut other = plan.clone();
        plan.visible_changes = vec![change(Severity::Low)];
        other.visible_changes = vec![change(Severity::High), change(Severity::Low)];
        plan.add_visible_changes(&other);
        assert_eq!(plan.visible_changes, other.visible_changes);
    }

    /// The loaded states differ by a register that one plan leaves out.
    #[test]
    fn other_loaded_states_are_other_results() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED)]);
        let full = check(&vm, &[DFR0]);
        let mut without = full.clone();
        without.plan.vcpus[0].decisions[0].action = Action::Ignore;
        let [mut full, mut without] = [&full, &without].map(PossibleCheck::from);
        for verdict in [Verdict::Loads, Verdict::Converts] {
            full.verdict = verdict;
            without.verdict = verdict;
            assert!(!full.has_same_result(without, &vm));
            assert!(full.has_same_result(full, &vm));
        }
    }
}
