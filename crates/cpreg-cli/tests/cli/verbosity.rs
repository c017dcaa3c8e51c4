//! Amount, width and colour of a report, and the commands in it that the user can type.

use std::fs;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;
use tempfile::TempDir;

use crate::fixtures::unpack_file;
use crate::run::{KVM_5_10, KVM_6_12, KVM_6_16, Run, command, cpreg, cpreg_in, streams};

/// Name of a VM that a shell must not see unquoted.
const QUOTED_NAME: &str = "a vm's.stream";

/// Runs the command with these variables in its environment.
fn cpreg_with(arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let output = command(&streams(), arguments)
        .envs(variables.iter().copied())
        .output()
        .expect("the command starts");
    Run::from_output(arguments, &output)
}

/// Returns a folder with a VM of Linux 6.16 and hosts to check it against.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, stream) in [
        (QUOTED_NAME, KVM_6_16),
        ("5.10.stream", KVM_5_10),
        ("6.12.stream", KVM_6_12),
    ] {
        let stream = unpack_file(&streams().join(stream));
        fs::write(folder.path().join(name), stream).expect("a file in it");
    }
    folder
}

/// Returns the commands of a report that stand on a line of their own.
fn commands(run: &Run) -> Vec<&str> {
    let lines = run.stdout.lines();
    lines
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with("cpreg "))
        .collect()
}

/// Runs a command as a shell reads it.
fn type_command(folder: &Path, typed: &str) -> Run {
    let script = format!("cpreg() {{ \"$CPREG\" \"$@\"; }}\n{typed}");
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder)
        .env("CPREG", env!("CARGO_BIN_EXE_cpreg"))
        .output()
        .expect("a shell");
    Run::from_output(&[typed], &output)
}

#[test]
fn reports_of_each_length() {
    let check = ["check", KVM_6_16, KVM_5_10];
    let with = |option| cpreg(&[&check[..], &[option]].concat());
    assert_snapshot!("verbosity_short", cpreg(&check));
    assert_snapshot!("verbosity_verbose", with("-v"));
    assert_snapshot!("verbosity_quiet", with("-q"));
    assert_eq!(with("--verbose").stdout, with("-v").stdout);
    assert_eq!(with("--quiet").stdout, with("-q").stdout);
    assert_eq!(cpreg(&[&check[..], &["-q", "-v"]].concat()).status, Some(2));
}

#[test]
fn text_is_wrapped_to_the_columns() {
    let folder = folder();
    let check = ["check", QUOTED_NAME, "5.10.stream", "-v"];
    let with_columns = |columns: &str| {
        let output = command(folder.path(), &check)
            .env("COLUMNS", columns)
            .output()
            .expect("the command starts");
        Run::from_output(&check, &output)
    };
    let narrow = with_columns("60");
    assert_snapshot!("verbosity_60_columns", narrow);
    let (report, _) = narrow.stdout.split_once("without cpreg:").expect("loaders");
    let long = report.lines().filter(|line| line.chars().count() > 60);
    let long: Vec<_> = long
        .filter(|line| !line.starts_with("    cpreg "))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
    // A pipe has no width, and no value of the variable makes lines too long to read.
    let plain = cpreg_in(folder.path(), &check);
    for columns in ["", "0", "wide", "1000"] {
        assert_eq!(with_columns(columns).stdout, plain.stdout);
    }
    let words = |run: &Run| run.words().replace(", ", ",");
    assert_eq!(words(&narrow), words(&plain));
}

#[test]
fn color_is_an_option() {
    let check = ["check", KVM_6_16, KVM_5_10];
    let plain = cpreg(&check);
    let with = |choice: &str, variables: &[(&str, &str)]| {
        let arguments = [&["--color", choice], &check[..]].concat();
        cpreg_with(&arguments, variables)
    };
    let color = with("always", &[]);
    assert_snapshot!("verbosity_color", color.stdout.replace('\x1b', "␛"));
    // Colour says nothing that the text does not say.
    let text = anstream::adapter::strip_str(&color.stdout).to_string();
    assert_eq!(text, plain.stdout);
    // The option outweighs the variables, and NO_COLOR outweighs CLICOLOR_FORCE.
    assert_eq!(with("always", &[("NO_COLOR", "1")]).stdout, color.stdout);
    let forced = [("CLICOLOR_FORCE", "1")];
    assert_eq!(with("never", &forced).stdout, plain.stdout);
    assert_eq!(with("auto", &forced).stdout, color.stdout);
    let both = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
    assert_eq!(with("auto", &both).stdout, plain.stdout);
    // The option may also follow the command.
    let last = [&check[..], &["--color=always"]].concat();
    assert_eq!(cpreg(&last).stdout, color.stdout);
}

