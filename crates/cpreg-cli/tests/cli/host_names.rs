//! Names of hosts as people write them: machines, releases and distributions.

use std::fs;

use insta::assert_snapshot;

use crate::fixtures::unpack_stream;
use crate::run::{KVM_5_10, KVM_6_12, Run, TCG_10_0, command, cpreg, cpreg_in};

#[test]
fn a_release_of_a_recorded_series_is_a_destination() {
    for (name, recorded) in [
        ("linux-6.12.100/n1", "linux-6.12.107/neoverse-n1/pmu"),
        (
            "linux-6.12.100+custom/Graviton2",
            "linux-6.12.107/neoverse-n1/pmu",
        ),
        (
            "linux-6.16.7-arm64/altra/PMU",
            "linux-6.16.12/neoverse-n1/pmu",
        ),
        ("ubuntu-26.04/neoverse-n1", "linux-7.0.13/neoverse-n1/pmu"),
    ] {
        let run = cpreg(&["check", KVM_6_12, name, "--format", "json"]);
        assert_eq!(run.status, Some(0), "{run}");
        let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("a report");
        assert_eq!(report["destination"]["name"], recorded, "{name}");
        let provenance = report["destination"]["provenance"].to_string();
        let host = name.trim_end_matches("/PMU");
        assert!(provenance.contains(&format!("stands for {host}")), "{run}");
    }
}

/// Returns the JSON report of a check, whose exit status must be this one.
fn check(stream: &str, host: &str, status: i32) -> serde_json::Value {
    let run = cpreg(&["check", stream, host, "--format", "json"]);
    assert_eq!(run.status, Some(status), "{run}");
    run.json()
}

#[test]
fn neighbours_that_agree_give_an_inferred_verdict() {
    for (name, status, verdict) in [
        ("linux-6.12.63/n1", 0, "loads"),
        ("debian-13/n1", 0, "loads"),
        ("linux-6.12.63/n1/pmu", 0, "loads"),
        ("linux-6.12.63/max", 1, "refused"),
    ] {
        let report = check(KVM_6_12, name, status);
        assert_eq!(report["verdict"], verdict, "{name}");
        assert_eq!(report["unrecorded_kernel"]["relation"], "same-series");
        let alternatives = report["alternatives"].as_array().expect("a list");
        assert!(alternatives.len() >= 2);
        for alternative in alternatives {
            assert_eq!(alternative["verdict"], verdict);
            let host = alternative["recorded_host"].as_str().expect("a name");
            assert!(host.starts_with("linux-6.12."), "{host}");
        }
        let decisions = report["decisions"].as_array().expect("a list");
        assert!(decisions.iter().all(|it| it["confidence"] != "proven"));
        let note = report["notes"][0].as_str().expect("a note");
        assert!(
            note.contains("was not recorded") && note.contains("inferred"),
            "{note}"
        );
    }
}

/// Returns the run of a command in a report.
fn run_command(command: &str) -> Run {
    let words: Vec<_> = command.split(' ').collect();
    assert_eq!(words[0], "cpreg");
    cpreg(&words[1..])
}

