//! `cpreg explain` with error lines. `tests/fixtures/words` has real ones with their statements and
//! origin.
//!
//! A case begins with `# from:`, `# kind:` and `# says:` (each statement, shortened by [`short`],
//! between bars). Its lines follow. The cases of `made-up.txt` are composed from the programs'
//! sources; all others are recorded lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use cpreg_explain::{Errno, LoadFailures, Symptom, explain, parse_line};
use insta::assert_snapshot;

use crate::fixtures::folder_with;
use crate::run::{Run, command, cpreg, cpreg_in, streams};

struct MessageCase {
    origin: String,
    kind: String,
    symptoms: String,
    lines: String,
}

fn fixtures() -> PathBuf {
    streams().join("../words")
}

/// Returns the cases, by file.
fn cases() -> BTreeMap<String, Vec<MessageCase>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(fixtures()).expect("the fixtures") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("text");
        let cases = text.split("# from: ").skip(1).map(case).collect();
        let name = path.file_stem().expect("a name").to_string_lossy();
        files.insert(name.into_owned(), cases);
    }
    files
}

fn case(text: &str) -> MessageCase {
    let mut parts = text.splitn(4, '\n');
    let mut part = |prefix: &str| {
        let line = parts.next().expect("from, kind, says, lines");
        let line = line.strip_prefix(prefix).unwrap_or(line);
        line.trim().to_owned()
    };
    MessageCase {
        origin: part(""),
        kind: part("# kind:"),
        symptoms: part("# says:"),
        lines: part("").clone() + "\n" + parts.next().unwrap_or(""),
    }
}

fn error(error: Option<Errno>) -> String {
    error.map_or_else(|| "-".to_owned(), |error| error.0.to_string())
}

fn hex(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:x}"))
}

/// Shortens a symptom to a few words.
fn format_symptom(symptom: &Symptom) -> String {
    match symptom {
        Symptom::TooManyRegisters {
            incoming,
            local: own,
        } => format!("count {incoming} {own}"),
        Symptom::FieldFailed { section, field } => format!("field {section} {field}"),
        Symptom::SourceOnly { register } => format!("source-only {register}"),
        Symptom::DestinationOnly { register } => format!("missing {register}"),
        Symptom::ValueNotAccepted {
            register,
            value,
            current: is,
            error: number,
        } => format!(
            "not-accepted {register} {} {} {}",
            hex(*value),
            hex(*is),
            error(*number)
        ),
        Symptom::UnknownToKvm { register, .. } => format!("unknown {register}"),
        Symptom::UnnamedRegister {
            access,
            error: number,
        } => format!("some-register {access:?} {}", error(*number)),
        Symptom::PutFailed {
            stage,
            error: number,
        } => format!("put {stage} {}", error(*number)),
        Symptom::SectionFailed { device, instance } => match instance {
            Some(instance) => format!("section {device} {instance}"),
            None => format!("section {device}"),
        },
        Symptom::HookFailed {
            section,
            is_pre_load: before,
        } => {
            format!("hook {section} {}", if *before { "pre" } else { "post" })
        }
        Symptom::UnknownSubsection { name, section } => format!("subsection {name} {section}"),
        Symptom::UnknownSection { device, instance } => {
            format!("unknown-section {device} {}", instance.unwrap_or(99))
        }
        Symptom::MissingFooter { device } => {
            format!("footer {}", device.as_deref().unwrap_or("-"))
        }
        Symptom::Aborted {
            function,
            assertion,
        } => format!("abort {function} {assertion}"),
        Symptom::LoadFailed { error: number, .. } => format!("load {}", error(*number)),
        Symptom::RamSize {
            block,
            incoming,
            local: own,
        } => format!("ram-size {block} {incoming:x} {own:x}"),
        Symptom::RamPageSize {
            block,
            incoming,
            local: own,
        } => format!("ram-page {block} {incoming} {own}"),
        Symptom::UnknownRamBlock { block } => format!("ram-block {block}"),
        Symptom::MachineType {
            incoming,
            local: own,
        } => format!("machine {incoming} {own}"),
        Symptom::VirtioFeatures { incoming, allowed } => {
            format!("features {incoming:x} {allowed:x}")
        }
        Symptom::PciConfig { offset } => format!("pci {}", hex(*offset)),
        Symptom::DeviceAttribute {
            group,
            attribute,
            error: number,
            ..
        } => format!("attribute {group} {attribute:x} {}", error(*number)),
        Symptom::NoSuchPsci { version } => format!("psci {version}"),
        Symptom::PsciHint => "psci-hint".to_owned(),
        Symptom::VcpuInit { error: number } => format!("vcpu-init {}", error(*number)),
        Symptom::VcpuNotRestored => "vcpu".to_owned(),
        Symptom::GicNotRestored { error: number } => format!("gic {}", error(*number)),
        Symptom::MonitorClosed { vm, .. } => format!("closed {}", vm.as_deref().unwrap_or("-")),
        Symptom::JobFailed { job } => format!("job {job}"),
        Symptom::GuestCpu { features } => format!("guest-cpu {features}"),
        Symptom::RegisterMention {
            register,
            value,
            error: number,
        } => {
            let (value, number) = (hex(*value), error(*number));
            format!("mention {register} {value} {number}")
        }
        Symptom::DeviceStart {
            device,
            error: number,
        } => format!("start {device:?} {}", error(*number)),
        Symptom::SnapshotMissing { name } => format!("snapshot {name}"),
        Symptom::MigrationBlocked { reason } => format!("blocked {reason:?}"),
        Symptom::FrontEnd { report } => format!("front-end {}", report.front_end.name),
        other => format!("{other:?}"),
    }
}

