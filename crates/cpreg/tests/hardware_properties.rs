//! Properties of the decisions about properties of the hosts that no register list holds, with any
//! facts: known or not, equal or different, of real and emulated hosts.

use cpreg::destination::{
    Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu, Loader,
    ValueOrigin,
};
use cpreg::gic::{Gic, GicLimits};
use cpreg::hardware::{HardwareFact, HardwareFacts, VectorLengths};
use cpreg::plan::{
    Check, Consents, HardwareAction, HardwareDecision, HardwareReason, SetConsent, Verdict,
};
use cpreg::register::{RegisterId, Value};
use cpreg::severity::Severity;
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};
use proptest::prelude::*;

const N1: u64 = 0x414f_d0c1;
const V1: u64 = 0x411f_d401;
/// Implementer, Variant, Architecture, PartNum and Revision of MIDR_EL1.
const MIDR_FIELDS: [u64; 5] = [0xff00_0000, 0xf0_0000, 0xf_0000, 0xfff0, 0xf];
/// SCTLR_EL1 of a running Linux: the MMU is on.
const SCTLR_MMU_ON: u64 = 0x34f4_d91d;

/// Facts of both hosts, and the guest that moves.
#[derive(Clone, Copy, Debug)]
struct Case {
    source: HardwareFacts,
    destination: HardwareFacts,
    has_other_cpu: bool,
    /// CPACR_EL1.ZEN.
    zen: u64,
    /// ZCR_EL1.LEN.
    len: u64,
}

impl Case {
    fn vm(self) -> Vm {
        let registers = [
            (RegisterId::MIDR_EL1, N1),
            (RegisterId::SCTLR_EL1, SCTLR_MMU_ON),
            (RegisterId::CPACR_EL1, self.zen << 16),
            (RegisterId::ZCR_EL1, self.len),
        ];
        let registers = registers.map(|(id, value)| (id, Value::U64(value)));
        Vm {
            vcpus: vec![Vcpu {
                registers: Registers::from_pairs(registers).expect("no id twice"),
                ..Vcpu::default()
            }],
            source_hardware: self.source,
        }
    }

    fn destination(self) -> Destination {
        let midr = if self.has_other_cpu { V1 } else { N1 };
        let vm = self.vm();
        let registers = vm.vcpus[0].registers.iter();
        let registers = registers.map(|(id, value)| DestinationRegister {
            id,
            value: Some(if id == RegisterId::MIDR_EL1 {
                Value::U64(midr)
            } else {
                value.clone()
            }),
            accepted_values: AcceptedValues::ByKind,
        });
        Destination {
            name: "there".into(),
            accelerator: Some(Accelerator::Kvm),
            loader: Some(Loader::qemu(11, 1)),
            value_origin: ValueOrigin::Reset,
            vcpus: vec![DestinationVcpu::new(
                registers.collect::<Vec<_>>(),
                Vec::new(),
            )],
            kernel_version: None,
            hardware: self.destination,
            shape: None,
        }
    }

    /// Checks the VM with every consent that exists, and with the destination's MIDR_EL1.
    fn check(self) -> Check {
        let destination = self.destination();
        let midr = destination.vcpus[0].value(RegisterId::MIDR_EL1);
        // Only a value for the very field takes a fatal change.
        let fields = MIDR_FIELDS.map(|mask| SetConsent {
            register: RegisterId::MIDR_EL1,
            mask,
            value: midr.expect("the destination has it") & mask,
        });
        let consents = Consents {
            accept_up_to: Some(Severity::Medium),
            set: fields.into(),
            ..Consents::default()
        };
        Check::new(&self.vm(), &destination, &Tolerances::default(), &consents)
    }

    /// Returns `true` if the facts of both hosts are comparable.
    const fn is_comparable(self) -> bool {
        self.source.is_emulated == self.destination.is_emulated
    }

    /// Returns `true` if known facts differ in a way that breaks the guest.
    fn is_known_to_be_fatal(self) -> bool {
        let (source, destination) = (self.source, self.destination);
        let frequency = source.counter_frequency.zip(destination.counter_frequency);
        let block = source.dczid.zip(destination.dczid);
        let lengths = source.vector_lengths.zip(destination.vector_lengths);
        let gics = gic_limits(source).zip(gic_limits(destination));
        self.is_comparable()
            && (frequency.is_some_and(|(one, other)| one != other)
                || block.is_some_and(|(one, other)| one != other)
                || gics.is_some_and(|(vm, host)| !host.accepts(vm))
                || self.zen != 0 && lengths.is_some_and(|(one, other)| !other.contains(one)))
    }
}

fn any_facts() -> impl Strategy<Value = HardwareFacts> {
    let frequency = prop::option::of(prop::sample::select(vec![25_000_000, 1_000_000_000]));
    let lengths = prop::option::of(prop::sample::select(vec![0b1, 0b11, 0b1011]));
    let dczid = prop::option::of(prop::sample::select(vec![4, 5]));
    let limits = prop::sample::select(vec![0x8400, 0x8c00, 0x8e00, 0xcc00]);
    let v3 = limits.prop_map(|value| Gic::V3(GicLimits::from_icc_ctlr(value)));
    let gic = prop::option::of(prop_oneof![3 => v3, 1 => Just(Gic::Other)]);
    let iidr = prop::option::of(prop::sample::select(vec![0x4b00_243b, 0x4b00_343b]));
    (frequency, lengths, dczid, gic, iidr, any::<bool>()).prop_map(
        |(counter_frequency, lengths, dczid, gic, iidr, is_emulated)| {
            let mut facts = HardwareFacts::UNKNOWN;
            facts.counter_frequency = counter_frequency;
            facts.vector_lengths = lengths.map(VectorLengths::from_bits);
            facts.dczid = dczid;
            facts.gic = gic;
            facts.gicd_iidr = iidr;
            facts.is_emulated = is_emulated;
            facts
        },
    )
}