#[test]
fn neighbours_that_differ_give_an_unknown_verdict_with_the_difference() {
    let report = check(KVM_6_12, "ubuntu-24.04/n1", 3);
    assert_eq!(report["verdict"], "unknown");
    assert_eq!(report["unrecorded_kernel"]["relation"], "between-series");
    assert_eq!(report["unrecorded_kernel"]["host"], "ubuntu-24.04/n1");
    let differences = report["differences"].as_array().expect("a list");
    let dfr0 = differences
        .iter()
        .find(|it| it["name"] == "ID_AA64DFR0_EL1");
    let dfr0 = dfr0.expect("Linux 6.1 refuses the value of its DebugVer");
    assert_eq!(dfr0["fields"], serde_json::json!(["DebugVer"]));
    assert_eq!(dfr0["decisions"], serde_json::json!(["refuse", "copy"]));
    let steps = report["next_steps"].to_string();
    assert!(
        steps.contains(
            "record KVM on ubuntu-24.04/n1, and check again: `cpreg probe kvm -o host.json`, then"
        ),
        "{steps}"
    );
    let alternatives = report["alternatives"].as_array().expect("a list");
    for (alternative, (host, verdict, status)) in alternatives.iter().zip([
        ("linux-6.1.176/neoverse-n1", "refused", 1),
        ("linux-6.12.43/neoverse-n1", "loads", 0),
    ]) {
        assert_eq!(alternative["destination"], host);
        assert_eq!(alternative["verdict"], verdict);
        assert!(alternative.get("feature").is_none());
        let command = alternative["command"].as_str().expect("text");
        assert!(steps.contains(&format!("`{command}`")), "{steps}");
        let run = run_command(command);
        assert_eq!(run.status, Some(status), "{run}");
        assert_eq!(run.json()["verdict"], verdict);
    }
    let text = cpreg(&["check", KVM_6_12, "ubuntu-24.04/n1"]);
    assert_snapshot!("host_names_between", text);
}

/// The neighbours of the kernel accept a value for different reasons, and both load the VM.
#[test]
fn equal_verdicts_on_another_basis_are_unknown() {
    let check = |host: &str| {
        let source = "linux-5.10.223/cortex-a57/none";
        let options = ["--accept", "medium", "--loader", "qemu-11.1"];
        let format = ["--format", "json"];
        cpreg(&[&["check", source, host], &options[..], &format[..]].concat())
    };
    for neighbour in ["linux-6.1.176/cortex-a57", "linux-6.12.43/cortex-a57"] {
        assert_eq!(check(neighbour).json()["verdict"], "converts");
    }
    let run = check("linux-6.5/a57");
    assert_eq!(run.status, Some(3), "{run}");
    let report = run.json();
    let differences = report["differences"].as_array().expect("a list");
    assert!(!differences.is_empty());
    for difference in differences {
        let decisions = difference["decisions"].as_array().expect("a list");
        assert_eq!(decisions[0], decisions[1], "{difference}");
        let values = difference["destinations"].as_array().expect("a list");
        assert_ne!(values[0], values[1], "{difference}");
    }
}