/// Returns the kinds of the failures in the lines, and their statements.
fn explain_lines(lines: &str) -> (String, String) {
    let mut failures = LoadFailures::default();
    for line in lines.lines() {
        failures.add(line, parse_line(line));
    }
    let (failures, _) = failures.finish();
    let kinds: Vec<&str> = failures
        .iter()
        .map(|failure| explain(failure).kind.name())
        .collect();
    let statements: Vec<String> = failures
        .iter()
        .flat_map(|failure| failure.symptoms().map(format_symptom))
        .collect();
    let kinds = if kinds.is_empty() {
        "none".to_owned()
    } else {
        kinds.join(" ")
    };
    (kinds, statements.join(" | "))
}

#[test]
fn real_lines_are_parsed() {
    let mut wrong = String::new();
    let mut real = 0;
    for (file, cases) in cases() {
        for case in cases {
            real += usize::from(file != "made-up");
            let (kind, says) = explain_lines(&case.lines);
            if (&kind, &says) != (&case.kind, &case.symptoms) {
                let _ = writeln!(
                    wrong,
                    "{file}: {}\n  expected {}: {}\n  read     {kind}: {says}",
                    case.origin, case.kind, case.symptoms
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(real >= 30, "only {real} real texts are left");
}

/// Explains each file of real lines as a log.
#[test]
fn real_lines_are_explained() {
    for file in cases().keys() {
        let run = cpreg_in(&fixtures(), &["explain", "--file", &format!("{file}.txt")]);
        assert_eq!(run.status, Some(0), "{run}");
        assert_snapshot!(format!("explain_{file}"), run);
    }
}

#[test]
fn lines_of_the_command_line_are_one_failure() {
    let run = cpreg(&[
        "explain",
        "qemu-system-aarch64: Invalid value 258 expecting positive value <= 256",
        "qemu-system-aarch64: Failed to load cpu:cpreg_vmstate_array_len",
        "qemu-system-aarch64: error while loading state for instance 0x0 of device 'cpu'",
        "qemu-system-aarch64: load of migration failed: Invalid argument",
    ]);
    assert_snapshot!("explain_arguments", run);
}

#[test]
fn unknown_lines_are_reported() {
    assert_snapshot!(
        "explain_not_understood",
        cpreg(&["explain", "the VM does not move", "and nobody knows why"])
    );
    let half = cpreg(&[
        "explain",
        "load of migration failed: Operation not permitted",
        "???",
    ]);
    assert_eq!(half.status, Some(0), "{half}");
    assert!(half.stdout.contains("unknown lines\n  ???"), "{half}");
}

fn explain_input(input: &[u8], arguments: &[&str]) -> Run {
    let arguments = [&["explain"], arguments].concat();
    let mut child = command(&streams(), &arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input)
        .expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    Run::from_output(&arguments, &output)
}

#[test]
fn a_log_is_read_from_standard_input() {
    let load = "Nov 22 22:14:01 host libvirtd[812]: 2026-11-22T22:14:01.1Z qemu-system-aarch64: Invalid value 257 expecting positive value <= 256\n\
                Nov 22 22:14:01 host libvirtd[812]: 2026-11-22T22:14:01.1Z qemu-system-aarch64: Failed to load cpu:cpreg_vmstate_array_len\n\
                Nov 22 22:14:01 host libvirtd[812]: 2026-11-22T22:14:01.1Z qemu-system-aarch64: load of migration failed: Invalid argument\n\
                Nov 22 22:14:02 host libvirtd[812]: internal error: QEMU unexpectedly closed the monitor (vm='web'): 2026-11-22T22:14:01.1Z qemu-system-aarch64: load of migration failed: Invalid argument\n\
                Nov 22 22:14:03 host kernel: all is well\n";
    let log = load.repeat(3)
        + "Nov 22 22:15:00 host qemu[1]: qemu-system-aarch64: -device foo: no such device\n\
           Nov 22 22:16:00 host qemu[1]: qemu-system-aarch64: -device foo: no such device\n";
    assert_snapshot!("explain_log", explain_input(log.as_bytes(), &["-"]));
}

#[test]
fn arbitrary_log_is_accepted() {
    let mut log = vec![b'x'; 1 << 20];
    log.extend(b"\n\xff\xfe\0\nload of migration failed: Invalid argument\n");
    log.extend(vec![0xff; 1 << 17]);
    assert_snapshot!("explain_anything", explain_input(&log, &["-"]));
    let nothing = explain_input(b"", &["-"]);
    assert_eq!(nothing.status, Some(3), "{nothing}");
}

/// Checks that the guest's keys are redacted in lines that contain them, also where a long line is
/// truncated.
#[test]
fn line_without_error_is_not_guessed() {
    let line = "Failed to restore the state of the vcpu: Failed to set register 0x603000000013c103 to value 0x0";
    let cut = cpreg(&["explain", line]);
    let whole = format!("{line}: No such file or directory (os error 2)");
    let whole = cpreg(&["explain", &whole]);
    let missing = "the line has no error";
    assert!(cut.stdout.contains(missing), "{cut}");
    assert!(!whole.stdout.contains(missing), "{whole}");
}

#[test]
fn keys_are_kept() {
    let key = "1234567890abcdef";
    let qemu = "Could not set register system register op0:3 op1:0 crn:2 crm:1 op2:0 to";
    // 2048 bytes of a line are kept.
    let long = format!("{}{qemu}", ".".repeat(2040 - qemu.len()));
    for line in [
        format!("{qemu} {key} (is 0)"),
        format!("{long} {key} (is 0)"),
        format!(
            "Failed to set register 0x603000000013c108 to value 0x{key}: Invalid argument (os error 22)"
        ),
        format!(
            "Failed to set register 0x603000000013c108 to value 0x{key}: No such file or directory (os error 2)"
        ),
    ] {
        for format in ["text", "json"] {
            let run = cpreg(&["explain", &line, "--format", format]);
            assert!(run.stdout.contains("APIAKEYLO_EL1"), "{run}");
            assert!(!run.stdout.contains("12345"), "{run}");
        }
    }
}

#[test]
fn missing_log_is_named() {
    let folder = folder_with("log.txt", b"");
    let run = cpreg_in(folder.path(), &["explain", "--file", "other.txt"]);
    assert_snapshot!("explain_no_file", run);
}

/// Checks that every proposed command line is valid. Words in capitals stand for arguments.
#[test]
fn proposed_commands_are_valid() {
    let mut commands: Vec<String> = Vec::new();
    for case in cases().into_values().flatten() {
        let lines: Vec<&str> = case.lines.lines().collect();
        let arguments = [&["explain", "--format", "json"], lines.as_slice()].concat();
        let document = cpreg(&arguments).json();
        for failure in document["failures"].as_array().expect("a list") {
            for step in failure["next_steps"].as_array().expect("a list") {
                let command = step["command"].as_str().expect("text");
                // Commands of other programs cannot be checked.
                if command.starts_with("cpreg ") {
                    commands.push(command.to_owned());
                }
            }
        }
    }
    commands.sort();
    commands.dedup();
    assert!(commands.len() > 3, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let run = cpreg(&[&words[1..2], &["--help"]].concat());
        assert_eq!(run.status, Some(0), "{command}: {run}");
        for option in words
            .iter()
            .filter(|word| word.starts_with("--") && word.len() > 2)
        {
            assert!(run.stdout.contains(option), "{command}: {run}");
        }
    }
}
