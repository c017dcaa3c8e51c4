//! Tests of the decisions, on plans.

use alloc::string::ToString;
use alloc::vec;

use super::*;
use crate::destination::{
    Confidence, Destination, DestinationRegister, DestinationVcpu, ValueOrigin,
};
use crate::gic::{Gic, GicLimits};
use crate::hardware::{HardwareFacts, PmuEvents, VectorLengths};
use crate::plan::{Consents, Plan, PlanOutcome, SetConsent};
use crate::register::Value;
use crate::severity::Severity;
use crate::tolerance::Tolerances;
use crate::vm::{Registers, Vcpu, Vm};

const N1: u64 = 0x413f_d0c1;
const N2: u64 = 0x410f_d490;
const ALL_LENGTHS: u16 = 0xffff;

/// Returns a VM with SVE whose MMU is on.
fn vm(zen: u64, len: u64, hardware: HardwareFacts) -> Vm {
    let registers = [
        (RegisterId::MIDR_EL1, N1),
        (RegisterId::SCTLR_EL1, 0x34f4_d91d),
        (RegisterId::CPACR_EL1, zen << 16),
        (RegisterId::ZCR_EL1, len),
    ];
    vm_with(registers, hardware)
}

/// Returns a VM with one vCPU and these registers.
fn vm_with<const N: usize>(registers: [(RegisterId, u64); N], hardware: HardwareFacts) -> Vm {
    let registers = registers.map(|(id, value)| (id, Value::U64(value)));
    Vm {
        vcpus: vec![Vcpu {
            registers: Registers::from_pairs(registers).expect("no id twice"),
            ..Vcpu::default()
        }],
        source_hardware: hardware,
    }
}

/// Returns a destination that has the registers of `vm` with another MIDR_EL1.
fn destination(vm: &Vm, midr: u64, hardware: HardwareFacts) -> Destination {
    let vcpus = vm.vcpus.iter().map(|vcpu| {
        let registers = vcpu
            .registers
            .iter()
            .map(|(id, value)| DestinationRegister {
                id,
                value: Some(if id == RegisterId::MIDR_EL1 {
                    Value::U64(midr)
                } else {
                    value.clone()
                }),
                accepted_values: crate::destination::AcceptedValues::ByKind,
            });
        DestinationVcpu::new(registers, Vec::new())
    });
    Destination {
        name: "a host".into(),
        accelerator: Some(Accelerator::Kvm),
        loader: None,
        value_origin: ValueOrigin::Reset,
        vcpus: vcpus.collect(),
        kernel_version: None,
        hardware,
        shape: None,
    }
}

fn plan(vm: &Vm, destination: &Destination, set: &[(RegisterId, u64)]) -> Plan {
    let consents = Consents {
        set: set
            .iter()
            .map(|(register, value)| SetConsent {
                register: *register,
                mask: u64::MAX,
                value: *value,
            })
            .collect(),
        ..Consents::default()
    };
    Plan::new(vm, destination, &Tolerances::default(), &consents)
}

fn decision(plan: &Plan, fact: HardwareFact) -> Option<&HardwareDecision> {
    plan.hardware.iter().find(|decision| decision.fact == fact)
}

fn frequency(hertz: u32) -> HardwareFacts {
    HardwareFacts {
        counter_frequency: Some(hertz),
        ..HardwareFacts::UNKNOWN
    }
}

fn lengths(bits: u16) -> HardwareFacts {
    HardwareFacts {
        vector_lengths: Some(VectorLengths::from_bits(bits)),
        ..HardwareFacts::UNKNOWN
    }
}

