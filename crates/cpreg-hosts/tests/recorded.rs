//! Recorded hosts compared with the lists that real QEMUs read on the same kernels and CPU models.
//!
//! `tests/fixtures/recorded` holds the registers of every recorded stream, and the result of
//! loading it on other hosts. These tests replace the stream of the destination by a recorded host.
//! The host's list must be that of the stream, and no prediction may be wrong.

#[path = "../../cpreg-explain/tests/common/recorded.rs"]
mod recorded;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::load;
use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, Destination, Features, Loader};
use cpreg::gic::{Gic, GicLimits};
use cpreg::hardware::{HardwareFact, HardwareFacts, PmuEvents, VectorLengths};
use cpreg::plan::{Action, Check, Consents, HardwareAction, Plan, Reason, Verdict};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Registers;
use cpreg_explain::qemu::predict;
use cpreg_hosts::{HostIndex, HostRecord, host};
use recorded::{LoadOutcome, fixture, recorded_vms};

/// Returns the name of the host that wrote a stream under KVM.
///
/// A stream's name is like `kvm/6.12.107__q10.0__neoverse-n1__virt10.0-smp1`.
fn host_of(stream: &str) -> Option<String> {
    let mut parts = stream.strip_prefix("kvm/")?.split("__");
    let (kernel, cpu) = (parts.next()?, parts.nth(1)?);
    Some(format!("{}{kernel}/{cpu}", host::HOST_NAME_PREFIX))
}

/// Returns the features of the guest.
///
/// If its registers leave a feature open, the command line in the stream's name decides.
fn features_of(stream: &str, registers: &Registers) -> Features {
    let from_registers = GuestFeatures::from_registers(registers);
    if stream.contains("pmuoff") {
        from_registers
            .features
            .difference(from_registers.undetermined)
    } else {
        from_registers.features
    }
}

fn host_index() -> HostIndex {
    HostIndex::built_in().expect("the checked-in index is valid")
}

