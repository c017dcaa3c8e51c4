//! Output channels: colour only for terminals, no secrets unless requested, no error on a closed
//! pipe.

use std::process::Stdio;

use crate::fixtures::{folder_with, folder_with_stream, make_profile, profile_with_keys};
use crate::run::{
    KVM_5_10, KVM_6_12, KVM_6_12_MAX_4, KVM_6_16, KVM_7_3_MAX, Run, command, cpreg, cpreg_in,
    streams,
};

const ESCAPE: char = '\x1b';

#[test]
fn colour_is_for_terminals() {
    for arguments in [
        &["check", KVM_6_16, KVM_6_12][..],
        &["show", KVM_6_12],
        &["diff", KVM_6_12, KVM_6_16],
        &["tolerances"],
        &["show", "no-such-file"],
    ] {
        let run = cpreg(arguments);
        assert!(!run.to_string().contains(ESCAPE), "{run}");

        let with_forced_colour = |variables: &[(&str, &str)]| {
            let output = command(&streams(), arguments)
                .env("CLICOLOR_FORCE", "1")
                .envs(variables.iter().copied())
                .output()
                .expect("the command starts");
            crate::run::Run::from_output(arguments, &output).to_string()
        };
        assert!(with_forced_colour(&[]).contains(ESCAPE), "{run}");
        assert!(
            !with_forced_colour(&[("NO_COLOR", "1")]).contains(ESCAPE),
            "{run}"
        );
    }
}

/// Returns the guest's pointer-authentication keys in the stream.
fn keys(stream: &str) -> Vec<String> {
    let shown = cpreg(&["show", stream, "--show-secrets", "--format", "json"]).json();
    let registers = shown["registers"].as_array().expect("a list");
    let keys: Vec<_> = registers
        .iter()
        .filter(|register| {
            let name = register["name"].as_str().expect("a name");
            name.starts_with("AP") && name.contains("KEY")
        })
        .map(|register| register["value"].as_str().expect("shown").to_owned())
        .collect();
    assert_eq!(keys.len(), 10, "{stream}");
    keys
}

#[test]
fn keys_are_shown_only_on_request() {
    let stream = "7.3.4__q11.1__max__virt10.0-smp1.stream.xz";
    let (profile, keys) = profile_with_keys(KVM_7_3_MAX);
    let folder = folder_with_stream(KVM_7_3_MAX, "there.json", profile.as_bytes());
    let run = |arguments: &[&str]| cpreg_in(folder.path(), arguments).to_string();

    let without_secrets = [
        &["show", stream, "--fields"][..],
        &["show", stream, "--register", "APIAKEYLO_EL1"],
        &["show", stream, "--format", "json"],
        &["show", "there.json"],
        &["show", "there.json", "--format", "json"],
        &["diff", stream, "there.json", "--all"],
        &["diff", stream, "there.json", "--all", "--format", "json"],
        &["check", stream, "there.json", "-v"],
        &["check", stream, "there.json", "-v", "--format", "json"],
        &[
            "check",
            stream,
            "there.json",
            "--format",
            "json",
            "--ignore",
            "APIAKEYLO_EL1",
        ],
        &["check", stream, "there.json", "--drop", "APIAKEYLO_EL1"],
        &[
            "check",
            stream,
            "there.json",
            "--set",
            "APIAKEYLO_EL1=0x5ec2e70000000001",
        ],
    ];
    for arguments in without_secrets {
        let text = run(arguments).split_once('\n').expect("lines").1.to_owned();
        assert!(
            text.contains("APIAKEYLO_EL1") || text.contains("copied"),
            "{text}"
        );
        for key in &keys {
            assert!(
                !text.contains(key.trim_start_matches("0x")),
                "{key} in {text}"
            );
        }
    }

    let differing = run(&["diff", stream, "there.json", "--all"]);
    assert!(
        differing.contains("APIAKEYLO_EL1  differs (secret)"),
        "{differing}"
    );
    let with_secrets = run(&["show", "there.json", "--show-secrets"]);
    assert!(
        keys.iter().all(|key| with_secrets.contains(key)),
        "{with_secrets}"
    );
}

/// Checks that the keys of a recorded stream are marked as secret, and have no value in JSON.
#[test]
fn recorded_keys_are_marked() {
    for stream in [KVM_6_12_MAX_4, KVM_7_3_MAX] {
        assert!(keys(stream).iter().all(|key| key.starts_with("0x")));
        let shown = cpreg(&["show", stream, "--format", "json"]).json();
        let registers = shown["registers"].as_array().expect("a list");
        let hidden = registers
            .iter()
            .filter(|register| register["secret"] == true);
        assert_eq!(hidden.clone().count(), 10);
        assert!(
            hidden
                .into_iter()
                .all(|register| register["value"].is_null())
        );
    }
}