#[test]
fn another_frequency_is_refused_although_the_cpus_are_equal() {
    let vm = vm(0, 0, frequency(121_875_000));
    let plan_for = |hertz| plan(&vm, &destination(&vm, N1, frequency(hertz)), &[]);
    assert_eq!(plan_for(121_875_000).outcome(), PlanOutcome::Ready);
    let slow = plan_for(24_000_000);
    assert_eq!(slow.outcome(), PlanOutcome::Refused);
    assert_eq!(slow.outcome_with_proposed, PlanOutcome::Refused);
    let reason = decision(&slow, HardwareFact::CounterFrequency).map(ToString::to_string);
    assert_eq!(
        reason.as_deref(),
        Some(
            "the guest read the frequency when it booted: its clock would run 5.08 times too \
             slow"
        )
    );
    let fast = plan_for(1_000_000_000).hardware[0].to_string();
    assert!(fast.ends_with("8.21 times too fast"), "{fast}");
}

#[test]
fn an_unknown_fact_blocks_only_between_different_cpus() {
    let vm = vm(0, 0, HardwareFacts::UNKNOWN);
    let same = plan(&vm, &destination(&vm, N1, frequency(24_000_000)), &[]);
    assert_eq!(same.outcome(), PlanOutcome::Ready);
    assert!(same.hardware[0].lacks_source() && !same.hardware[0].lacks_destination());
    // The user's MIDR_EL1 does not make the CPUs equal.
    let other = destination(&vm, N2, HardwareFacts::UNKNOWN);
    let other = plan(&vm, &other, &[(RegisterId::MIDR_EL1, N2)]);
    assert_eq!(other.hardware[0].action, HardwareAction::Undecided);
    assert_eq!(
        other.hardware[0].to_string(),
        "not known of both hosts, which have different CPUs (MIDR_EL1)"
    );
}

#[test]
fn another_block_size_is_refused() {
    let facts = |dczid| HardwareFacts {
        dczid: Some(dczid),
        ..HardwareFacts::UNKNOWN
    };
    let vm = vm(0, 0, facts(4));
    let plan = plan(&vm, &destination(&vm, N1, facts(6)), &[]);
    assert_eq!(plan.outcome(), PlanOutcome::Refused);
    let reason = decision(&plan, HardwareFact::ZeroingBlock).map(ToString::to_string);
    assert_eq!(
        reason.as_deref(),
        Some("the guest clears memory in blocks of 64 bytes, and the destination clears 256 bytes")
    );
}

/// Returns the plan for ICC_CTLR_EL1 of a VM and of the destination with this MIDR_EL1.
fn plan_gic(source: Option<Gic>, at_destination: Option<Gic>, midr: u64) -> Plan {
    let facts = |gic| HardwareFacts {
        vector_lengths: Some(VectorLengths::from_bits(1)),
        gic,
        ..KNOWN
    };
    let mut vm = vm(0, 0, facts(source));
    // The register's value decides if the hosts have the same CPU, and is not decided here.
    vm.vcpus[0]
        .registers
        .insert(RegisterId::MIDR_EL1, Value::U64(midr));
    let destination = destination(&vm, N1, facts(at_destination));
    plan(&vm, &destination, &[(RegisterId::MIDR_EL1, N1)])
}

const fn gic(icc_ctlr: u64) -> Gic {
    Gic::V3(GicLimits::from_icc_ctlr(icc_ctlr))
}

#[test]
fn limits_that_kvm_refuses_are_refused_with_the_fields() {
    for (vm, host, reason) in [
        (0x8600, 0x8400, "PRIbits 6 above 4"),
        (0x8c00, 0x8400, "IDbits 1 above 0"),
        (0xc400, 0x8400, "SEIS 1 in place of 0"),
        (0x8400, 0xc400, "SEIS 0 in place of 1"),
        (0x0400, 0x8400, "A3V 0 in place of 1"),
        (0x8400, 0x0400, "A3V 1 in place of 0"),
    ] {
        let plan = plan_gic(Some(gic(vm)), Some(gic(host)), N1);
        assert_eq!(plan.outcome(), PlanOutcome::Refused);
        assert_eq!(plan.outcome_with_proposed, PlanOutcome::Refused);
        let decision = decision(&plan, HardwareFact::GicLimits).expect("a GICv3");
        assert_eq!(
            (decision.source, decision.destination),
            (Some(vm), Some(host))
        );
        let text = decision.to_string();
        let expected = alloc::format!(
            "KVM at the destination refuses the VM's ICC_CTLR_EL1: {reason}; QEMU aborts when KVM \
             refuses it"
        );
        assert_eq!(text, expected);
    }
}

