//! Errors with `--format json`: one document in the place of the report, and the text on standard
//! error. [`Run`] checks every document against its schema.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::fixtures::{folder_with, unpack_stream};
use crate::run::{KVM_6_12, Run, command, cpreg, cpreg_in};

/// Runs a command that fails, as text and as JSON. Returns the document.
fn failed(folder: &Path, arguments: &[&str]) -> Value {
    let text = cpreg_in(folder, arguments);
    assert_eq!((text.status, text.stdout.as_str()), (Some(2), ""), "{text}");
    let own = arguments.iter().position(|word| *word == "--");
    let (own, other) = arguments.split_at(own.unwrap_or(arguments.len()));
    let json = cpreg_in(folder, &[own, &["--format", "json"], other].concat());
    assert_eq!(json.status, Some(2), "{json}");
    let document = json.json();
    // clap's usage names the options that were given.
    if document["kind"] != "usage" {
        assert_eq!(json.stderr, text.stderr, "{json}");
    }
    assert_eq!(document["exit_status"], 2);
    assert_eq!(document["cpreg_version"], env!("CARGO_PKG_VERSION"));
    // Every part of the text is in the document.
    let parts = ["causes", "hints"].into_iter().flat_map(|list| {
        let list = document[list].as_array().expect("a list");
        list.iter().map(|part| part.as_str().expect("text"))
    });
    for part in parts.chain(document["message"].as_str()) {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let text = words(&json.stderr).join(" ");
        assert!(text.contains(&words(part).join(" ")), "{part} in {text}");
    }
    document
}

/// Checks kind, path and offset of an error of each kind.
#[test]
fn errors_of_every_kind_are_documents() {
    let stream = unpack_stream(KVM_6_12);
    let folder = folder_with("cut", &stream[..0x80000]);
    fs::write(folder.path().join("vm"), &stream).expect("a file in it");
    fs::write(folder.path().join("broken.json"), "{ \"schema\": ").expect("a file in it");
    fs::write(folder.path().join("broken.toml"), "[[tolerance]\n").expect("a file in it");
    let host = "linux-6.12.107/neoverse-n1";
    for (kind, path, has_offset, arguments) in [
        ("usage", None, false, &["show"][..]),
        (
            "usage",
            None,
            false,
            &["check", "vm", "--no-such-option", "x"],
        ),
        ("usage", None, false, &["no-such-command"]),
        (
            "input",
            None,
            false,
            &["show", "vm", "--register", "TRC2_EL1"],
        ),
        ("input", None, false, &["hosts", "linux-99/no-such"]),
        (
            "input",
            None,
            false,
            &["check", "vm", host, "--set", "PSCI_VERSION"],
        ),
        ("input", None, false, &["explain", "TRC2_EL1"]),
        ("input", Some("no-such"), false, &["check", "vm", "no-such"]),
        ("stream", Some("cut"), true, &["show", "cut"]),
        (
            "stream",
            Some("cut"),
            true,
            &["convert", "cut", host, "-o", "out"],
        ),
        ("stream", Some("cut"), true, &["report", "cut"]),
        (
            "document",
            Some("broken.json"),
            false,
            &["diff", "vm", "broken.json"],
        ),
        (
            "document",
            Some("broken.toml"),
            false,
            &["tolerances", "--tolerances", "broken.toml"],
        ),
        ("io", Some("no-such"), false, &["show", "no-such"]),
        (
            "io",
            Some("no-such.log"),
            false,
            &["explain", "--file", "no-such.log"],
        ),
        (
            "qemu",
            None,
            false,
            &["rehearse", "vm", "--", "./no-such-qemu", "-M", "virt"],
        ),
        #[cfg(target_os = "linux")]
        (
            "relay",
            None,
            false,
            &[
                "relay",
                "--listen",
                "unix:no/such",
                "--connect",
                "unix:b",
                "--to",
                host,
            ],
        ),
    ] {
        let document = failed(folder.path(), arguments);
        assert_eq!(document["kind"], kind, "{arguments:?}: {document:#}");
        assert_eq!(
            document["path"].as_str(),
            path,
            "{arguments:?}: {document:#}"
        );
        assert_eq!(
            document["offset"].is_string(),
            has_offset,
            "{arguments:?}: {document:#}"
        );
    }
    assert!(!folder.path().join("out").exists());
}

/// Checks that the error of `filter` is on standard error, alone, because standard output carries
/// the VM.
#[test]
fn the_error_of_filter_is_on_standard_error() {
    let host = "linux-6.12.107/neoverse-n1";
    for (kind, arguments) in [
        ("stream", &["filter", host, "--format", "json"][..]),
        ("usage", &["filter", "--no-such-option", "--format", "json"]),
    ] {
        let folder = folder_with("vm", b"no stream");
        let output = command(folder.path(), arguments)
            .stdin(fs::File::open(folder.path().join("vm")).expect("a file"))
            .stdout(Stdio::piped())
            .output()
            .expect("the command starts");
        let run = Run::from_output(arguments, &output);
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
        let document: Value = serde_json::from_str(&run.stderr).expect("one document");
        assert_eq!(document["kind"], kind, "{run}");
    }
}

/// Checks that the words of another program request nothing of cpreg.
#[test]
fn words_after_two_dashes_are_not_options_of_cpreg() {
    let run = cpreg(&["probe", "qemu", "--", "./no-such-qemu", "--format", "json"]);
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
}
