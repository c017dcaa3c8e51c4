//! `cpreg run`: the policy of its options and files, and the status of a process. No test here
//! starts a VMM.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cpreg::register::{RegisterId, Value};
use cpreg_vcpu_filter::Event;
use cpreg_vcpu_filter::run_event::{RunEvent, RunEventDetails};
use cpreg_vcpu_filter::run_status::STATUS_FILE;
use serde_json::Value as Json;

use crate::fixtures::{folder_with, make_profile};
use crate::run::{KVM_6_12, Run, cpreg, cpreg_in};
use crate::schema;

const IGNORES_BITMAP: &str = r#"
[[tolerance]]
registers = ["KVM_REG_ARM_VENDOR_HYP_BMAP_2"]
difference = "source-only"
handling = "ignore"
when = { equals = 3 }
reason = "REASON"
"#;

/// Id of KVM_REG_ARM_VENDOR_HYP_BMAP_2.
const BITMAP: &str = "0x6030000000160003";

/// Returns the policy that the command printed, which matches its schema.
fn policy(run: &Run) -> Json {
    assert_eq!(run.status, Some(0), "{run}");
    let policy: Json = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(schema::validate(&policy), Ok(()), "{run}");
    policy
}

fn candidates(policy: &Json) -> Vec<&str> {
    let candidates = policy["candidates"].as_array().expect("a list");
    let ids = candidates.iter().map(|candidate| &candidate["register"]);
    ids.map(|id| id.as_str().expect("an id")).collect()
}

#[test]
fn tolerances_of_a_file_are_part_of_the_policy() {
    let folder = folder_with("site.toml", IGNORES_BITMAP.as_bytes());
    let arguments = ["run", "--print-policy", "--tolerances", "site.toml"];
    let policy = policy(&cpreg_in(folder.path(), &arguments));
    let [entry] = &policy["tolerances"].as_array().expect("a list")[..] else {
        panic!("{policy}");
    };
    assert_eq!(entry["registers"], Json::from(vec![BITMAP]));
    assert_eq!(entry["reason"], "REASON");
    assert_eq!(entry["condition"]["value"], "0x3");
    assert_eq!(entry["origin"]["file"], "site.toml");
    assert!(candidates(&policy).contains(&BITMAP));
}

#[test]
fn a_broken_file_starts_nothing() {
    let folder = folder_with("broken.toml", b"[[tolerance]]\nregisters = 1\n");
    fs::write(folder.path().join("broken.json"), "{}").expect("a file");
    for option in [
        ["--tolerances", "broken.toml"],
        ["--policy", "broken.json"],
        ["--baseline", "broken.json"],
        ["--log", "missing/log"],
        ["--log", "fd:77"],
    ] {
        let arguments = [&["run"], &option[..], &["--", "/bin/echo", "started"]].concat();
        let run = cpreg_in(folder.path(), &arguments);
        assert_eq!(run.status, Some(2), "{run}");
        assert_eq!(run.stdout, "", "{run}");
    }
}

#[test]
fn an_error_in_a_setting_names_the_option() {
    for setting in ["PSCI_VERSION=1.9", "PSCI_VERSION"] {
        let run = cpreg(&["run", "--born-with", setting, "--", "/bin/echo", "started"]);
        assert_eq!(run.status, Some(2), "{run}");
        let option = format!("--born-with {setting}:");
        assert!(run.stderr.contains(&option), "{run}");
    }
}

#[test]
fn a_policy_file_stands_for_its_options() {
    let options = [
        "--from",
        "linux-6.12.107/neoverse-n1",
        "--receiving",
        "true",
    ];
    let options = [&options[..], &["--born-with", "PSCI_VERSION=1.1"]].concat();
    let printed = cpreg(&[&["run", "--print-policy"], &options[..]].concat());
    let first = policy(&printed);
    let folder = folder_with("policy.json", printed.stdout.as_bytes());
    let arguments = ["run", "--policy", "policy.json", "--print-policy"];
    assert_eq!(policy(&cpreg_in(folder.path(), &arguments)), first);
    let arguments = [&arguments[..], &["--accept", "low"]].concat();
    assert_eq!(cpreg_in(folder.path(), &arguments).status, Some(2));
}

