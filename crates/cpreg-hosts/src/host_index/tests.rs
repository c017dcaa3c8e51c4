//! Known facts about the recorded kernels, checked against the checked-in index.

use std::collections::BTreeSet;

use cpreg::destination::DroppedValues;
use cpreg::gic::{Gic, GicLimits};
use cpreg::hardware::{PmuEvents, VectorLengths};
use cpreg::register::{RegisterId, Value};

use super::text::BUILT_IN;
use super::*;

fn built_in() -> HostIndex {
    HostIndex::built_in().expect("the checked-in index is valid")
}

/// Returns the versions of the kernels that list the register in a recording that `matches`.
fn listing(id: RegisterId, matches: impl Fn(&Recording) -> bool) -> Vec<String> {
    let index = built_in();
    let kernels: BTreeSet<usize> = index
        .entries_for_register(id)
        .filter(|entry| matches(entry.recording))
        .map(|entry| entry.recording.kernel)
        .collect();
    let version = |kernel: usize| index.kernels()[kernel].version.clone();
    kernels.into_iter().map(version).collect()
}

const FROM_6_16: [&str; 9] = [
    "6.16.3", "6.16.12", "6.17.13", "6.18.15", "6.19.14", "7.0.13", "7.1.13", "7.2.12", "7.3.4",
];

#[test]
fn the_index_has_all_recordings() {
    let index = built_in();
    let versions: Vec<_> = index
        .kernels()
        .iter()
        .map(|kernel| &*kernel.version)
        .collect();
    assert_eq!(
        versions,
        [
            "5.10.223", "6.1.176", "6.12.43", "6.12.95", "6.12.107", "6.16.3", "6.16.12",
            "6.17.13", "6.18.15", "6.19.14", "7.0.13", "7.1.13", "7.2.12", "7.3.4"
        ]
    );
    assert_eq!(index.kernels()[0].release, "5.10.0-32-cloud-arm64");
    assert_eq!(index.host_entries().len(), 120);
    assert_eq!(index.recordings().len(), 513);
    assert_eq!(index.registers().count(), 477);
}

#[test]
fn some_registers_were_listed_for_guests_without_them() {
    for id in [
        RegisterId::TCR2_EL1,
        RegisterId::PIR_EL1,
        RegisterId::PIRE0_EL1,
    ] {
        let without = |recording: &Recording| recording.cpu == "neoverse-n1";
        assert_eq!(listing(id, without), ["6.12.43", "6.12.95", "6.12.107"]);
        let with = |recording: &Recording| recording.cpu == "max";
        assert_eq!(listing(id, with)[3..], FROM_6_16);
    }
}

#[test]
fn some_registers_were_added_later() {
    let bitmap = RegisterId::VENDOR_HYP_BMAP_2;
    assert_eq!(listing(bitmap, |_| true), FROM_6_16);
    assert_eq!(listing(RegisterId::PMMIR_EL1, |_| true), ["7.3.4"]);
    assert_eq!(
        listing(RegisterId::PMMIR_EL1, |recording| !recording
            .has_feature("pmu")),
        [""; 0]
    );
    assert_eq!(listing(RegisterId::OSLSR_EL1, |_| true).len(), 13);
}

#[test]
fn the_psci_version_rose() {
    let index = built_in();
    let value = |version: &str| {
        let mut entries = index.entries_for_register(RegisterId::PSCI_VERSION);
        let entry = entries
            .find(|entry| index.kernels()[entry.recording.kernel].version == version)
            .expect("every kernel lists it");
        index.value(RegisterId::PSCI_VERSION, entry.number)
    };
    assert_eq!(value("5.10.223"), Some(0x1_0000));
    assert_eq!(value("6.12.107"), Some(0x1_0001));
    assert_eq!(value("6.16.12"), Some(0x1_0003));
}

#[test]
fn poison_and_counters_have_no_value() {
    let index = built_in();
    let pir: Vec<_> = index.entries_for_register(RegisterId::PIR_EL1).collect();
    assert!(pir.iter().all(|entry| *entry.at_reset == AtReset::Poison));
    let counter = RegisterId::TIMER_CNT;
    assert_eq!(index.entries_for_register(counter).count(), 513);
    assert!(
        index
            .entries_for_register(counter)
            .all(|entry| *entry.at_reset == AtReset::Counter)
    );
    assert_eq!(index.value(counter, 0), None);
}

#[test]
fn only_the_vector_lengths_refuse_their_own_value() {
    let index = built_in();
    let refused: BTreeSet<_> = index
        .registers()
        .filter(|id| {
            index
                .entries_for_register(*id)
                .any(|entry| entry.write_back != 0)
        })
        .collect();
    assert_eq!(refused, BTreeSet::from([RegisterId::SVE_VLS]));
    assert!(
        index
            .entries_for_register(RegisterId::SVE_VLS)
            .all(|entry| entry.write_back == 1)
    );
}