#[test]
fn limits_that_kvm_takes_are_kept() {
    use HardwareAction::{Assume, Keep, Undecided};
    let judge = |source, destination, midr| {
        let plan = plan_gic(source, destination, midr);
        let decision = decision(&plan, HardwareFact::GicLimits);
        decision.map(|decision| (decision.action, decision.reason))
    };
    let (same, more) = (HardwareReason::Same, HardwareReason::HasMoreBits);
    let host = Some(gic(0x8c00));
    // What the guest wrote is no limit.
    for (vm, reason) in [
        (0x8c00, same),
        (0x8c03, same),
        (0x8b00, more),
        (0x8000, more),
    ] {
        assert_eq!(judge(Some(gic(vm)), host, N1), Some((Keep, reason)));
        assert_eq!(judge(Some(gic(vm)), host, N2), Some((Keep, reason)));
    }
    let not_known = HardwareReason::NotKnown;
    for (vm, host) in [(None, host), (host, None), (None, None)] {
        assert_eq!(judge(vm, host, N1), Some((Assume, not_known)));
        assert_eq!(judge(vm, host, N2), Some((Undecided, not_known)));
    }
    for other in [Some(gic(0x8400)), None] {
        assert_eq!(judge(Some(Gic::Other), other, N2), None);
        assert_eq!(judge(other, Some(Gic::Other), N2), None);
    }
}

/// Returns the action and reason for SVE with these lengths, in use with ZCR_EL1.LEN `len`.
fn vectors(
    zen: u64,
    len: u64,
    source: Option<u16>,
    at_destination: Option<u16>,
    midr: u64,
) -> (HardwareAction, HardwareReason) {
    let facts = |bits: Option<u16>| bits.map_or(HardwareFacts::UNKNOWN, lengths);
    let vm = vm(zen, len, facts(source));
    let plan = plan(&vm, &destination(&vm, midr, facts(at_destination)), &[]);
    let decision = decision(&plan, HardwareFact::VectorLengths).expect("the guest has SVE");
    (decision.action, decision.reason)
}

#[test]
fn lacking_lengths_are_refused_unless_sve_is_unused() {
    use HardwareAction::{Assume, Keep, Refuse, Undecided};
    let all = Some(ALL_LENGTHS);
    let lacks = (Refuse, HardwareReason::LacksLengths);
    assert_eq!(vectors(3, 0, all, Some(1), N1), lacks);
    assert_eq!(vectors(0, 1, all, Some(1), N1), lacks);
    assert_eq!(
        vectors(0, 0, all, Some(1), N1),
        (Keep, HardwareReason::VectorsUnused)
    );
    assert_eq!(vectors(3, 3, all, all, N1), (Keep, HardwareReason::Same));
    assert_eq!(
        vectors(3, 0, Some(1), Some(3), N1),
        (Keep, HardwareReason::HasAllLengths)
    );
    let requested = HardwareReason::RequestedLength {
        requested: 2048,
        max: 128,
    };
    let not_known = HardwareReason::NotKnown;
    assert_eq!(vectors(3, 15, None, Some(1), N1), (Assume, not_known));
    assert_eq!(vectors(3, 15, None, Some(1), N2), (Refuse, requested));
    assert_eq!(vectors(3, 0, None, Some(1), N1), (Assume, not_known));
    assert_eq!(vectors(3, 0, None, Some(1), N2), (Undecided, not_known));
    assert_eq!(vectors(3, 15, all, None, N2), (Undecided, not_known));
    assert_eq!(vectors(0, 0, all, None, N2), (Assume, not_known));
}

