//! `cpreg explain` with lines that people pasted: the kind, the situation, the meaning and the next
//! step of each answer.
//!
//! `tests/fixtures/symptoms` has the lines of public reports, with details replaced.
//! `tests/fixtures/unrelated` has the lines of a log that tells of no VM.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::run::{Run, cpreg, cpreg_in, streams};

/// Expected answer to the lines of a file.
struct Answer {
    file: &'static str,
    kind: &'static str,
    situation: &'static str,
    /// Words of the meaning and the causes.
    words: &'static [&'static str],
    /// Words of one of the commands and its result.
    steps: &'static [&'static str],
    /// Words that the answer must not contain.
    absent: &'static [&'static str],
}

const ANSWERS: &[Answer] = &[
    Answer {
        file: "A1-gassert",
        kind: "abort",
        situation: "load",
        words: &[
            "QEMU 11.0 has this bug",
            "HVF",
            "11.1 fixes it",
            "QEMU 10.0 or 11.1",
        ],
        steps: &["qemu-system-aarch64 --version"],
        absent: &[],
    },
    Answer {
        file: "B1-start-biglittle",
        kind: "start",
        situation: "start",
        words: &["did not start", "two kinds of cores", "RK3588", "Linux 6.3"],
        steps: &["qm set VMID --affinity 4-7"],
        absent: &["PSCI", "cpreg check"],
    },
    Answer {
        file: "B2-init-biglittle",
        kind: "vcpu-init",
        situation: "start",
        words: &["did not start", "two kinds of cores", "RK3399"],
        steps: &["virsh vcpupin VM VCPU 4-7 --config", "Linux 6.3"],
        absent: &["cpreg check", "cpreg diff"],
    },
    Answer {
        file: "C1-count-old",
        kind: "register-count",
        situation: "load",
        words: &[
            "No recorded list has 233 or 232",
            "ID_AA64ZFR0_EL1",
            "5.2 to 5.9",
            "is 0",
        ],
        steps: &["cpreg check"],
        absent: &["6.12", "7.3", "TCG"],
    },
    Answer {
        file: "C2-count-tcg",
        kind: "register-count",
        situation: "load",
        words: &[
            "TCG",
            "the host's kernel is not the reason",
            "same QEMU version",
        ],
        steps: &["qemu-system-aarch64 --version"],
        absent: &["Linux", "recorded under KVM"],
    },
    Answer {
        file: "C4-count-pmu",
        kind: "register-count",
        situation: "load",
        words: &["74 registers of the PMU", "pmu=on", "pmu=off"],
        steps: &["cpreg check"],
        absent: &["6.1.176"],
    },
    Answer {
        file: "D1-gem5",
        kind: "register",
        situation: "unknown",
        words: &["OSLSR_EL1", "EINVAL"],
        steps: &["cpreg explain OSLSR_EL1"],
        absent: &["the destination"],
    },
    Answer {
        file: "D3-strace",
        kind: "register",
        situation: "unknown",
        words: &["MAIR_EL1", "ENOENT", "lacks the register"],
        steps: &["cpreg explain MAIR_EL1"],
        absent: &["QEMU 11"],
    },
    Answer {
        file: "D4-own",
        kind: "register",
        situation: "unknown",
        words: &["ID_AA64PFR0_EL1"],
        steps: &["cpreg explain ID_AA64PFR0_EL1 0x100010011111111"],
        absent: &[],
    },
    Answer {
        file: "E1-its-save",
        kind: "interrupt-controller",
        situation: "save",
        words: &[
            "KVM_DEV_ARM_ITS_SAVE_TABLES",
            "GICv4",
            "at a shutdown the message is harmless",
        ],
        steps: &["virsh detach-device"],
        absent: &["another interrupt controller"],
    },
    Answer {
        file: "E3-dev-enoent",
        kind: "device",
        situation: "load",
        words: &[
            "`pl011`",
            "a subsection",
            "ENOENT",
            "source's QEMU is newer",
        ],
        steps: &["qemu-system-aarch64 --version"],
        absent: &["command lines differ"],
    },
    Answer {
        file: "F1-machine",
        kind: "machine-type",
        situation: "restore",
        words: &["`virt-6.2`", "QEMU 6.2 to 12.1"],
        steps: &[
            "qemu-system-aarch64 -machine virt-6.2 … -loadvm",
            "cp DISK.qcow2 COPY.qcow2",
            "qemu-img snapshot -d SNAPSHOT COPY.qcow2",
        ],
        absent: &[],
    },
    Answer {
        file: "F2-max",
        kind: "cpu-section",
        situation: "load",
        words: &["-cpu max", "Use the same QEMU", "named model"],
        steps: &["-cpu neoverse-n1"],
        absent: &[],
    },
    Answer {
        file: "G2-vz",
        kind: "snapshot",
        situation: "restore",
        words: &[
            "Virtualization framework",
            "Only the framework",
            "bound to the machine",
        ],
        steps: &["sw_vers"],
        absent: &["QEMU"],
    },
    Answer {
        file: "H1-fc-version",
        kind: "snapshot",
        situation: "restore",
        words: &[
            "version 6.0.0",
            "Firecracker 1.12 writes",
            "8: 1.13 and 1.14",
        ],
        steps: &[
            "firecracker --describe-snapshot",
            "firecracker --snapshot-version",
        ],
        absent: &[],
    },
    Answer {
        file: "H2-fc-bitcode",
        kind: "snapshot",
        situation: "restore",
        words: &["cannot decode the file", "another release wrote it"],
        steps: &["firecracker --describe-snapshot"],
        absent: &["QEMU"],
    },
    Answer {
        file: "H3-fc-bincode",
        kind: "snapshot",
        situation: "restore",
        words: &["cannot decode the file", "another release wrote it"],
        steps: &["firecracker --describe-snapshot"],
        absent: &["QEMU"],
    },
    Answer {
        file: "H4-fc-old",
        kind: "snapshot",
        situation: "restore",
        words: &["cannot decode the file", "another release wrote it"],
        steps: &["firecracker --describe-snapshot"],
        absent: &["QEMU"],
    },
    Answer {
        file: "I1-ch-frequency",
        kind: "snapshot",
        situation: "restore",
        words: &["62500000 Hz", "1000000000 Hz", "Cloud Hypervisor refuses"],
        steps: &["cpreg probe kvm"],
        absent: &["QEMU"],
    },
];