fn destination(index: &HostIndex, name: &str, features: Features) -> Destination {
    let named = index.resolve(name).expect("a recorded host");
    let destination = named.host.destination(features, Program::QEMU);
    destination.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_list_of_a_recorded_host_is_the_list_of_qemu() {
    let index = host_index();
    let (mut streams, mut with_combined_features) = (0, Vec::new());
    for (name, vm) in recorded_vms() {
        let Some(host) = host_of(&name) else {
            continue;
        };
        streams += 1;
        let features = features_of(&name, &vm.vcpus[0].registers);
        let recorded = index.resolve(&host).expect("a recorded host").host;
        if !recorded.register_counts().contains_key(&features) {
            with_combined_features.push(name.clone());
        }
        let destination = destination(&index, &host, features);
        let recorded_list: BTreeSet<_> = destination.vcpus[0]
            .registers()
            .iter()
            .map(|register| register.id)
            .collect();
        for vcpu in &vm.vcpus {
            let qemu_list: BTreeSet<_> = vcpu.registers.iter().map(|(id, _)| id).collect();
            assert_eq!(qemu_list, recorded_list, "{name}, {features}");
        }
    }
    assert_eq!(streams, 183);
    // QEMU 5.2 gives guests SVE without pointer authentication, which was not recorded with a PMU.
    // On Linux 5.10 the PMU does not change the list.
    assert!(
        with_combined_features
            .iter()
            .all(|name| name.ends_with("q5.2__max__virt5.2-smp1")),
        "{with_combined_features:?}"
    );
    assert_eq!(with_combined_features.len(), 10);
}

#[test]
fn combined_sets_equal_recorded_sets() {
    let index = host_index();
    let mut compared = 0;
    for host in index.hosts() {
        let recorded = host.register_counts();
        let all = Features::PMU | Features::SVE | Features::POINTER_AUTHENTICATION;
        if !recorded.contains_key(&all) {
            continue;
        }
        compared += 1;
        let list = |features| -> BTreeSet<RegisterId> {
            let destination = host
                .destination(features, Program::QEMU)
                .expect("it was recorded");
            let registers = destination.vcpus[0].registers().iter();
            registers.map(|register| register.id).collect()
        };
        let parts = [
            Features::PMU,
            Features::SVE,
            Features::POINTER_AUTHENTICATION,
        ];
        let union: BTreeSet<_> = parts.into_iter().flat_map(list).collect();
        assert_eq!(union, list(all), "{}", host.name());
    }
    assert_eq!(compared, 64);
}

/// Compares predictions with the writes to fresh vCPUs with all features, on real kernels.
#[test]
fn no_prediction_about_a_value_is_wrong() {
    let index = host_index();
    let mut destination = None;
    let (mut correct, mut unknown, mut wrong) = (0, 0, Vec::new());
    for line in fixture("probes.txt.xz").lines() {
        if let Some(name) = line.strip_prefix("host ") {
            // Hosts on CPU models that were only probed are not recorded.
            destination = index
                .resolve(&format!("{}{name}", host::HOST_NAME_PREFIX))
                .ok()
                .map(|named| {
                    let recorded = named.host.register_counts();
                    let largest = recorded.into_keys().max_by_key(|features| features.len());
                    let destination = named
                        .host
                        .destination(largest.expect("a recording"), Program::QEMU);
                    destination.expect("it was recorded")
                });
            continue;
        }
        let Some(destination) = &destination else {
            continue;
        };
        let (write, outcome) = line.split_once(' ').expect("ID=VALUE OUTCOME");
        let (id, value) = write.split_once('=').expect("ID=VALUE");
        let hex = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
        let id = RegisterId::from_raw(hex(id));
        let host = &destination.vcpus[0];
        let Some(register) = host.get(id) else {
            continue;
        };
        let acceptor = destination.acceptor();
        let acceptance = acceptor.evaluate(host, register, &Value::U64(hex(value)));
        match acceptance.as_bool() {
            None => unknown += 1,
            Some(accepts) if accepts == (outcome == "taken") => correct += 1,
            Some(_) => wrong.push(format!("{} {id}={value} {outcome}", destination.name)),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(correct > 23_200 && unknown < 700, "{correct} {unknown}");
}

/// The verdict on a VM as it is does not contradict the result of a real QEMU.
#[test]
fn no_verdict_on_a_recorded_host_is_contradicted() {
    let vms = recorded_vms();
    let index = host_index();
    let tolerances = Tolerances::default();
    let (mut refused, mut failed) = (Vec::new(), Vec::new());
    for line in fixture("outcomes.jsonl.xz").lines() {
        let outcome: LoadOutcome = serde_json::from_str(line).expect("one outcome a line");
        let Some(host) = host_of(&outcome.destination) else {
            continue;
        };
        let source = &vms[&outcome.source];
        let features = features_of(&outcome.source, &source.vcpus[0].registers);
        let mut destination = destination(&index, &host, features);
        destination.loader = format!("qemu-{}", outcome.qemu).parse().ok();
        let check = Check::new(source, &destination, &tolerances, &Consents::default());
        match check.verdict {
            Verdict::Refused if outcome.loads && !loads_once(&check.plan) => {
                refused.push(outcome.source);
            }
            Verdict::Loads if !outcome.loads => failed.push(outcome.source),
            _ => {}
        }
    }
    // QEMU 10.0 drops services that the guest was offered; 11.1 ignores that KVM refused a
    // register.
    assert_eq!(
        refused,
        [
            "edited/6.16.12__q10.0__neoverse-n1__virt10.0-smp1-b9-psci11-bmap2-nonzero",
            "edited/6.12.107__q11.1__neoverse-n1__virt10.0-smp1-b3-add-unknown-before-tcr2",
        ]
    );
    assert!(failed.is_empty(), "{failed:?}");
}

/// Returns `true` if QEMU loads the VM, and cpreg refuses it only because QEMU could not save it
/// again. The recorded outcomes show loads alone.
fn loads_once(plan: &Plan) -> bool {
    let refusals = plan.decisions_where(|decision| decision.action == Action::Refuse);
    let mut refusals = refusals.iter();
    refusals.len() > 0 && refusals.all(|(_, it)| it.reason == Reason::RemovedAtFirstRun)
}

/// Predictions for one QEMU version.
#[derive(Default)]
struct Tally {
    total: usize,
    correct: usize,
    unknown: usize,
    /// Unknown outcomes that can be predicted once the user says if the guest has a PMU.
    depends_on_pmu: usize,
}

#[test]
#[expect(clippy::print_stdout, reason = "prints the numbers with --nocapture")]
fn no_prediction_by_a_recorded_host_is_wrong() {
    let vms = recorded_vms();
    let index = host_index();
    let mut hosts: BTreeMap<(String, Features), Destination> = BTreeMap::new();
    let mut wrong = String::new();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut outcomes = 0;
    for line in fixture("outcomes.jsonl.xz").lines() {
        let outcome: LoadOutcome = serde_json::from_str(line).expect("one outcome a line");
        let Some(host) = host_of(&outcome.destination) else {
            continue;
        };
        let source = &vms[&outcome.source];
        let destination_vm = &vms[&outcome.destination];
        outcomes += 1;
        // Compare only VMs with the same features.
        let registers = &source.vcpus[0].registers;
        let features = features_of(&outcome.source, registers);
        if features != features_of(&outcome.destination, &destination_vm.vcpus[0].registers) {
            continue;
        }
        let tally = tallies.entry(outcome.qemu.clone()).or_default();
        tally.total += 1;
        let destination = hosts
            .entry((host.clone(), features))
            .or_insert_with(|| destination(&index, &host, features));
        let loader: Loader = format!("qemu-{}", outcome.qemu).parse().expect("a version");
        let load = load::simulate(loader, source, destination);
        let has_undetermined_features = !GuestFeatures::from_registers(registers)
            .undetermined
            .is_empty();
        match load.loads {
            None => tally.unknown += 1,
            Some(loads) => {
                if has_undetermined_features {
                    tally.depends_on_pmu += 1;
                    tally.unknown += 1;
                } else {
                    tally.correct += 1;
                }
                let lines = predict::predicted_lines(loader, Accelerator::Kvm, &load);
                let has_lines = if load.is_complete {
                    lines == outcome.messages
                } else {
                    let mut printed = outcome.messages.iter();
                    lines.iter().all(|line| printed.any(|other| other == line))
                };
                if loads != outcome.loads || !has_lines {
                    let _ = writeln!(
                        wrong,
                        "{} -> {host}/{features}, QEMU {}: {}, predicted {loads}\n  printed:   {:#?}\n  predicted: {lines:#?}",
                        outcome.source, outcome.qemu, outcome.loads, outcome.messages
                    );
                }
            }
        }
    }
    for (qemu, tally) in &tallies {
        let Tally {
            total,
            correct,
            unknown,
            depends_on_pmu,
        } = tally;
        println!(
            "QEMU {qemu}: {correct} of {total} predicted, {unknown} unknown ({depends_on_pmu} of them until the user says whether the guest has a PMU)"
        );
    }
    assert!(wrong.is_empty(), "{wrong}");
    let compared: usize = tallies.values().map(|tally| tally.total).sum();
    let correct: usize = tallies
        .values()
        .map(|tally| tally.correct + tally.depends_on_pmu)
        .sum();
    assert_eq!((outcomes, compared), (731, 731));
    assert_eq!(correct, compared);
}

/// The record of an emulated CPU is right about its kernel, not about the frequency of a real CPU
/// of that name.
#[test]
fn a_real_host_is_not_refused_for_the_frequency_of_an_emulated_one() {
    let index = host_index();
    let emulated = index.resolve("linux-6.12.107/neoverse-n1");
    let emulated = emulated.expect("a recorded host").host.record();
    assert!(emulated.identity.emulated);
    let real = |frequency| {
        let mut host = emulated.clone();
        host.identity.emulated = false;
        host.hardware.counter_frequency = Some(frequency);
        host
    };
    let check = |source: &HostRecord, here: &HostRecord| {
        let vm = source.new_vm(Features::PMU, Program::QEMU);
        let destination = here.destination(Features::PMU, Program::QEMU);
        let destination = Destination {
            loader: Some(Loader::qemu(11, 1)),
            ..destination.expect("it was recorded")
        };
        let (tolerances, consents) = (Tolerances::default(), Consents::default());
        let vm = vm.expect("it was recorded");
        Check::new(&vm, &destination, &tolerances, &consents)
    };
    let real_host = real(25_000_000);
    for (source, here) in [(&real_host, &emulated), (&emulated, &real_host)] {
        let check = check(source, here);
        assert_eq!(check.verdict, Verdict::Loads);
        let mut decisions = check.plan.hardware.iter();
        let frequency = decisions.find(|it| it.fact == HardwareFact::CounterFrequency);
        let frequency = frequency.expect("a decision");
        assert_eq!(frequency.action, HardwareAction::Assume);
        assert_eq!(frequency.lacks_source(), source.identity.emulated);
        assert_eq!(frequency.lacks_destination(), here.identity.emulated);
    }
    assert_eq!(
        check(&real_host, &real(24_000_000)).verdict,
        Verdict::Refused
    );
    assert_eq!(check(&emulated, &emulated).verdict, Verdict::Loads);
}

/// No recorded guest has a feature whose capability its host lacks.
#[test]
fn hosts_have_the_features_of_their_guests() {
    let index = HostIndex::built_in().expect("the checked-in index is valid");
    for host in index.hosts() {
        let record = host.record();
        let lacking = record.lacking_features();
        for features in record.guests.keys() {
            let common = features.intersection(lacking);
            assert!(common.is_empty(), "{}: {common}", host.name());
        }
    }
}

/// Facts of CPU models that QEMU 11.1 emulates: frequency, SVE vector lengths, PMCEID1_EL0.
///
/// The guest of `cpreg probe qemu` reads them on the emulated CPU itself, without KVM. On all
/// models it reads 0x4 in DCZID_EL0, 0x8c00 in ICC_CTLR_EL1 and 0x20001 in PMCEID0_EL0; on `max`
/// with MTE it reads 0x6 in GMID_EL1.
const EMULATED_CPUS: [(&str, u32, Option<u16>, u64); 6] = [
    ("cortex-a57", 62_500_000, None, 0),
    ("cortex-a76", 62_500_000, None, 0x18),
    ("neoverse-n1", 62_500_000, None, 0x18),
    ("neoverse-n2", 62_500_000, Some(0x1), 0x1000_0018),
    ("neoverse-v1", 62_500_000, Some(0x3), 0x1000_0018),
    ("max", 1_000_000_000, Some(0xffff), 0x1000_0018),
];

/// A guest of each recorded kernel reads the facts of the emulated CPU. KVM itself adds the event
/// CHAIN from 6.12 on, and decides the revision of the GIC.
#[test]
fn guests_read_the_facts_of_the_emulated_cpu() {
    const CHAIN: u64 = 1 << 0x1e;
    let index = host_index();
    let mut count = 0;
    for host in index.hosts() {
        let record = host.record();
        let cpu = &record.identity.cpu;
        let known = EMULATED_CPUS.iter().find(|(name, ..)| name == cpu);
        let (_, frequency, lengths, pmceid1) = known.expect("a known CPU model");
        let is_old = ["5.10.223", "6.1.176"].contains(&record.identity.upstream());
        let has_mte = record.identity.mode.contains("mte");
        let expected = HardwareFacts {
            counter_frequency: Some(*frequency),
            vector_lengths: lengths.map(VectorLengths::from_bits),
            dczid: Some(4),
            is_emulated: record.hardware.is_emulated,
            gic: Some(Gic::V3(GicLimits::from_icc_ctlr(0x8c00))),
            gmid: has_mte.then_some(6),
            pmu_events: Some(PmuEvents {
                pmceid0: 0x2_0001 | if is_old { 0 } else { CHAIN },
                pmceid1: *pmceid1,
            }),
            gicd_iidr: Some(match record.identity.upstream() {
                "5.10.223" => 0x4b00_243b,
                _ => 0x4b00_343b,
            }),
            uses_lpis: None,
        };
        assert_eq!(record.hardware, expected, "{}", host.name());
        count += 1;
    }
    assert_eq!(count, 120);
}