/// Checks that `cpreg show … | head` prints no error.
#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = command(&streams(), &["show", KVM_6_12])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// Checks that a command that fails midway prints no report.
#[test]
fn failures_print_no_partial_report() {
    let folder = folder_with("vm", b"QEVM\0\0\0\x03");
    let run = cpreg_in(folder.path(), &["show", "vm", "--format", "json"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert_eq!(run.json()["schema"], "cpreg.error/2", "{run}");
    let run = cpreg_in(folder.path(), &["show", "vm"]);
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
}

/// Checks that a command is completed although nobody reads its report.
#[test]
fn a_closed_pipe_changes_no_status() {
    for (arguments, status) in [
        (["show", KVM_6_12, "--fields"], 0),
        (["check", KVM_6_12, KVM_5_10], 1),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = command(&streams(), &arguments).stdout(writer).status();
        assert_eq!(
            ended.expect("it starts").code(),
            Some(status),
            "{arguments:?}"
        );
    }
}

/// Checks that names in a file, which an attacker may choose, neither move the cursor nor begin a
/// line.
#[test]
fn names_do_nothing_to_a_terminal() {
    let profile = make_profile(KVM_6_12).replace(
        "a recorded destination",
        r"there\u001b[2J\u001b]0;title\u0007\nloads: as it is\u009b31m\u202e",
    );
    let folder = folder_with("there\x1b[2J", profile.as_bytes());
    let source = streams().join(KVM_6_12);
    let source = source.to_str().expect("UTF-8");
    for arguments in [
        &["show", "there\x1b[2J"][..],
        &["check", source, "there\x1b[2J"],
        &["show", "there\x1b[2J", "--format", "json"],
        &["show", "there\x1b[2J", "--vcpu", "7"],
    ] {
        let output = command(folder.path(), arguments)
            .env("CLICOLOR_FORCE", "1")
            .output()
            .expect("the command starts");
        let run = Run::from_output(arguments, &output);
        let text = [run.stdout.as_str(), run.stderr.as_str()].concat();
        for forbidden in ["\x1b[2J", "\x1b]", "\x07", "\u{9b}", "\u{202e}", "\nloads"] {
            assert!(!text.contains(forbidden), "{forbidden:?} in\n{run}");
        }
        assert!(text.contains("[2J"), "{run}");
    }
}

/// Checks that output that cannot be written is an error of every kind of output: reports in text
/// and JSON, documents, help, and scripts.
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let host = "linux-6.12.107/neoverse-n1";
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["help", "check"],
        &["check", "--help"],
        &["show", KVM_6_12],
        &["show", KVM_6_12, "--format", "json"],
        &["show", host],
        &["check", KVM_5_10, KVM_6_12],
        &["check", KVM_5_10, KVM_6_12, "--format", "json"],
        &["diff", KVM_6_12, KVM_6_16],
        &["explain", "TCR2_EL1"],
        &["explain", "no known line"],
        &["tolerances"],
        &["tolerances", "--export", "qemu"],
        &["hosts"],
        &["report", KVM_6_12],
        &["report", KVM_6_12, "--format", "json"],
        &["completions", "bash"],
    ] {
        let full = || std::fs::OpenOptions::new().write(true).open("/dev/full");
        let output = command(&streams(), arguments)
            .stdout(full().expect("a device"))
            .output()
            .expect("the command starts");
        let run = Run::from_output(arguments, &output);
        assert_eq!(run.status, Some(2), "{run}");
        let errors = "error: cannot write to standard output\n\
                      cause: No space left on device (os error 28)\n";
        assert_eq!(run.stderr, errors, "{run}");
        let without_errors = command(&streams(), arguments)
            .stdout(full().expect("a device"))
            .stderr(full().expect("a device"))
            .status();
        assert_eq!(without_errors.expect("it starts").code(), Some(2), "{run}");
    }
}

/// Checks that `cpreg --help | head` is no error.
#[test]
fn help_into_a_closed_pipe_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command(&streams(), &["--help"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .expect("the command starts");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// Checks that every command that `cpreg` alone proposes works as it is shown.
#[test]
fn the_first_steps_work() {
    let run = cpreg(&[]);
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
    let commands = run
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("  cpreg "));
    let commands: Vec<&str> = commands.collect();
    assert_eq!(commands.len(), 3, "{run}");
    for words in commands {
        let arguments: Vec<&str> = match words.split_once(" '") {
            Some((word, line)) => vec![word, line.trim_end_matches('\'')],
            None => words.split(' ').collect(),
        };
        let step = cpreg(&arguments);
        assert!(matches!(step.status, Some(0 | 1 | 3)), "{step}");
        assert!(!step.stdout.is_empty() && step.stderr.is_empty(), "{step}");
    }
}