#[test]
fn newer_kernels_report_writable_bits() {
    let index = built_in();
    let versions: BTreeSet<_> = index
        .entries_for_register(RegisterId::MIDR_EL1)
        .filter(|entry| entry.writable.is_some())
        .map(|entry| &*index.kernels()[entry.recording.kernel].version)
        .collect();
    assert_eq!(versions, BTreeSet::from(FROM_6_16));
    assert!(
        index
            .recordings()
            .iter()
            .all(|recording| recording.has_writable_masks == (recording.kernel > 1))
    );
}

/// The binary contains the index, and each command that names a kernel parses it.
#[test]
fn the_checked_in_index_is_small() {
    const MAX_LEN: usize = 300_000;
    assert!(BUILT_IN.len() < MAX_LEN, "{} bytes", BUILT_IN.len());
}

/// Returns a field that keeps two values, and one that drops a value.
fn fields() -> Vec<AcceptedField> {
    let dropped = DroppedValues {
        reads: 0,
        values: 2,
    };
    let fields = [
        AcceptedField::new(43, 40, 1, vec![dropped]),
        AcceptedField::new(59, 56, 3, Vec::new()),
    ];
    fields.map(|field| field.expect("a field")).to_vec()
}

/// Returns an index of two hosts with everything that the format has.
fn example() -> HostIndex {
    let mut index = HostIndex::default();
    for is_second in [false, true] {
        let wide = |bytes: &[u8]| AtReset::Value(Value::Bytes(bytes.into()));
        let register = |id, at_reset| RegisterRecord {
            id,
            at_reset,
            differs_by_vcpu: false,
            write_back: 0,
            trials: Vec::new(),
            fields: None,
        };
        let trial = |value, errno, read_back| WriteTrial {
            value,
            errno,
            read_back,
        };
        let sctlr = AtReset::from_value(RegisterId::SCTLR_EL1, Value::U64(is_second.into()));
        let registers = vec![
            register(RegisterId::TIMER_CNT, AtReset::Counter),
            RegisterRecord {
                differs_by_vcpu: true,
                trials: vec![trial(7, 22, is_second.into()), trial(8, 0, 9)],
                fields: is_second.then(fields),
                ..register(RegisterId::SCTLR_EL1, sctlr)
            },
            register(RegisterId::PMMIR_EL1, AtReset::Unreadable(22)),
            register(RegisterId::PIR_EL1, AtReset::Poison),
            register(
                RegisterId::v(0),
                wide(&[1, 2, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]),
            ),
            RegisterRecord {
                write_back: u16::from(is_second),
                ..register(
                    RegisterId::SVE_VLS,
                    wide(&[if is_second { 0xff } else { 0 }; 64]),
                )
            },
        ];
        let guest = GuestRecord {
            registers: crate::record::testing::sorted(registers),
            writable: is_second.then(|| BTreeMap::from([(RegisterId::SVE_VLS, 0xf0)])),
        };
        index.add_record(&HostRecord {
            identity: Identity {
                release: "6.12.1-test".to_owned(),
                version: "#1 SMP Debian 6.12.1-1 (2026)".to_owned(),
                midr: 0xf0510,
                cpu: "neoverse-n1".to_owned(),
                mode: if is_second { "nvhe" } else { "" }.to_owned(),
                emulated: is_second,
                cpus: Vec::new(),
            },
            capabilities: BTreeMap::from([("KVM_CAP_ARM_SVE".to_owned(), 1)]),
            guests: BTreeMap::from([(Features::PMU | Features::SVE, guest)]),
            hardware: HardwareFacts {
                counter_frequency: is_second.then_some(24_000_000),
                vector_lengths: is_second.then_some(VectorLengths::from_bits(3)),
                dczid: is_second.then_some(4),
                is_emulated: false,
                gic: is_second.then_some(Gic::V3(GicLimits::from_icc_ctlr(0x8c00))),
                gmid: is_second.then_some(6),
                pmu_events: is_second.then_some(PmuEvents {
                    pmceid0: 0x7fff_0f1f,
                    pmceid1: 0,
                }),
                gicd_iidr: is_second.then_some(0x4b00_343b),
                uses_lpis: None,
            },
        });
    }
    index
}