#[test]
fn quiet_is_one_line() {
    let folder = folder();
    let path = folder.path();
    for arguments in [
        &["check", QUOTED_NAME, "5.10.stream", "-q"][..],
        &["check", QUOTED_NAME, "6.12.stream", "-q"],
        &["convert", "6.12.stream", "6.12.stream", "-o", "out", "-q"],
    ] {
        let run = cpreg_in(path, arguments);
        assert_eq!(run.stdout.lines().count(), 1, "{run}");
        let loud: Vec<_> = arguments.iter().copied().filter(|it| *it != "-q").collect();
        let loud = cpreg_in(path, &[&loud[..], &["--color=never"]].concat());
        assert!(
            run.stdout.starts_with("loads: ") || loud.words().starts_with(run.stdout.trim()),
            "{run}{loud}"
        );
    }
}

/// Checks that each command in a report works as it is printed, with the user's names and options.
#[test]
fn next_commands_can_be_typed() {
    let folder = folder();
    let path = folder.path();
    let refused = cpreg_in(path, &["check", QUOTED_NAME, "5.10.stream"]);
    assert_eq!(refused.status, Some(1), "{refused}");
    let [accept] = commands(&refused)[..] else {
        panic!("{refused}");
    };
    let converts = type_command(path, accept);
    assert!(converts.stdout.starts_with("converts: "), "{converts}");
    let [convert] = commands(&converts)[..] else {
        panic!("{converts}");
    };
    assert!(convert.ends_with("--accept medium"), "{convert}");
    let converted = type_command(path, convert);
    assert_eq!(converted.status, Some(0), "{converted}");
    let written = path.join("a vm's.converted.stream");
    assert!(written.exists(), "{converted}");
    let name = written.to_str().expect("UTF-8");
    let loads = cpreg_in(path, &["check", name, "5.10.stream"]);
    assert!(loads.stdout.starts_with("loads: "), "{loads}");

    // An unknown verdict: the command without placeholders changes the verdict.
    let unknown = cpreg_in(path, &["check", QUOTED_NAME, "6.12.stream"]);
    let accept: Vec<_> = commands(&unknown)
        .into_iter()
        .filter(|typed| typed.contains("--accept"))
        .collect();
    assert_eq!(accept.len(), 1, "{unknown}");
    assert_eq!(type_command(path, accept[0]).status, Some(0), "{unknown}");
}

/// Checks that the short form hides nothing that the user or the operator did.
#[test]
fn consents_and_own_entries_are_always_shown() {
    let folder = folder();
    let path = folder.path();
    let entry = "[[tolerance]]\nregisters = [\"OSLSR_EL1\"]\ndifference = \"source-only\"\n\
                 handling = \"ignore\"\nreason = \"our guests never lock\"\n";
    fs::write(path.join("own.toml"), entry).expect("a file");
    let own = [
        "check",
        QUOTED_NAME,
        "5.10.stream",
        "--tolerances",
        "own.toml",
    ];
    let own = cpreg_in(path, &own);
    let text = own.words();
    let (_, changes) = text.split_once("changes of the VM:").unwrap_or_default();
    assert!(
        changes.contains("OSLSR_EL1 0x8 our guests never lock"),
        "{own}"
    );
    for (option, value, shown) in [
        ("--set", "PSCI_VERSION=1.1", "set at your request"),
        ("--accept", "low", "adjusted with your consent"),
        ("--ignore", "PSCI_VERSION", "ignored at your request"),
        ("--drop", "PSCI_VERSION", "at your request"),
    ] {
        let run = cpreg_in(path, &["check", QUOTED_NAME, "6.12.stream", option, value]);
        let text = run.words();
        let (_, changes) = text.split_once("changes of the VM:").unwrap_or_default();
        assert!(changes.contains("PSCI_VERSION"), "{run}");
        assert!(changes.contains(shown), "{run}");
    }
}