fn fixtures(folder: &str) -> PathBuf {
    streams().join("..").join(folder)
}

/// Returns the only failure of the answer.
fn only_failure(run: &Run) -> Value {
    let document = run.json();
    let failures = document["failures"].as_array().expect("a list");
    assert_eq!(failures.len(), 1, "{run}");
    failures[0].clone()
}

fn explain_lines(lines: &[&str]) -> Value {
    only_failure(&cpreg(&[&["explain", "--format", "json"], lines].concat()))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// Returns the meaning and the causes.
fn prose(failure: &Value) -> String {
    let mut prose = text(&failure["meaning"]).to_owned();
    for cause in failure["causes"].as_array().expect("a list") {
        prose = format!("{prose}\n{}", text(&cause["description"]));
    }
    prose
}

/// Returns the commands with their results.
fn steps(failure: &Value) -> String {
    let steps = failure["next_steps"].as_array().expect("a list").iter();
    let steps = steps.map(|step| format!("{}: {}", text(&step["command"]), text(&step["result"])));
    steps.collect::<Vec<_>>().join("\n")
}

fn check(answer: &Answer, failure: &Value) {
    let file = answer.file;
    assert_eq!(failure["kind"], answer.kind, "{file}");
    assert_eq!(failure["situation"], answer.situation, "{file}");
    let prose = prose(failure);
    for word in answer.words {
        assert!(prose.contains(word), "{file}: no `{word}` in {prose}");
    }
    let steps = steps(failure);
    for step in answer.steps {
        assert!(steps.contains(step), "{file}: no `{step}` in {steps}");
    }
    for word in answer.absent {
        let is_absent = !prose.contains(word) && !steps.contains(word);
        assert!(is_absent, "{file}: `{word}` in {prose}\n{steps}");
    }
}

#[test]
fn pasted_lines_are_answered() {
    let folder = fixtures("symptoms");
    for answer in ANSWERS {
        let file = format!("{}.txt", answer.file);
        let arguments = ["explain", "--format", "json", "--file", &file];
        let run = cpreg_in(&folder, &arguments);
        assert_eq!(run.status, Some(0), "{run}");
        check(answer, &only_failure(&run));
    }
    let files = fs::read_dir(&folder).expect("the fixtures").count();
    assert_eq!(files, ANSWERS.len(), "files without an expected answer");
}

/// Every reported line has a command to type, and a line about a VM says where the VM is.
#[test]
fn every_answer_has_a_next_step_and_a_place() {
    let folder = fixtures("words");
    let mut failures = 0;
    for entry in fs::read_dir(&folder).expect("the fixtures") {
        let path = entry.expect("an entry").path();
        let document = cpreg(&[
            "explain",
            "--format",
            "json",
            "--file",
            path.to_str().expect("a path"),
        ])
        .json();
        for failure in document["failures"].as_array().expect("a list") {
            failures += 1;
            let has_step = !failure["next_steps"].as_array().expect("a list").is_empty();
            assert!(has_step, "{failure}");
            let has_no_vm = matches!(text(&failure["situation"]), "guest" | "unknown")
                || failure["kind"] == "warnings";
            assert_eq!(failure["vm_state"].is_null(), has_no_vm, "{failure}");
        }
    }
    assert!(failures > 60, "only {failures}");
}

#[test]
fn broken_and_glued_lines_are_answered() {
    for lines in [
        &[
            "ERROR:../target/arm/machine.c:1045:cpu_pre_load: assertion failed: (!cpu->cpreg_",
            "vmstate_indexes)",
        ][..],
        &[
            "ERROR:../target/arm/machine.c:1045:cpu_pre_load:",
            "assertion failed: (!cpu->cpreg_vmstate_indexes)",
        ],
        &[
            "ERROR:../target/arm/machine.c:1045:cpu_pre_load: assertion failed: (!cpu->x)Bail out! ERROR:../target/arm/machine.c:1045:cpu_pre_load: assertion failed: (!cpu->x)",
        ],
    ] {
        let run = cpreg(&[&["explain", "--format", "json"], lines].concat());
        let document = run.json();
        assert_eq!(document["failures"][0]["kind"], "abort", "{run}");
        let meaning = text(&document["failures"][0]["meaning"]);
        assert!(meaning.contains("QEMU 11.0 has this bug"), "{run}");
    }
    let broken = explain_lines(&[
        "qemu-system-aarch64: Invalid value 258 expecting",
        "positive value <= 256",
    ]);
    assert_eq!(broken["kind"], "register-count");
    let glued = explain_lines(&[
        "Invalid value 258 expecting positive value <= 2562026-11-21T22:14:01.5Z qemu-system-aarch64: Failed to load cpu:cpreg_vmstate_array_lenqemu-system-aarch64: load of migration failed: Invalid argument",
    ]);
    assert_eq!(glued["kind"], "register-count");
    assert!(
        text(&glued["meaning"]).contains("the destination 256."),
        "{glued}"
    );
}

/// The lines of a command line, before the error or in the same line, decide the causes.
#[test]
fn command_line_decides_causes() {
    let count = [
        "Invalid value 258 expecting positive value <= 256",
        "Failed to load cpu:cpreg_vmstate_array_len",
    ];
    let explain = |option: &'static str| prose(&explain_lines(&[&[option], &count[..]].concat()));
    let kvm = explain("/usr/bin/qemu-system-aarch64 -machine virt,accel=kvm -cpu host \\");
    assert!(
        kvm.contains("Linux 6.12.43") && !kvm.contains("TCG"),
        "{kvm}"
    );
    let tcg = explain("/usr/bin/qemu-system-aarch64 -accel tcg -cpu max \\");
    assert!(
        tcg.contains("TCG") && !tcg.contains("Linux 6.12.43"),
        "{tcg}"
    );

    let section = [
        "error while loading state for instance 0x0 of device 'cpu'",
        "load of migration failed: Operation not permitted",
    ];
    let explain = |option: &'static str| prose(&explain_lines(&[&[option], &section[..]].concat()));
    let max = explain("qemu-system-aarch64 -cpu max,sve=off \\");
    assert!(
        max.starts_with("a vCPU's registers") && max.contains("\n`max` has other"),
        "{max}"
    );
    let named = explain("qemu-system-aarch64 -cpu neoverse-n1 \\");
    assert!(!named.contains("`max`"), "{named}");
}

/// A section's error tells why the device did not load.
#[test]
fn errors_of_sections_are_told_apart() {
    for (error, words) in [
        ("No such file or directory", "a subsection"),
        ("Invalid argument", "another format"),
        ("Operation not permitted", "the device refused it"),
        ("Input/output error", "the stream ended"),
    ] {
        let failure = explain_lines(&[
            "error while loading state for instance 0x0 of device '0000:00:02.0/virtio-blk'",
            &format!("load of migration failed: {error}"),
        ]);
        assert_eq!(failure["kind"], "device");
        assert!(text(&failure["meaning"]).contains(words), "{failure}");
    }
}

#[test]
fn refused_and_stopped_migrations_are_answered() {
    for (line, kind, words, step) in [
        (
            "error: Requested operation is not valid: Live migration disabled due to MTE enabled",
            "migration-blocked",
            "MTE",
            "mte=off",
        ),
        (
            "qemu-system-aarch64: This operating system kernel does not support vGICv3 migration",
            "migration-blocked",
            "interrupt controller",
            "uname -r",
        ),
        (
            "qemu-system-aarch64: Detected IO failure for postcopy. Migration paused.",
            "postcopy",
            "each side has a part of its RAM",
            "--postcopy-resume",
        ),
    ] {
        let failure = explain_lines(&[line]);
        assert_eq!(failure["kind"], kind, "{failure}");
        assert!(text(&failure["meaning"]).contains(words), "{failure}");
        assert!(steps(&failure).contains(step), "{failure}");
    }
}

/// A guest's own access is no failure of the host, and no migration.
#[test]
fn messages_about_guests_are_no_failed_load() {
    let access = explain_lines(&[
        "kvm [2201]: Unsupported guest sys_reg access at: ffff800010c3a5d4 [600000c5]",
        " { Op0( 3), Op1( 0), CRn( 0), CRm( 4), Op2( 4), func_read },",
    ]);
    assert_eq!(access["kind"], "guest");
    assert!(
        text(&access["meaning"]).contains("ID_AA64ZFR0_EL1"),
        "{access}"
    );
    let cores = explain_lines(&[
        "CPU features: SANITY CHECK: Unexpected variation in SYS_ID_AA64MMFR0_EL1. Boot CPU: 0x00000000001122, CPU4: 0x00000000101122",
    ]);
    assert_eq!(cores["kind"], "guest");
    assert!(
        text(&cores["meaning"]).contains("ID_AA64MMFR0_EL1"),
        "{cores}"
    );
}

#[test]
fn unrelated_log_is_not_explained() {
    let folder = fixtures("unrelated");
    let log = fs::read_to_string(folder.join("log.txt")).expect("the log");
    assert_eq!(log.lines().count(), 500);
    let run = cpreg_in(
        &folder,
        &["explain", "--format", "json", "--file", "log.txt"],
    );
    let document = run.json();
    assert_eq!(document["failures"], Value::Array(Vec::new()), "{run}");
    assert_eq!(document["unknown_lines"], Value::Array(Vec::new()), "{run}");
    assert_eq!(document["skipped_lines"], 500);
    assert_eq!(run.status, Some(3), "{run}");
    // Each line by itself, as a user may paste it.
    for line in log.lines() {
        let statements = cpreg_explain::parse_line(line);
        assert!(
            cpreg_explain::is_setting_only(&statements),
            "{line}: {statements:?}"
        );
    }
}