#[test]
fn equal_parts_are_written_once() {
    let index = example();
    let text = index.to_text();
    let beginning = "\
cpreg-history 4
kernel 6.12.1-test #1%20SMP%20Debian%206.12.1-1%20(2026)
capabilities KVM_CAP_ARM_SVE=1
host 0 neoverse-n1 - 0xf0510 real 0
host 0 neoverse-n1 nvhe 0xf0510 emulated 0 frequency=24000000 lengths=0x3 dczid=0x4 icc_ctlr=0x8c00 gmid=0x6 pmceid=0x7fff0f1f,0x0 gicd_iidr=0x4b00343b
recording 0 pmu,sve
recording 1 pmu,sve masks
set 1
set 2
set 3
trials 0x7=22 0x8>0x9
fields 43-40=0x1,0x2>0 59-56=0x3
register ";
    assert!(text.starts_with(beginning), "{text}");
    assert!(text.contains(" differs:2 tried=0:2 fields=0:1\n"), "{text}");
    let kernel = &index.kernels()[0];
    assert_eq!((&*kernel.version, &*kernel.package), ("6.12.1", "6.12.1-1"));
}

#[test]
fn the_text_form_round_trips() {
    let index = example();
    assert_eq!(HostIndex::parse(&index.to_text()).expect("an index"), index);
    let built_in = built_in();
    let read = HostIndex::parse(&built_in.to_text());
    assert_eq!(read.expect("an index"), built_in);
}

/// The text form loses nothing that was recorded, whatever other hosts the index has.
#[test]
fn records_round_trip_through_the_text() {
    use proptest::prelude::*;

    let config = ProptestConfig::with_cases(64);
    let records = proptest::collection::vec(crate::record::testing::any_record(), 0..5);
    proptest!(config, |(records in records)| {
        let mut index = HostIndex::default();
        for record in &records {
            index.add_record(record);
        }
        let read = HostIndex::parse(&index.to_text()).expect("an index");
        prop_assert_eq!(&read, &index);
        let parsed: Vec<_> = (0..records.len()).filter_map(|host| read.record(host)).collect();
        prop_assert_eq!(parsed, records);
        prop_assert_eq!(read.record(read.host_entries().len()), None);
    });
}

/// Converts all recorded hosts to files and back.
#[test]
fn recorded_hosts_round_trip_through_files() {
    let index = built_in();
    let mut copy = HostIndex::default();
    let mut largest = 0;
    for host in index.hosts() {
        let json = host.record().to_json().expect("JSON");
        largest = largest.max(json.len());
        let record = HostRecord::from_json(json.as_bytes()).expect("a recorded host");
        assert_eq!(record, host.record(), "{}", host.name());
        copy.add_record(&record);
    }
    assert_eq!(copy.to_text(), index.to_text());
    assert!(largest < 150_000, "{largest} bytes");
}

#[test]
fn malformed_text_is_refused() {
    let good = example().to_text();
    let error = |text: &str| {
        HostIndex::parse(text)
            .expect_err("malformed text")
            .to_string()
    };
    assert_eq!(error(""), "host index, line 1: the text is empty");
    assert_eq!(error("x"), "host index, line 1: expected `cpreg-history 4`");
    for (from, to, message) in [
        ("kernel 6.12.1-test ", "kernel ", "a kernel needs release"),
        ("%20", "%2", "an invalid escape"),
        ("ARM_SVE=1", "ARM_SVE", "not NAME=NUMBER"),
        ("host 0", "host 3", "a host of an undefined kernel"),
        ("host 0 neoverse-n1", "host 0", "not a hexadecimal number"),
        ("emulated 0", "imagined 0", "neither emulated nor real"),
        ("real 0", "real 1", "undefined capabilities"),
        (
            "recording 0",
            "recording 7",
            "a recording of an undefined host",
        ),
        ("0 pmu,sve", "0 avx", "a recording without features"),
        ("=22", "=x", "an errno that is not a number"),
        ("tried=0", "tried=1", "undefined trials"),
        ("fields=0", "fields=1", "undefined fields"),
        ("43-40=", "43=", "a field that is not"),
        ("43-40=", "40-43=", "impossible values"),
        ("0x2>0", "0x1>0", "impossible values"),
        ("dczid=", "dc=", "an unknown hardware fact"),
        ("frequency=2", "frequency=x", "not NAME=NUMBER"),
        ("set 3", "set 7", "an undefined recording"),
        ("set 3", "set x", "not a digit"),
        ("counter:2", "counter:99", "an undefined set"),
        ("counter:2", "counter", "not CONTENT:SET"),
        ("counter:2", "often:0", "not a hexadecimal number"),
        (
            "0x09",
            "0x900000000000000000000000000000009",
            "of the register's size",
        ),
        ("register ", "registers ", "expected a kernel"),
    ] {
        let damaged = good.replacen(from, to, 1);
        assert_ne!(damaged, good, "{from} is not in\n{good}");
        let error = error(&damaged);
        assert!(error.contains(message), "{error}");
    }
}
