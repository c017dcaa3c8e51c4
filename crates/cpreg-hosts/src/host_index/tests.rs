//! What the recorded kernels are known to have done, asked of the checked-in history.

use std::collections::BTreeSet;

use cpreg::register::{RegisterId, Value};

use super::text::BUILT_IN;
use super::*;

fn built_in() -> HostIndex {
    HostIndex::built_in().expect("the checked-in history is one")
}

/// The versions of the kernels that list it for any of the recordings that are asked about.
fn listing(id: RegisterId, asked: impl Fn(&Recording) -> bool) -> Vec<String> {
    let history = built_in();
    let kernels: BTreeSet<usize> = history
        .entries_for_register(id)
        .filter(|entry| asked(entry.recording))
        .map(|entry| entry.recording.kernel)
        .collect();
    let version = |kernel: usize| history.kernels()[kernel].version.clone();
    kernels.into_iter().map(version).collect()
}

const FROM_6_16: [&str; 9] = [
    "6.16.3", "6.16.12", "6.17.13", "6.18.15", "6.19.14", "7.0.13", "7.1.13", "7.2.12", "7.3.4",
];

#[test]
fn the_recordings_are_all_there() {
    let history = built_in();
    let versions: Vec<_> = history
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
    assert_eq!(history.kernels()[0].release, "5.10.0-32-cloud-arm64");
    assert_eq!(history.host_entries().len(), 120);
    assert_eq!(history.recordings().len(), 513);
    assert_eq!(history.registers().count(), 477);
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
fn some_registers_came_late() {
    let bitmap = RegisterId::VENDOR_HYP_BMAP_2;
    assert_eq!(listing(bitmap, |_| true), FROM_6_16);
    assert_eq!(listing(RegisterId::PMMIR_EL1, |_| true), ["7.3.4"]);
    assert_eq!(
        listing(RegisterId::PMMIR_EL1, |it| !it.has_feature("pmu")),
        [""; 0]
    );
    assert_eq!(listing(RegisterId::OSLSR_EL1, |_| true).len(), 13);
}

#[test]
fn the_psci_version_rose() {
    let history = built_in();
    let value = |version: &str| {
        let mut entries = history.entries_for_register(RegisterId::PSCI_VERSION);
        let entry = entries
            .find(|entry| history.kernels()[entry.recording.kernel].version == version)
            .expect("every kernel lists it");
        history.value(RegisterId::PSCI_VERSION, entry.number)
    };
    assert_eq!(value("5.10.223"), Some(0x1_0000));
    assert_eq!(value("6.12.107"), Some(0x1_0001));
    assert_eq!(value("6.16.12"), Some(0x1_0003));
}

#[test]
fn poison_and_counters_are_no_values() {
    let history = built_in();
    let pir: Vec<_> = history.entries_for_register(RegisterId::PIR_EL1).collect();
    assert!(pir.iter().all(|entry| *entry.at_reset == AtReset::Poison));
    let counter = RegisterId::TIMER_CNT;
    assert_eq!(history.entries_for_register(counter).count(), 513);
    assert!(
        history
            .entries_for_register(counter)
            .all(|entry| *entry.at_reset == AtReset::Counter)
    );
    assert_eq!(history.value(counter, 0), None);
}

#[test]
fn only_the_vector_lengths_do_not_take_their_own_value_back() {
    let history = built_in();
    let refused: BTreeSet<_> = history
        .registers()
        .filter(|id| {
            history
                .entries_for_register(*id)
                .any(|entry| entry.write_back != 0)
        })
        .collect();
    assert_eq!(refused, BTreeSet::from([RegisterId::SVE_VLS]));
    assert!(
        history
            .entries_for_register(RegisterId::SVE_VLS)
            .all(|entry| entry.write_back == 1)
    );
}

#[test]
fn writable_bits_are_told_by_newer_kernels() {
    let history = built_in();
    let implementation: BTreeSet<_> = history
        .entries_for_register(RegisterId::MIDR_EL1)
        .filter(|entry| entry.writable.is_some())
        .map(|entry| &*history.kernels()[entry.recording.kernel].version)
        .collect();
    assert_eq!(implementation, BTreeSet::from(FROM_6_16));
    assert!(
        history
            .recordings()
            .iter()
            .all(|it| it.has_writable_masks == (it.kernel > 1))
    );
}

/// The binary carries it, and every start of a command that names a kernel reads it.
#[test]
fn the_checked_in_history_is_small() {
    const MOST: usize = 300_000;
    assert!(BUILT_IN.len() < MOST, "{} bytes", BUILT_IN.len());
}

/// A history of two hosts, with everything that the form has.
fn made() -> HostIndex {
    let mut history = HostIndex::default();
    for is_second in [false, true] {
        let wide = |bytes: &[u8]| AtReset::Value(Value::Bytes(bytes.into()));
        let register = |id, at_reset| RegisterRecord {
            id,
            at_reset,
            differs_by_vcpu: false,
            write_back: 0,
            trials: Vec::new(),
        };
        let trial = |value, errno, reads| WriteTrial {
            value,
            errno,
            read_back: reads,
        };
        let sctlr = AtReset::from_value(RegisterId::SCTLR_EL1, Value::U64(is_second.into()));
        let registers = vec![
            register(RegisterId::TIMER_CNT, AtReset::Counter),
            RegisterRecord {
                differs_by_vcpu: true,
                trials: vec![trial(7, 22, is_second.into()), trial(8, 0, 9)],
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
        history.add_record(&HostRecord {
            identity: Identity {
                release: "6.12.1-test".to_owned(),
                version: "#1 SMP Debian 6.12.1-1 (2026)".to_owned(),
                midr: 0xf0510,
                cpu: "neoverse-n1".to_owned(),
                mode: if is_second { "nvhe" } else { "" }.to_owned(),
                emulated: is_second,
            },
            capabilities: BTreeMap::from([("KVM_CAP_ARM_SVE".to_owned(), 1)]),
            guests: BTreeMap::from([(Features::PMU | Features::SVE, guest)]),
        });
    }
    history
}

#[test]
fn what_is_alike_is_written_once() {
    let (made, text) = (made(), made().to_text());
    let beginning = "\
cpreg-history 2
kernel 6.12.1-test #1%20SMP%20Debian%206.12.1-1%20(2026)
capabilities KVM_CAP_ARM_SVE=1
host 0 neoverse-n1 - 0xf0510 real 0
host 0 neoverse-n1 nvhe 0xf0510 emulated 0
recording 0 pmu,sve
recording 1 pmu,sve masks
set 1
set 2
set 3
trials 0x7=22 0x8>0x9
register ";
    assert!(text.starts_with(beginning), "{text}");
    assert!(text.contains(" differs:2 tried=0:2\n"), "{text}");
    let kernel = &made.kernels()[0];
    assert_eq!((&*kernel.version, &*kernel.package), ("6.12.1", "6.12.1-1"));
}

#[test]
fn what_is_written_is_read() {
    let made = made();
    assert_eq!(HostIndex::parse(&made.to_text()).expect("it is one"), made);
    let built_in = built_in();
    let read = HostIndex::parse(&built_in.to_text());
    assert_eq!(read.expect("it is one"), built_in);
}

/// Nothing that was recorded is lost on the way through the text, whatever other hosts are beside it.
#[test]
fn a_record_comes_back_as_it_was() {
    use proptest::prelude::*;

    let config = ProptestConfig::with_cases(64);
    let records = proptest::collection::vec(crate::record::testing::any_record(), 0..5);
    proptest!(config, |(records in records)| {
        let mut history = HostIndex::default();
        for record in &records {
            history.add_record(record);
        }
        let read = HostIndex::parse(&history.to_text()).expect("it is one");
        prop_assert_eq!(&read, &history);
        let back: Vec<_> = (0..records.len()).filter_map(|host| read.record(host)).collect();
        prop_assert_eq!(back, records);
        prop_assert_eq!(read.record(read.host_entries().len()), None);
    });
}

/// All recorded hosts, through their files and back.
#[test]
fn recorded_hosts_are_files_too() {
    let history = built_in();
    let mut again = HostIndex::default();
    let mut largest = 0;
    for host in history.hosts() {
        let json = host.record().to_json().expect("JSON");
        largest = largest.max(json.len());
        let record = HostRecord::from_json(json.as_bytes()).expect("a recorded host");
        assert_eq!(record, host.record(), "{}", host.name());
        again.add_record(&record);
    }
    assert_eq!(again.to_text(), history.to_text());
    assert!(largest < 150_000, "{largest} bytes");
}

#[test]
fn what_is_no_history_is_refused() {
    let good = made().to_text();
    let error = |text: &str| {
        HostIndex::parse(text)
            .expect_err("it is damaged")
            .to_string()
    };
    assert_eq!(error(""), "line 1 of the history: it is empty");
    assert_eq!(
        error("x"),
        "line 1 of the history: it does not begin with `cpreg-history 2`"
    );
    for (from, to, says) in [
        ("kernel 6.12.1-test ", "kernel ", "a kernel needs release"),
        ("%20", "%2", "a word with a %"),
        ("ARM_SVE=1", "ARM_SVE", "not NAME=NUMBER"),
        ("host 0", "host 3", "a host of no kernel"),
        ("host 0 neoverse-n1", "host 0", "no hexadecimal number"),
        ("emulated 0", "imagined 0", "neither emulated nor real"),
        ("real 0", "real 1", "capabilities that are not there"),
        ("recording 0", "recording 7", "a recording of no host"),
        ("0 pmu,sve", "0 avx", "a recording without features"),
        ("=22", "=x", "an errno that is no number"),
        ("tried=0", "tried=1", "trials that are not there"),
        ("set 3", "set 7", "a recording that is not there"),
        ("set 3", "set x", "a set with other than digits"),
        ("counts:2", "counts:99", "a set that is not there"),
        ("counts:2", "counts", "not WHAT:SET"),
        ("counts:2", "often:0", "no hexadecimal number"),
        (
            "0x09",
            "0x900000000000000000000000000000009",
            "does not fit its register",
        ),
        ("register ", "registers ", "no kernel, host, recording"),
    ] {
        let damaged = good.replacen(from, to, 1);
        assert_ne!(damaged, good, "{from} is not in\n{good}");
        let error = error(&damaged);
        assert!(error.contains(says), "{error}");
    }
}