/// The source leaves the PMU open, and the kernel of the destination was not recorded.
#[test]
fn both_causes_give_four_possible_destinations() {
    let report = check(KVM_5_10, "linux-6.13/n1", 3);
    let alternatives = report["alternatives"].as_array().expect("a list");
    let destinations: Vec<_> = alternatives.iter().map(|it| &it["destination"]).collect();
    assert_eq!(
        destinations,
        [
            "linux-6.12.107/neoverse-n1/pmu",
            "linux-6.12.107/neoverse-n1/none",
            "linux-6.16.3/neoverse-n1/pmu",
            "linux-6.16.3/neoverse-n1/none",
        ]
    );
    assert_eq!(report["missing_facts"][0], "whether the guest has a PMU");
    for alternative in alternatives {
        let status = i32::from(alternative["verdict"] == "refused");
        let run = run_command(alternative["command"].as_str().expect("text"));
        assert_eq!(run.status, Some(status), "{run}");
        assert_eq!(run.json()["verdict"], alternative["verdict"]);
    }
    // With named features, only the kernel is open.
    let report = check(KVM_5_10, "linux-6.13/n1/none", 1);
    assert_eq!(report["alternatives"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_kernel_outside_the_recorded_ones_is_always_unknown() {
    for (name, neighbour, verdict) in [
        ("linux-9.0/n1", "linux-7.3.4/neoverse-n1", "converts"),
        ("linux-5.4/n1", "linux-5.10.223/neoverse-n1", "refused"),
    ] {
        let report = check(KVM_6_12, name, 3);
        assert_eq!(report["verdict"], "unknown");
        assert_eq!(report["unrecorded_kernel"]["relation"], "outside-series");
        let alternatives = report["alternatives"].as_array().expect("a list");
        assert_eq!(alternatives.len(), 1);
        assert_eq!(alternatives[0]["recorded_host"], neighbour);
        assert_eq!(alternatives[0]["verdict"], verdict);
    }
    let run = cpreg(&["check", KVM_6_12, "linux-9.0/n1"]);
    assert_snapshot!("host_names_outside", run);
}

#[test]
fn kernels_with_backports_are_always_unknown() {
    for name in [
        "rhel-9.4/n1",
        "rhel-9/graviton4",
        "rhel-9",
        "centos-stream-10/n1/pmu",
        "sles-15-sp6/n1",
        "openeuler-24.03/n1",
        "linux-5.14.0-427.13.1.el9_4.aarch64/n1",
        "linux-6.4.0-150600.23.25-default/graviton2",
    ] {
        let report = check(KVM_6_12, name, 3);
        assert_eq!(report["verdict"], "unknown", "{name}");
        assert_eq!(report["unrecorded_kernel"]["relation"], "backports");
        assert_eq!(report["decisions"], serde_json::json!([]));
        let missing = report["missing_facts"][0].as_str().expect("a fact");
        assert!(missing.contains("backports changes of KVM"), "{missing}");
        let steps = report["next_steps"].to_string();
        assert!(steps.contains("cpreg probe kvm"), "{steps}");
    }
    let run = cpreg(&["check", KVM_6_12, "rhel-9.4/n1"]);
    assert_snapshot!("host_names_backports", run);
    // Another accelerator ran the VM: no kernel with KVM loads it.
    assert_eq!(check(TCG_10_0, "rhel-9/n1", 1)["verdict"], "refused");
    let run = cpreg(&["check", KVM_6_12, "rhel-9/z80"]);
    assert_eq!(run.status, Some(2), "{run}");
}

#[test]
fn nothing_is_written_for_an_unknown_kernel() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    fs::write(path.join("vm"), unpack_stream(KVM_6_12)).expect("a file");
    for host in ["ubuntu-24.04/n1", "linux-9.0/n1", "rhel-9/n1"] {
        let run = cpreg_in(path, &["convert", "vm", host, "-o", "out"]);
        assert_eq!(run.status, Some(3), "{run}");
        assert!(!path.join("out").exists());
        let step = "\n    cpreg convert vm host.json -o out\n";
        assert!(run.stdout.contains(step), "{run}");
        let run = cpreg_in(path, &["report", "vm", host, "--format", "json"]);
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(run.json()["check"]["verdict"], "unknown", "{run}");
    }
    // Both neighbours load the same state.
    let convert = |host: &str, out: &str| {
        let run = cpreg_in(path, &["convert", "vm", host, "-o", out]);
        assert_eq!(run.status, Some(0), "{run}");
        fs::read(path.join(out)).expect("a file")
    };
    let written = convert("linux-6.12.63/n1", "common");
    assert!(written == convert("linux-6.12.95/n1", "neighbour"));
}

#[test]
fn a_filter_decides_at_the_end_unless_no_verdict_is_possible() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    fs::write(path.join("vm"), unpack_stream(KVM_6_12)).expect("a file");
    let filter = |host: &str| {
        let input = fs::File::open(path.join("vm")).expect("a file");
        let run = command(path, &["filter", host]).stdin(input).output();
        let output = run.expect("it runs");
        let report = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), output.stdout, report)
    };
    let cpu_section = b"\x03cpu";
    let has_vcpu = |sent: &[u8]| sent.windows(cpu_section.len()).any(|it| it == cpu_section);
    let (status, sent, report) = filter("ubuntu-24.04/n1");
    assert_eq!(status, Some(3), "{report}");
    assert!(!has_vcpu(&sent) && !sent.is_empty());
    assert!(
        report.contains("\n    cpreg filter host.json\n"),
        "{report}"
    );
    for host in ["linux-9.0/n1", "rhel-9/n1"] {
        let (status, sent, report) = filter(host);
        assert_eq!(status, Some(3), "{report}");
        assert!(sent.is_empty());
        assert!(report.contains("`cpreg filter host.json`"), "{report}");
    }
    let (status, sent, report) = filter("linux-6.12.63/n1");
    assert_eq!(status, Some(0), "{report}");
    assert!(has_vcpu(&sent));
}