#[test]
fn a_profile_is_a_host_from_which_a_vm_comes() {
    let by_name = cpreg(&[
        "run",
        "--print-policy",
        "--from",
        "linux-6.12.107/neoverse-n1",
    ]);
    let by_name = policy(&by_name);
    let folder = folder_with("there.json", make_profile(KVM_6_12).as_bytes());
    let arguments = ["run", "--print-policy", "--from", "there.json"];
    let run = cpreg_in(folder.path(), &arguments);
    let of_profile = policy(&run);
    // The profile has the registers of one guest.
    let all = candidates(&by_name);
    let profile = candidates(&of_profile);
    assert!(
        !profile.is_empty() && profile.iter().all(|id| all.contains(id)),
        "{run}"
    );
    let stream = cpreg(&["run", "--print-policy", "--from", KVM_6_12]);
    assert_eq!(stream.status, Some(2), "{stream}");
    assert!(
        stream
            .stderr
            .contains("neither a recorded host nor a profile"),
        "{stream}"
    );
}

#[test]
fn the_status_of_a_process_is_read_from_its_memory_file() {
    let event = Event::Loaded {
        vcpu: 0,
        ignored: vec![
            (RegisterId::PIR_EL1, Value::U64(9)),
            (RegisterId::APIAKEYLO_EL1, Value::U64(0x1234)),
        ],
        changed: Vec::new(),
    };
    let own = std::process::id();
    let line = RunEvent::new(0.0, own, RunEventDetails::from_event(&event));
    let line = serde_json::to_string(&line).expect("JSON") + "\n";
    let file = rustix::fs::memfd_create(STATUS_FILE, rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = fs::File::from(file.expect("a memory file"));
    file.write_all(line.as_bytes()).expect("memory");
    let process = own.to_string();
    let text = cpreg(&["run", "--status", &process]);
    assert_eq!(text.status, Some(0), "{text}");
    let load = "vCPU 0: ignored: PIR_EL1 = 0x9, APIAKEYLO_EL1 = (secret); changed: none\n";
    assert!(text.stdout.contains(load), "{text}");
    let json = cpreg(&["run", "--status", &process, "--format", "json"]);
    assert_eq!(
        json.json()["loaded"][0]["ignored"][0]["value"],
        "0x9",
        "{json}"
    );
    assert!(!json.stdout.contains("1234"), "{json}");

    let none = cpreg(&["run", "--status", "1", "--format", "json"]);
    assert_eq!(none.status, Some(2), "{none}");
}

/// The wrapper starts the QEMU of its name through cpreg, with the policy file if it exists.
#[test]
fn the_wrapper_for_libvirt_starts_the_qemu_of_its_name() {
    let wrapper = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/libvirt");
    let wrapper = fs::read(wrapper.join("cpreg-emulator")).expect("the wrapper");
    let folder = folder_with("cpreg-qemu-test", &wrapper);
    let path = |name: &str| folder.path().join(name);
    fs::write(path("cpreg"), "#!/bin/sh\necho cpreg \"$@\"\n").expect("a file");
    fs::write(path("qemu-test"), "#!/bin/sh\n").expect("a file");
    fs::copy(path("cpreg-qemu-test"), path("other")).expect("a file");
    for name in ["cpreg-qemu-test", "cpreg", "qemu-test", "other"] {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path(name), mode).expect("permissions");
    }
    let start = |name: &str| {
        let mut command = std::process::Command::new("/bin/sh");
        command.arg(path(name)).args(["-machine", "none"]);
        command.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
        command.env("CPREG_RUN_POLICY", path("policy.json"));
        let output = command.output().expect("a shell");
        String::from_utf8(output.stdout).expect("text")
    };
    let qemu = format!("-- {} -machine none\n", path("qemu-test").display());
    assert_eq!(start("cpreg-qemu-test"), format!("cpreg run {qemu}"));
    fs::write(path("policy.json"), "{}").expect("a file");
    let policy = format!("--policy {}", path("policy.json").display());
    assert_eq!(
        start("cpreg-qemu-test"),
        format!("cpreg run {policy} {qemu}")
    );
    assert_eq!(start("other"), "");
}