/// Checks that only QEMU gets options of QEMU as its own.
#[test]
fn advice_is_for_the_vmm_in_use() {
    let hosts = ["check", "linux-7.3.4/neoverse-n1/pmu", "linux-6.12.107/n1"];
    let with = |loader: &[&str]| cpreg(&[&hosts[..], loader].concat()).words();
    let qemu = with(&["--loader", "qemu-11.1"]);
    assert!(
        qemu.contains("have: `-cpu host,kvm-psci-version=1.1`"),
        "{qemu}"
    );
    let unknown = with(&[]);
    let register = "KVM_REG_ARM_PSCI_VERSION (0x6030000000140000) = 0x10001";
    assert!(unknown.contains(register), "{unknown}");
    assert!(unknown.contains("(QEMU 11.0 and later: `-cpu"), "{unknown}");
    let library = with(&["--loader", "cpreg"]);
    assert!(library.contains(register), "{library}");
    assert!(!library.contains("QEMU"), "{library}");
}

#[test]
fn documents_name_blockers_and_the_written_file() {
    let folder = folder();
    let path = folder.path();
    let json =
        |arguments: &[&str]| cpreg_in(path, &[arguments, &["--format", "json"]].concat()).json();
    let refused = json(&["check", QUOTED_NAME, "5.10.stream"]);
    assert_eq!(refused["cpreg_version"], env!("CARGO_PKG_VERSION"));
    assert!(refused["written"].is_null());
    let blockers = refused["blockers"].as_array().expect("a list");
    let decisions: Vec<_> = blockers.iter().map(|it| &it["decision"]).collect();
    assert_eq!(
        decisions,
        ["refuse", "refuse", "refuse", "refuse", "unknown"]
    );
    let psci = &blockers[4];
    assert_eq!(psci["kind"], "register");
    assert_eq!(psci["name"], "PSCI_VERSION");
    assert_eq!(psci["vcpus"], "0");
    assert_eq!(psci["reason_code"], "value-unknown");
    let remedies = psci["remedies"].as_array().expect("a list");
    assert_eq!(remedies.last().expect("one"), "--accept PSCI_VERSION");
    assert_eq!(
        refused["next_command"],
        "cpreg check 'a vm'\\''s.stream' 5.10.stream --format json --accept medium"
    );

    let to_own = ["convert", "6.12.stream", "6.12.stream"];
    let written = json(&[&to_own[..], &["-o", "out"]].concat());
    let length = fs::metadata(path.join("out")).expect("a file").len();
    assert_eq!(written["blockers"], serde_json::json!([]));
    assert_eq!(
        written["written"],
        serde_json::json!({"path": "out", "bytes": length, "in_place": false})
    );
    // A VM that loads needs no change in place.
    let unchanged = json(&["convert", "out", "6.12.stream", "--in-place"]);
    assert_eq!(unchanged["verdict"], "loads");
    assert!(unchanged["written"].is_null());
    let changed = ["convert", "6.12.stream", QUOTED_NAME, "--in-place"];
    let changed = json(&changed);
    assert_eq!(changed["written"]["path"], "6.12.stream");
    assert_eq!(changed["written"]["in_place"], true);
}

/// Checks that the text of a conversion says whether a file was written.
#[test]
fn written_is_said_only_of_a_written_file() {
    let folder = folder();
    let path = folder.path();
    let convert = ["convert", "6.12.stream", "6.12.stream", "--in-place"];
    let loads = cpreg_in(path, &convert);
    assert!(
        loads
            .stdout
            .contains("  nothing was written: 6.12.stream already loads as it is\n"),
        "{loads}"
    );
    let refused = cpreg_in(path, &["convert", QUOTED_NAME, "5.10.stream", "-o", "out"]);
    assert!(
        refused
            .stdout
            .contains("  nothing was written: a vm's.stream is unchanged\n"),
        "{refused}"
    );
    let convert = ["convert", "6.12.stream", QUOTED_NAME, "--in-place"];
    let changed = cpreg_in(path, &convert);
    assert!(
        changed.stdout.contains("  written in place: 6.12.stream ("),
        "{changed}"
    );
}