/// A guest may have requested more than its own host has, and then gets what there is.
#[test]
fn a_request_beyond_both_hosts_gives_the_same_vectors() {
    use HardwareAction::{Keep, Refuse};
    assert_eq!(
        vectors(3, 15, Some(1), Some(1), N1),
        (Keep, HardwareReason::Same)
    );
    let changes = HardwareReason::LengthChanges {
        source: 128,
        destination: 256,
    };
    assert_eq!(vectors(3, 15, Some(1), Some(3), N1), (Refuse, changes));
}

#[test]
fn the_users_registers_count_as_evidence() {
    let vm = vm(0, 0, lengths(ALL_LENGTHS));
    let destination = destination(&vm, N1, lengths(1));
    let set = [(RegisterId::CPACR_EL1, 3 << 16)];
    assert_eq!(
        plan(&vm, &destination, &set).outcome(),
        PlanOutcome::Refused
    );
    assert_eq!(plan(&vm, &destination, &[]).outcome(), PlanOutcome::Ready);
    // With its MMU off, the guest may not have set up SVE yet.
    let off = [(RegisterId::SCTLR_EL1, 0)];
    assert_eq!(plan(&vm, &destination, &off).outcome(), PlanOutcome::Ready);
    let mut booting = vm.clone();
    booting.vcpus[0]
        .registers
        .insert(RegisterId::SCTLR_EL1, Value::U64(0));
    assert_eq!(
        plan(&booting, &destination, &[]).outcome(),
        PlanOutcome::Refused
    );
}

#[test]
fn emulators_and_guests_without_sve_have_no_decision() {
    let mut vm = vm(0, 0, frequency(1));
    let mut emulator = destination(&vm, N1, frequency(2));
    emulator.accelerator = Some(Accelerator::Tcg);
    assert_eq!(plan(&vm, &emulator, &[]).hardware, []);
    vm.vcpus[0].registers.remove(RegisterId::ZCR_EL1);
    let plan = plan(&vm, &destination(&vm, N1, lengths(1)), &[]);
    assert_eq!(decision(&plan, HardwareFact::VectorLengths), None);
}

/// The record of an emulated host does not show the frequency of a real host.
#[test]
fn facts_of_an_emulated_host_do_not_contradict_a_real_one() {
    let real = frequency(25_000_000);
    let emulated = HardwareFacts {
        is_emulated: true,
        ..frequency(1_000_000_000)
    };
    for (source, here, midr, action) in [
        (real, emulated, N1, HardwareAction::Assume),
        (emulated, real, N1, HardwareAction::Assume),
        (real, emulated, N2, HardwareAction::Undecided),
        (real, frequency(1_000_000_000), N1, HardwareAction::Refuse),
        (
            HardwareFacts {
                is_emulated: true,
                ..real
            },
            emulated,
            N1,
            HardwareAction::Refuse,
        ),
    ] {
        let vm = vm(0, 0, source);
        let plan = plan(&vm, &destination(&vm, midr, here), &[]);
        let decision = decision(&plan, HardwareFact::CounterFrequency).expect("a decision");
        assert_eq!(decision.action, action, "{source:?} to {here:?}");
        let is_known = action == HardwareAction::Refuse;
        let is_one_side_missing = decision.lacks_source() != decision.lacks_destination();
        assert_eq!(is_one_side_missing, !is_known, "{decision:?}");
    }
    let vm = vm(0, 0, real);
    let recorded = Destination {
        value_origin: ValueOrigin::EmulatedHost,
        ..destination(&vm, N1, frequency(1_000_000_000))
    };
    let plan = plan(&vm, &recorded, &[]);
    let decision = decision(&plan, HardwareFact::CounterFrequency).expect("a decision");
    assert!(decision.lacks_destination() && !decision.lacks_source());
}

/// Returns a VM with a PMU and MTE.
fn vm_with_pmu_and_mte(hardware: HardwareFacts) -> Vm {
    let registers = [
        (RegisterId::MIDR_EL1, N1),
        (RegisterId::OSLSR_EL1, 8),
        (RegisterId::PMCR_EL0, 0),
        (RegisterId::RGSR_EL1, 0),
    ];
    vm_with(registers, hardware)
}

