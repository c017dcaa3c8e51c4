//! What the recorded kernels are known to have done, asked of the checked-in history.

use std::collections::BTreeSet;

use cpreg::register::RegisterId;

use super::*;

fn built_in() -> History {
    History::built_in().expect("the checked-in history is one")
}

/// The versions of the kernels that list it for any of the recordings that are asked about.
fn listing(id: RegisterId, asked: impl Fn(&Recording) -> bool) -> Vec<String> {
    let history = built_in();
    let kernels: BTreeSet<usize> = history
        .of(id)
        .filter(|entry| asked(entry.recording))
        .map(|entry| entry.recording.kernel)
        .collect();
    let version = |kernel: usize| history.kernels()[kernel].version.clone();
    kernels.into_iter().map(version).collect()
}

const FROM_6_16: [&str; 5] = ["6.16.12", "6.18.15", "6.19.14", "7.2.12", "7.3.4"];

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
            "5.10.223", "6.1.176", "6.12.43", "6.12.95", "6.12.107", "6.16.12", "6.18.15",
            "6.19.14", "7.2.12", "7.3.4"
        ]
    );
    assert_eq!(history.kernels()[0].release, "5.10.0-32-cloud-arm64");
    assert_eq!(history.recordings().len(), 349);
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
    assert_eq!(listing(RegisterId::PMMIR_EL1, |it| !it.has("pmu")), [""; 0]);
    assert_eq!(listing(RegisterId::OSLSR_EL1, |_| true).len(), 9);
}

#[test]
fn the_psci_version_rose() {
    let history = built_in();
    let value = |version: &str| {
        let mut entries = history.of(RegisterId::PSCI_VERSION);
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
    let pir: Vec<_> = history.of(RegisterId::PIR_EL1).collect();
    assert!(pir.iter().all(|entry| *entry.at_reset == AtReset::Poison));
    let counter = RegisterId::TIMER_CNT;
    assert_eq!(history.of(counter).count(), 349);
    assert!(
        history
            .of(counter)
            .all(|entry| *entry.at_reset == AtReset::Counts)
    );
    assert_eq!(history.value(counter, 0), None);
}

#[test]
fn only_the_vector_lengths_do_not_take_their_own_value_back() {
    let history = built_in();
    let refused: BTreeSet<_> = history
        .registers()
        .filter(|id| history.of(*id).any(|entry| entry.write_back != 0))
        .collect();
    assert_eq!(refused, BTreeSet::from([RegisterId::SVE_VLS]));
    assert!(
        history
            .of(RegisterId::SVE_VLS)
            .all(|entry| entry.write_back == 1)
    );
}

#[test]
fn writable_bits_are_told_by_newer_kernels() {
    let history = built_in();
    let implementation: BTreeSet<_> = history
        .of(RegisterId::MIDR_EL1)
        .filter(|entry| entry.writable.is_some())
        .map(|entry| &*history.kernels()[entry.recording.kernel].version)
        .collect();
    assert_eq!(implementation, BTreeSet::from(FROM_6_16));
    assert!(
        history
            .recordings()
            .iter()
            .all(|it| it.tells_writable == (it.kernel > 1))
    );
}

/// A history with everything that the form has.
fn made() -> History {
    let mut history = History::default();
    let kernel = history.add_kernel(Kernel {
        version: "6.12.1".to_owned(),
        release: "6.12.1-test".to_owned(),
        package: "6.12.1-1".to_owned(),
    });
    for features in [vec![], vec!["pmu".to_owned(), "sve".to_owned()]] {
        let is_second = !features.is_empty();
        let recording = Recording {
            kernel,
            cpu: "neoverse-n1".to_owned(),
            mode: if is_second { "nvhe" } else { "" }.to_owned(),
            features,
            tells_writable: is_second,
        };
        let listed = |id, at_reset| Listed {
            id,
            at_reset,
            write_back: 0,
            writable: None,
        };
        let wide = |bytes: &[u8]| AtReset::Value(Value::Wide(bytes.into()));
        history.add(
            recording,
            [
                listed(
                    RegisterId::SCTLR_EL1,
                    AtReset::of(RegisterId::SCTLR_EL1, Value::Small(is_second.into())),
                ),
                listed(RegisterId::PIR_EL1, AtReset::Poison),
                listed(RegisterId::TIMER_CNT, AtReset::Counts),
                listed(RegisterId::PMMIR_EL1, AtReset::Unreadable(22)),
                listed(
                    RegisterId::v(0),
                    wide(&[1, 2, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]),
                ),
                Listed {
                    writable: Some(0xf0),
                    write_back: u16::from(is_second),
                    ..listed(
                        RegisterId::SVE_VLS,
                        wide(&[if is_second { 0xff } else { 0 }; 64]),
                    )
                },
            ],
        );
    }
    history
}

#[test]
fn what_is_written_is_read() {
    let made = made();
    assert_eq!(History::parse(&made.to_text()), Ok(made));
    let built_in = built_in();
    assert_eq!(History::parse(&built_in.to_text()), Ok(built_in));
}

#[test]
fn what_is_no_history_is_refused() {
    let good = made().to_text();
    let error = |text: &str| History::parse(text).expect_err("it is damaged").to_string();
    assert_eq!(error(""), "line 1 of the history: it is empty");
    assert_eq!(
        error("x"),
        "line 1 of the history: it does not begin with `cpreg-history 1`"
    );
    for (from, to, says) in [
        (
            "kernel 6.12.1 6.12.1-test 6.12.1-1",
            "kernel 6.12.1",
            "a kernel needs version",
        ),
        ("recording 0", "recording 7", "a recording of no kernel"),
        ("set 3", "set 7", "a recording that is not there"),
        ("set 3", "set x", "a set with other than digits"),
        ("counts:2", "counts:99", "a set that is not there"),
        ("counts:2", "counts", "not WHAT:SET"),
        ("counts:2", "often:0", "no hexadecimal number"),
        ("0x09", "0x900000000000000000000000000000009", "more digits"),
        ("register ", "registers ", "no kernel, recording"),
    ] {
        let damaged = good.replacen(from, to, 1);
        assert_ne!(damaged, good, "{from} is not in\n{good}");
        let error = error(&damaged);
        assert!(error.contains(says), "{error}");
    }
}