fn any_case() -> impl Strategy<Value = Case> {
    let guest = (any::<bool>(), 0..4_u64, 0..4_u64);
    (any_facts(), any_facts(), guest).prop_map(
        |(source, destination, (has_other_cpu, zen, len))| Case {
            source,
            destination,
            has_other_cpu,
            zen,
            len,
        },
    )
}

/// Returns the limits of a GICv3, if they are known.
const fn gic_limits(facts: HardwareFacts) -> Option<GicLimits> {
    match facts.gic {
        Some(Gic::V3(limits)) => Some(limits),
        _ => None,
    }
}

const fn is_loaded(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Loads | Verdict::Converts)
}

/// Returns both values of a property as the hosts have them.
fn facts(case: Case, fact: HardwareFact) -> [Option<u64>; 2] {
    [case.source, case.destination].map(|facts| match fact {
        HardwareFact::CounterFrequency => facts.counter_frequency.map(u64::from),
        HardwareFact::VectorLengths => facts.vector_lengths.map(|it| it.bits().into()),
        HardwareFact::GicLimits => gic_limits(facts).map(GicLimits::bits),
        HardwareFact::GicRevision => facts.gicd_iidr.map(u64::from),
        _ => facts.dczid,
    })
}

fn names_a_missing_fact(decision: &HardwareDecision) -> bool {
    decision.reason == HardwareReason::NotKnown
        && (decision.lacks_source() || decision.lacks_destination())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// No consent loads a VM into a host whose known facts break the guest.
    #[test]
    fn a_fatal_difference_never_loads(case in any_case()) {
        let check = case.check();
        if case.is_known_to_be_fatal() {
            prop_assert_eq!(check.verdict, Verdict::Refused);
            let mut decisions = check.plan.hardware.iter();
            prop_assert!(decisions.any(|it| it.action == HardwareAction::Refuse));
        }
    }

    /// A fact that is not known leaves the verdict open only between hosts with different CPUs.
    #[test]
    fn missing_facts_decide_only_between_different_cpus(case in any_case()) {
        let same_cpu = Case { has_other_cpu: false, ..case };
        let mut decisions = same_cpu.check().plan.hardware;
        decisions.retain(|it| it.action == HardwareAction::Undecided);
        prop_assert!(decisions.is_empty(), "{:?}", decisions);

        let unknown = Case {
            source: HardwareFacts::UNKNOWN,
            destination: HardwareFacts::UNKNOWN,
            ..case
        };
        let known = HardwareFacts {
            counter_frequency: Some(25_000_000),
            vector_lengths: Some(VectorLengths::from_bits(0b1111)),
            dczid: Some(4),
            gic: Some(Gic::V3(GicLimits::from_icc_ctlr(0x8c00))),
            ..HardwareFacts::UNKNOWN
        };
        let known = Case { source: known, destination: known, ..unknown };
        prop_assert!(is_loaded(known.check().verdict), "{:?}", known.check());
        let expected = if case.has_other_cpu { Verdict::Unknown } else { known.check().verdict };
        prop_assert_eq!(unknown.check().verdict, expected);
    }

    /// A missing fact is named, and only a missing one.
    #[test]
    fn a_missing_fact_is_named(case in any_case()) {
        let check = case.check();
        for decision in &check.plan.hardware {
            let values = facts(case, decision.fact);
            let is_known = values[0].is_some() && values[1].is_some();
            let is_believed = case.is_comparable() || values[0] == values[1];
            match decision.action {
                HardwareAction::Assume | HardwareAction::Undecided => {
                    prop_assert!(names_a_missing_fact(decision), "{decision:?}");
                    prop_assert!(!is_known || !is_believed, "{decision:?}");
                }
                // What the guest has requested decides without the source's lengths.
                HardwareAction::Refuse if decision.fact == HardwareFact::VectorLengths => {
                    prop_assert!(values[1].is_some(), "{decision:?}");
                }
                _ => prop_assert!(is_known, "{decision:?}"),
            }
        }
        if check.verdict == Verdict::Unknown {
            let mut decisions = check.plan.hardware.iter();
            prop_assert!(decisions.any(|it| it.action == HardwareAction::Undecided));
        }
    }

    #[test]
    fn the_plan_is_deterministic(case in any_case()) {
        let [one, other] = [case.check(), case.check()];
        prop_assert_eq!(one.verdict, other.verdict);
        prop_assert_eq!(one.plan.hardware, other.plan.hardware);
        prop_assert_eq!(one.plan.vcpus, other.plan.vcpus);
        prop_assert_eq!(one.plan.visible_changes, other.plan.visible_changes);
    }
}