fn events(pmceid0: u64, pmceid1: u64) -> HardwareFacts {
    HardwareFacts {
        pmu_events: Some(PmuEvents { pmceid0, pmceid1 }),
        ..HardwareFacts::UNKNOWN
    }
}

#[test]
fn other_events_of_the_pmu_are_visible_changes() {
    let vm = vm_with_pmu_and_mte(events(0b11, 1));
    let plan_for = |here| plan(&vm, &destination(&vm, N1, here), &[]);
    let same = plan_for(events(0b11, 1));
    assert_eq!(same.visible_changes, []);
    for (pmceid0, severity) in [(0b111, Severity::Low), (0b110, Severity::Medium)] {
        let other = plan_for(events(pmceid0, 1));
        assert_eq!(other.outcome(), PlanOutcome::Ready);
        let [change] = &other.visible_changes[..] else {
            panic!("{:?}", other.visible_changes);
        };
        assert_eq!(change.severity, severity);
        assert_eq!(change.field.as_deref(), Some("PMU events (PMCEID0_EL0)"));
        assert_eq!((change.from, change.to), (Some(0b11), Some(pmceid0)));
        assert_eq!(change.vcpus.iter().count(), 1);
    }
}

/// Unknown events leave no VM undecided, because a difference stops no load.
#[test]
fn unknown_events_do_not_change_the_verdict() {
    let vm = vm_with_pmu_and_mte(HardwareFacts {
        pmu_events: None,
        ..KNOWN
    });
    let plan = plan(&vm, &destination(&vm, N2, KNOWN), &[]);
    let decision = decision(&plan, HardwareFact::PmuEvents0).expect("a decision");
    assert_eq!(decision.action, HardwareAction::Assume);
    assert!(decision.lacks_source());
    assert_eq!(
        decision.to_string(),
        "not known of both hosts; a difference does not stop the load"
    );
    let undecided = plan
        .hardware
        .iter()
        .filter(|decision| decision.action == HardwareAction::Undecided);
    assert_eq!(undecided.count(), 0);
}

/// Facts of which none is unknown, for a guest without SVE.
const KNOWN: HardwareFacts = HardwareFacts {
    counter_frequency: Some(24_000_000),
    vector_lengths: None,
    dczid: Some(4),
    is_emulated: false,
    gic: Some(Gic::V3(GicLimits::from_icc_ctlr(0x8c00))),
    gmid: Some(6),
    pmu_events: Some(PmuEvents {
        pmceid0: 1,
        pmceid1: 0,
    }),
    gicd_iidr: Some(0x4b00_343b),
    uses_lpis: Some(true),
};

#[test]
fn another_tag_block_is_refused_for_guests_with_mte() {
    let here = HardwareFacts {
        gmid: Some(5),
        ..KNOWN
    };
    let with_mte = vm_with_pmu_and_mte(KNOWN);
    let refused = plan(&with_mte, &destination(&with_mte, N1, here), &[]);
    assert_eq!(refused.outcome(), PlanOutcome::Refused);
    let decision = decision(&refused, HardwareFact::TagBlock).expect("a decision");
    assert_eq!(
        decision.to_string(),
        "the guest copies MTE tags in blocks of 256 bytes, and the destination copies 128 bytes"
    );
    let without_mte = vm(0, 0, KNOWN);
    let ready = plan(&without_mte, &destination(&without_mte, N1, here), &[]);
    assert!(
        ready
            .hardware
            .iter()
            .all(|decision| decision.fact != HardwareFact::TagBlock)
    );
}