/// The relay holds all vCPUs until the plans at all neighbours are known.
#[cfg(target_os = "linux")]
#[test]
fn the_relay_sends_no_vcpu_to_an_unknown_kernel() {
    use crate::relay::migrate;
    use crate::relay_process::{RelayProcess, load, send, with_return_path};

    let folder = tempfile::tempdir().expect("a folder");
    let stream = with_return_path(&unpack_stream(KVM_6_12));
    let relay = RelayProcess::start(folder.path(), &["--to", "ubuntu-24.04/n1"]);
    let (_, arrived) = migrate(&relay, |socket| send(socket, &stream), load);
    let (run, _) = relay.end();
    assert_eq!(run.status, Some(3), "{run}");
    assert!(run.stdout.contains("--to host.json"), "{run}");
    let cpu_section = b"\x03cpu";
    let mut sent = arrived.windows(cpu_section.len());
    assert!(!sent.any(|it| it == cpu_section));

    let listen = ["--listen", "unix:a.sock", "--connect", "unix:b.sock"];
    let run = cpreg_in(
        folder.path(),
        &[&["relay", "--to", "rhel-9/n1"], &listen[..]].concat(),
    );
    assert_eq!(run.status, Some(3), "{run}");
    assert!(run.stderr.contains("cpreg probe kvm"), "{run}");
}

#[test]
fn other_commands_name_the_neighbours() {
    let name = "linux-6.8/n1";
    for arguments in [
        &["show", name][..],
        &["diff", name, "linux-6.12.43/n1"],
        &["check", name, "linux-6.12.43/n1"],
        &["check", KVM_6_12, "linux-6.12.43/n1", "--from", name],
    ] {
        let run = cpreg(arguments);
        assert_eq!(run.status, Some(2), "{run}");
        for part in [
            "linux-6.1.176/neoverse-n1",
            "linux-6.12.43/neoverse-n1",
            "cpreg probe kvm",
        ] {
            assert!(run.stderr.contains(part), "{run}");
        }
    }
}

#[test]
fn parts_of_names_list_hosts() {
    for (name, text, count) in [
        ("graviton3", "neoverse-v1", 14),
        ("ubuntu-26.04", "linux-7.0.13", 9),
        ("linux-6.12.100/altra", "stand for it if they agree", 2),
        ("ubuntu-24.04/n1", "plans the VM at both", 2),
        ("linux-9.0/n1", "cpreg probe kvm", 1),
    ] {
        let run = cpreg(&["hosts", name]);
        assert_eq!(run.status, Some(0), "{run}");
        assert!(run.stdout.contains(text), "{run}");
        let report = cpreg(&["hosts", name, "--format", "json"]).json();
        assert_eq!(
            report["hosts"].as_array().map(Vec::len),
            Some(count),
            "{name}"
        );
    }
    let run = cpreg(&["hosts", "rhel-9"]);
    assert_eq!(run.status, Some(3), "{run}");
    assert!(run.stdout.contains("cpreg probe kvm"), "{run}");
    assert_snapshot!("host_names_listed", cpreg(&["hosts", "ubuntu-24.04/n1"]));
    let run = cpreg(&["hosts", "graviton4"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("graviton4 (neoverse-v2)"), "{run}");
}

#[test]
fn a_machine_without_a_recording_names_its_cpu() {
    let run = cpreg(&["check", KVM_6_12, "linux-7.3/graviton4"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("graviton4 (neoverse-v2)"), "{run}");
}
