//! Conversions of every snapshot that a real VMM refused, and the registers that had to go.

use std::collections::{BTreeMap, BTreeSet};

use cpreg::plan::{Action, Consents, Plan, PlanOutcome, Reason};
use cpreg::register::RegisterId;
use cpreg::tolerance::Tolerances;
use cpreg_hosts::HostIndex;

use crate::outcomes::{Outcome, Source, destination, lines, simulate};

/// Sets of restores with the unchanged snapshot of the same version.
const SETS: [&str; 5] = ["a", "b", "g", "h", "i"];

/// Plan with the consents that it needs.
struct Conversion {
    plan: Plan,
    /// Severities of the adjustments that the user must accept.
    consents: BTreeSet<&'static str>,
    source: Source,
}

impl Conversion {
    fn new(index: &HostIndex, outcome: &Outcome) -> Self {
        let source = outcome.source();
        let destination = destination(index, outcome, source.features);
        let tolerances = Tolerances::default();
        let plan = |consents: &Consents| Plan::new(&source.vm, &destination, &tolerances, consents);
        let without = plan(&Consents::default());
        let proposed = without.proposed_adjustments.iter();
        let consents = Consents {
            accept: proposed.clone().map(|change| change.register).collect(),
            ..Consents::default()
        };
        Self {
            consents: proposed.map(|change| change.severity.name()).collect(),
            plan: plan(&consents),
            source,
        }
    }

    fn is_ready(&self) -> bool {
        self.plan.outcome() == PlanOutcome::Ready
    }

    /// Returns the registers whose change would break a running guest. Other registers must not
    /// block the plan.
    fn fatal_registers(&self) -> BTreeSet<RegisterId> {
        let decisions = self.plan.decisions().into_iter();
        let blocking = decisions
            .filter(|(_, decision)| matches!(decision.action, Action::Refuse | Action::Undecided));
        blocking
            .map(|(_, decision)| {
                let is_fatal = matches!(decision.reason, Reason::FatalChange(_));
                assert!(is_fatal, "{} {:?}", decision.register, decision.reason);
                decision.register
            })
            .collect()
    }
}

/// Converts each refused snapshot and restores the written file in the model.
#[test]
#[expect(clippy::print_stdout, reason = "prints the table with --nocapture")]
fn every_refused_snapshot_is_converted_unless_the_change_is_fatal() {
    let index = HostIndex::built_in().unwrap();
    let mut converted: BTreeMap<String, usize> = BTreeMap::new();
    let (mut fatal, mut loads_although_fatal) = (0, 0);
    let outcomes = lines("outcomes.jsonl.xz").into_iter();
    for outcome in outcomes.filter(|outcome| SETS.contains(&outcome.set.as_str())) {
        let conversion = Conversion::new(&index, &outcome);
        if !conversion.is_ready() {
            assert!(!conversion.fatal_registers().is_empty(), "{outcome:?}");
            if outcome.ok {
                loads_although_fatal += 1;
            } else {
                fatal += 1;
            }
            continue;
        }
        if outcome.ok {
            continue;
        }
        let planned = conversion.plan.apply(&conversion.source.vm);
        let lists = outcome.convert(&planned);
        let destination = destination(&index, &outcome, conversion.source.features);
        let load = simulate(outcome.loader(), &lists, &destination);
        assert_eq!(load.loads, Some(true), "{outcome:?} {:?}", load.events);
        let severities: Vec<_> = conversion.consents.into_iter().collect();
        *converted.entry(severities.join(", ")).or_default() += 1;
    }
    println!("| consents | refused restores that convert |\n|---|---|");
    for (severities, count) in &converted {
        println!("| {severities} | {count} |");
    }
    println!("fatal {fatal}, loads although fatal {loads_although_fatal}");
    assert_eq!(converted.values().sum::<usize>(), 228);
    assert_eq!((fatal, loads_although_fatal), (56, 0));
}

/// Compares the changes of a plan with the registers that had to be removed by hand.
///
/// | difference | explanation |
/// |---|---|
/// | cpreg changes a value in place of the removal | the guest keeps a register that it had |
/// | removed by hand only, plan refused | the change breaks a running guest |
/// | removed by hand only, plan ready | a list for Firecracker, reused for Cloud Hypervisor |
///
/// The vCPUs of Cloud Hypervisor have a PMU, so KVM accepts the value in the last case.
#[test]
fn a_plan_touches_only_registers_that_had_to_be_removed() {
    let index = HostIndex::built_in().unwrap();
    let (mut removed_by_both, mut changed_by_cpreg, mut only_by_hand) = (0, 0, 0);
    for edit in lines("edited.jsonl.xz") {
        let conversion = Conversion::new(&index, &edit);
        let name = format!("{} {} -> {}", edit.cpu, edit.src_kernel, edit.dst_kernel);
        let by_hand: BTreeSet<RegisterId> = edit
            .removed
            .iter()
            .map(|id| RegisterId::from_raw(u64::from_str_radix(&id[2..], 16).unwrap()))
            .collect();
        let planned = conversion.plan.apply(&conversion.source.vm);
        let (before, after) = (&conversion.source.vm.vcpus[0], &planned.vcpus[0]);
        let mut touched = BTreeSet::new();
        for (id, value) in before.registers.iter() {
            let new = after.registers.get(id);
            if new != Some(value) {
                touched.insert(id);
                assert!(by_hand.contains(&id), "{} {name}: {id}", edit.vmm);
                match new {
                    None => removed_by_both += 1,
                    Some(_) => changed_by_cpreg += 1,
                }
            }
        }
        for id in by_hand.difference(&touched) {
            only_by_hand += 1;
            if conversion.is_ready() {
                let pmu = [RegisterId::ID_DFR0_EL1, RegisterId::ID_AA64DFR0_EL1];
                assert_eq!(edit.vmm, "cloud-hypervisor", "{name}: {id}");
                assert!(pmu.contains(id), "{name}: {id}");
            } else {
                assert!(conversion.fatal_registers().contains(id), "{name}: {id}");
            }
        }
    }
    assert_eq!(
        (removed_by_both, changed_by_cpreg, only_by_hand),
        (1017, 205, 14)
    );
}