/// A guest that found revision 3 waits for interrupts that revision 2 never delivers.
#[test]
fn an_earlier_revision_of_the_gic_is_refused() {
    let revision = |iidr| HardwareFacts {
        gicd_iidr: Some(iidr),
        ..KNOWN
    };
    let (two, three) = (revision(0x4b00_243b), revision(0x4b00_343b));
    let plan_for = |source, here| {
        let vm = vm_with_pmu_and_mte(source);
        plan(&vm, &destination(&vm, N1, here), &[])
    };
    let refused = plan_for(three, two);
    assert_eq!(refused.outcome(), PlanOutcome::Refused);
    assert_eq!(refused.outcome_with_proposed, PlanOutcome::Refused);
    let reason = decision(&refused, HardwareFact::GicRevision).map(ToString::to_string);
    assert_eq!(
        reason.as_deref(),
        Some(
            "the guest found revision 3 when it booted and invalidates LPIs by GICR_INVLPIR, which \
             revision 2 ignores: interrupts that it enables later do not arrive"
        )
    );
    let ready = plan_for(two, three);
    assert_eq!(ready.outcome(), PlanOutcome::Ready);
    let severities = ready.visible_changes.iter().map(|change| change.severity);
    assert_eq!(severities.collect::<Vec<_>>(), [Severity::Low]);
    let without_gicv3 = HardwareFacts {
        gic: Some(Gic::Other),
        ..three
    };
    assert_eq!(plan_for(without_gicv3, two).outcome(), PlanOutcome::Ready);
}

/// A stream has no revision, but the list of its registers says whether its kernel is older than
/// 5.19.
#[test]
fn the_register_list_implies_the_revision() {
    let unknown = HardwareFacts {
        gicd_iidr: None,
        ..KNOWN
    };
    let [midr, psci] = [
        (RegisterId::MIDR_EL1, N1),
        (RegisterId::PSCI_VERSION, 0x1_0000),
    ];
    let old = vm_with([midr, psci], unknown);
    let new = vm_with([midr, psci, (RegisterId::STD_BMAP, 1)], unknown);
    let tcg = vm_with([midr], unknown);
    let decide = |vm: &Vm, here: &Vm, facts| {
        let plan = plan(vm, &destination(here, N1, facts), &[]);
        let decision = decision(&plan, HardwareFact::GicRevision).expect("a decision");
        assert_eq!(decision.confidence, Confidence::Inferred);
        decision.action
    };
    assert_eq!(decide(&old, &old, unknown), HardwareAction::Keep);
    assert_eq!(decide(&old, &new, unknown), HardwareAction::Change);
    assert_eq!(decide(&new, &old, unknown), HardwareAction::Refuse);
    assert_eq!(decide(&new, &new, unknown), HardwareAction::Keep);
    assert_eq!(decide(&tcg, &old, unknown), HardwareAction::Assume);
    // A known revision counts, whatever the list has.
    assert_eq!(decide(&new, &old, KNOWN), HardwareAction::Keep);
    // An inferred revision does not refuse a VM that perhaps takes no LPIs.
    let mut other = new;
    other.source_hardware.uses_lpis = None;
    assert_eq!(decide(&other, &old, unknown), HardwareAction::Assume);
}

#[test]
fn a_guest_without_lpis_moves_to_an_earlier_revision() {
    let source = HardwareFacts {
        uses_lpis: Some(false),
        ..KNOWN
    };
    let here = HardwareFacts {
        gicd_iidr: Some(0x4b00_243b),
        ..KNOWN
    };
    let vm = vm_with_pmu_and_mte(source);
    let ready = plan(&vm, &destination(&vm, N1, here), &[]);
    assert_eq!(ready.outcome(), PlanOutcome::Ready);
    let severities = ready.visible_changes.iter().map(|change| change.severity);
    assert_eq!(severities.collect::<Vec<_>>(), [Severity::Medium]);
}

/// The kernel decides the revision, so an emulated host is evidence about a real one.
#[test]
fn the_revision_of_an_emulated_host_counts() {
    let emulated = HardwareFacts {
        gicd_iidr: Some(0x4b00_243b),
        is_emulated: true,
        ..KNOWN
    };
    let vm = vm_with_pmu_and_mte(KNOWN);
    let refused = plan(&vm, &destination(&vm, N1, emulated), &[]);
    assert_eq!(refused.outcome(), PlanOutcome::Refused);
}
