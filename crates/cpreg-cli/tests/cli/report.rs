//! `cpreg report`: the report has no data of the guest, and gets the same verdict as the stream.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use cpreg::register::RegisterId;
use cpreg_report::vm_report::VmReport;
use cpreg_stream::Stream;
use insta::assert_snapshot;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::{
    file_names, folder_with, make_profile, profile_with_keys, unpack_file, unpack_stream,
    with_serial_input,
};
use crate::run::{
    KVM_5_10, KVM_6_12, KVM_6_12_MAX_4, KVM_6_16, KVM_7_3_MAX, Run, TCG_5_2_MAX_4, TCG_10_0,
    TCG_11_1, cpreg, cpreg_in, streams,
};
use cpreg_testdata::large_stream::{self, Size};

/// Creates a folder with a VM of Linux 6.12 and a stream of another kernel, decompressed.
fn folder() -> TempDir {
    let folder = folder_with("vm", &unpack_stream(KVM_6_12));
    fs::write(folder.path().join("there"), unpack_stream(KVM_6_16)).expect("a file in it");
    folder
}

fn assert_success(run: Run) -> Run {
    assert_eq!(run.status, Some(0), "{run}");
    run
}

/// Returns the stream in a report.
fn embedded_stream(document: &[u8]) -> Vec<u8> {
    let report = VmReport::from_json(document).expect("a report");
    let mut bytes = Vec::new();
    let mut stream = report.stream().expect("a stream in it");
    stream.read_to_end(&mut bytes).expect("it unpacks");
    bytes
}

#[test]
fn text_for_an_issue_and_a_file_to_attach() {
    let folder = folder();
    let run = |arguments: &[&str]| assert_success(cpreg_in(folder.path(), arguments));
    let text_report = run(&["report", "vm", "there", "-o", "report.json"]);
    let size = fs::metadata(folder.path().join("report.json"));
    let size = format!("{} bytes", size.expect("the report").len());
    assert_snapshot!(
        "report_text",
        text_report.to_string().replace(&size, "[size]")
    );
    assert_snapshot!("report_shown", {
        let shown = run(&["show", "report.json"]).stdout;
        let (head, _) = shown.split_once("\nfirmware").expect("registers");
        head.to_owned()
    });
    assert_snapshot!("report_without_destination", run(&["report", "vm"]));
    // The printed document is the written one.
    let json = run(&["report", "vm", "there", "--format", "json"]).stdout;
    let written = fs::read_to_string(folder.path().join("report.json")).expect("the report");
    assert!(json == written);
    assert_eq!(
        file_names(folder.path()),
        ["report.json", "there", "vm"],
        "nothing is left behind"
    );
}

#[test]
fn a_report_is_small() {
    let packed = assert_success(cpreg(&["report", KVM_6_12_MAX_4, "--format", "json"]));
    assert!(packed.stdout.len() < 12 << 10, "{}", packed.stdout.len());
}

/// Returns all sequences of eight bytes that are not one repeated byte.
fn windows(bytes: &[u8]) -> HashSet<[u8; 8]> {
    let windows = bytes.windows(8);
    let varied = windows.filter(|window| window.iter().any(|byte| *byte != window[0]));
    varied
        .map(|window| window.try_into().expect("eight"))
        .collect()
}

#[test]
fn no_key_and_no_page_of_ram_is_in_it() {
    const PAGES: u64 = 64 * 4096;
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A VM with unique keys and RAM.
    let mut recorded = with_serial_input(KVM_6_12_MAX_4, "correct horse ba");
    let stream = Stream::open(&recorded).expect("a stream");
    let mut keys = Vec::new();
    for cpu in stream.cpus() {
        let start = usize::try_from(cpu.section().payload.start).expect("short");
        let values = start + 572 + 8 * cpu.register_count();
        for (at, (id, _)) in cpu.registers().enumerate() {
            if id.is_secret() {
                let key = (keys.len() as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
                recorded[values + 8 * at..][..8].copy_from_slice(&key.to_be_bytes());
                keys.push(key);
            }
        }
    }
    assert_eq!(keys.len(), 40, "two halves of five keys, of four vCPUs");
    let file = fs::File::create_new(folder.path().join("vm")).expect("a file in it");
    let size = Size {
        ram: 64 << 20,
        sent_ram: PAGES,
        vcpus: 4,
    };
    large_stream::write(&recorded, size, &file).expect("it grows");
    let whole = fs::read(folder.path().join("vm")).expect("the VM");
    // The first word of the first grown page, and so on.
    let words = (4096..PAGES).step_by(4096).flat_map(|address| {
        (0..512).map(move |number| (address + number).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    });
    let words: Vec<[u8; 8]> = words.map(u64::to_be_bytes).collect();
    let in_vm = windows(&whole);
    assert!(words.iter().all(|word| in_vm.contains(word)));

    for options in [&[][..], &["--general-registers"], &["vm", "--host"]] {
        let arguments = [&["report", "vm", "-o", "report.json", "--force"], options].concat();
        let run = assert_success(cpreg_in(folder.path(), &arguments));
        let document = fs::read(folder.path().join("report.json")).expect("the report");
        let stream = embedded_stream(&document);
        for bytes in [&document, &stream, &run.stdout.clone().into_bytes()] {
            let left = windows(bytes);
            for word in &words {
                assert!(!left.contains(word), "{word:x?}");
            }
            let text = String::from_utf8_lossy(bytes);
            for key in &keys {
                assert!(!left.contains(&key.to_be_bytes()), "{key:#x}");
                assert!(!left.contains(&key.to_le_bytes()), "{key:#x}");
                assert!(!text.contains(&format!("{key:x}")), "{key:#x}");
            }
        }
        // One character in every four bytes.
        assert!(!windows(&stream).contains(b"\0\0\0c\0\0\0o"));
        assert!(windows(&whole).contains(b"\0\0\0c\0\0\0o"));
        for id in RegisterId::POINTER_AUTHENTICATION_KEYS {
            let text = String::from_utf8_lossy(&document);
            assert!(text.contains(&format!("{:#018x}", id.raw())), "{id}");
        }
    }
}

#[test]
fn no_name_is_in_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let vm = folder.path().join("customer-4711");
    fs::write(&vm, unpack_stream(KVM_6_12)).expect("a file in it");
    let (profile, keys) = profile_with_keys(KVM_7_3_MAX);
    let mut profile: Value = serde_json::from_str(&profile).expect("JSON");
    profile["name"] = "web-17".into();
    profile["origin"]["command"] = serde_json::json!(["qemu", "-name", "customer-4711"]);
    let profile_path = folder.path().join("web-17.json");
    fs::write(&profile_path, profile.to_string()).expect("a file in it");
    let arguments = ["report", "customer-4711", "web-17.json", "--host"];
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    for format in ["text", "json"] {
        let all = [&arguments[..], &["--format", format]].concat();
        let printed = assert_success(cpreg_in(folder.path(), &all)).stdout;
        for name in ["4711", "web-17"]
            .into_iter()
            .chain(keys.iter().map(String::as_str))
        {
            assert!(!printed.contains(name), "{name} in {printed}");
        }
        let host = host.trim();
        assert!(
            host.len() < 6 || !printed.contains(host),
            "{host} in {printed}"
        );
    }
}

/// Returns the decisions by register, without the parts that depend on redacted values.
fn decisions_by_subject(check: &Value, redacted: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut decided = BTreeMap::new();
    let list = |name: &str| check[name].as_array().expect("a list").iter();
    let vcpus = |row: &Value| -> Vec<u64> {
        let text = row["vcpus"].as_str().expect("text");
        let range = |range: &str| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.parse::<u64>().expect("a number");
            number(first)..=number(last)
        };
        text.split(',').flat_map(range).collect()
    };
    for row in list("decisions") {
        let id = row["id"].as_str().expect("text");
        let is_redacted = redacted.contains(id);
        let mut row = row.clone();
        let object = row.as_object_mut().expect("an object");
        let numbers = vcpus(&Value::Object(object.clone()));
        object.remove("vcpus");
        if is_redacted {
            // A redaction mark is no value, and does not prove that the destination accepts one.
            object.retain(|name, _| !["source", "confidence"].contains(&name.as_str()));
        }
        for number in numbers {
            decided.insert(format!("{id} of vCPU {number}"), row.to_string());
        }
    }
    for row in list("extensions") {
        let key = format!("{} of {}", row["name"], row["vcpus"]);
        decided.insert(key, row.to_string());
    }
    for (number, row) in list("visible_changes").enumerate() {
        let mut row = row.clone();
        if row["id"].as_str().is_some_and(|id| redacted.contains(id)) {
            row["from"] = Value::Null;
        }
        decided.insert(format!("visible {number}"), row.to_string());
    }
    for (number, row) in list("loaders").enumerate() {
        let mut row = row.clone();
        row["confidence"] = Value::Null;
        decided.insert(format!("loader {number}"), row.to_string());
    }
    for name in ["verdict", "shape", "adjustments", "destination"] {
        decided.insert(name.to_owned(), check[name].to_string());
    }
    decided
}

/// Returns all recorded streams.
fn recorded_streams() -> Vec<PathBuf> {
    let folders = ["kvm", "tcg", "edited", "../tcg"];
    let files = folders.iter().flat_map(|folder| {
        let entries = fs::read_dir(streams().join(folder)).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path())
    });
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "xz"))
        .collect();
    files.sort();
    assert!(files.len() > 50);
    files
}

#[test]
fn a_report_of_every_recorded_stream_is_judged_like_the_stream() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kvm = [KVM_5_10, KVM_6_16, KVM_7_3_MAX];
    let tcg = [TCG_5_2_MAX_4, TCG_10_0, TCG_11_1];
    for stream in kvm.iter().chain(&tcg) {
        let name = stream.replace('/', "-");
        fs::write(folder.path().join(name), unpack_stream(stream)).expect("a file in it");
    }
    let run = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    let mut verdicts = BTreeSet::new();
    for path in recorded_streams() {
        fs::write(folder.path().join("vm"), unpack_file(&path)).expect("a file in it");
        let report = assert_success(run(&["report", "vm", "--format", "json"]));
        fs::write(folder.path().join("report.json"), &report.stdout).expect("a file in it");
        let report = report.json();
        let redacted = report["redactions"]["registers"]
            .as_array()
            .expect("a list");
        let redacted = redacted
            .iter()
            .filter_map(|register| register["id"].as_str());
        let redacted: BTreeSet<String> = redacted.map(str::to_owned).collect();
        let destinations = if report["vm"]["accelerator"] == "kvm" {
            kvm
        } else {
            tcg
        };
        let destinations = destinations.map(|stream| stream.replace('/', "-"));
        for destination in destinations.iter().map(String::as_str).chain(["vm"]) {
            let check = |source| run(&["check", source, destination, "--format", "json"]);
            let (stream, report) = (check("vm"), check("report.json"));
            assert_eq!(stream.status, report.status, "{}", path.display());
            let before = decisions_by_subject(&stream.json(), &redacted);
            let after = decisions_by_subject(&report.json(), &redacted);
            for (what, before) in &before {
                let path = path.display();
                assert_eq!(after.get(what), Some(before), "{path}: {what}");
            }
            assert_eq!(before.len(), after.len());
            verdicts.insert(before["verdict"].clone());
        }
    }
    assert_eq!(verdicts.len(), 4, "{verdicts:?}");
}

#[test]
fn report_as_destination_proves_unredacted_values() {
    let folder = folder();
    let run = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    assert_success(run(&["report", "vm", "-o", "report.json"]));
    let own = run(&["check", "vm", "report.json", "--format", "json"]).json();
    assert_eq!(own["verdict"], "loads");
    let decisions = own["decisions"].as_array().expect("a list");
    for decision in decisions {
        let is_redacted = [
            "TTBR0_EL1",
            "VBAR_EL1",
            "CONTEXTIDR_EL1",
            "TPIDR_EL1",
            "TPIDR_EL0",
        ]
        .iter()
        .any(|name| decision["name"] == *name);
        let is_proven = decision["confidence"] == "proven";
        assert_eq!(is_proven, !is_redacted, "{decision}");
        assert_eq!(decision["destination"].is_null(), is_redacted, "{decision}");
    }
    // Nor does a redaction mark prove anything about the same report.
    let again = run(&["check", "report.json", "report.json", "--format", "json"]).json();
    assert_eq!(again["verdict"], "loads");
    let proven = |check: &Value| {
        let decisions = check["decisions"].as_array().expect("a list").iter();
        decisions
            .filter(|decision| decision["confidence"] == "proven")
            .count()
    };
    assert_eq!(proven(&again), proven(&own));
}

#[test]
fn profile_as_destination_gives_the_same_check() {
    let folder = folder();
    fs::write(folder.path().join("there.json"), make_profile(KVM_6_16)).expect("a file in it");
    let run = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    let report = assert_success(run(&["report", "vm", "there.json", "--format", "json"])).json();
    let check = run(&["check", "vm", "there.json", "--format", "json"]).json();
    assert_eq!(report["check"]["verdict"], check["verdict"]);
    assert_eq!(report["check"]["loaders"], check["loaders"]);
    // The profile in the report is valid.
    let inside = report["destination"]["profile"].to_string();
    fs::write(folder.path().join("inside.json"), inside).expect("a file in it");
    fs::write(folder.path().join("report.json"), report.to_string()).expect("a file in it");
    let again = run(&["check", "report.json", "inside.json", "--format", "json"]).json();
    assert_eq!(again["decisions"], report["check"]["decisions"]);
    assert_eq!(again["loaders"], report["check"]["loaders"]);
}

#[test]
fn invalid_uses_of_a_report() {
    let folder = folder();
    let run = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    assert_success(run(&["report", "vm", "-o", "report.json"]));
    assert_snapshot!(
        "report_converted",
        run(&["convert", "report.json", "there", "-o", "out"])
    );
    let in_place = ["convert", "report.json", "there", "--in-place"];
    assert_eq!(run(&in_place).status, Some(2));
    assert_snapshot!("report_of_a_report", run(&["report", "report.json"]));
    fs::write(folder.path().join("there.json"), make_profile(KVM_6_16)).expect("a file in it");
    assert_snapshot!("report_of_a_profile", run(&["report", "there.json"]));
    assert_snapshot!(
        "report_of_nothing",
        run(&["report", "no-such-file", "-o", "out"])
    );
    assert!(!folder.path().join("out").exists());
}

#[test]
fn damaged_reports() {
    let folder = folder();
    let whole = assert_success(cpreg_in(
        folder.path(),
        &["report", "vm", "--format", "json"],
    ))
    .stdout;
    let mut text = String::new();
    let mut document: Value = serde_json::from_str(&whole).expect("JSON");
    let length = document["stream"]["length"].clone();
    document["stream"]["length"] = "0xfffffff".into();
    let short = document.to_string();
    document["stream"]["length"] = "0x10000000000".into();
    let huge = document.to_string();
    // A line of the compressed stream is missing.
    document["stream"]["length"] = length;
    let lines = document["stream"]["data"].as_array_mut();
    lines.expect("a list").remove(3);
    for (what, content) in [
        ("cut", &whole[..whole.len() / 2]),
        ("newer", &whole.replace("cpreg.report/2", "cpreg.report/9")),
        ("no base64", &whole.replacen("\"H4sI", "\"H4s*", 1)),
        (
            "other packing",
            &whole.replacen("gzip, base64", "zstd, base64", 1),
        ),
        ("shorter than it says", &short),
        ("too long", &huge),
        ("damaged", &document.to_string()),
    ] {
        fs::write(folder.path().join("report.json"), content).expect("a file in it");
        let run = cpreg_in(folder.path(), &["show", "report.json"]);
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
        text.extend([what, "\n", &run.stderr, "\n"]);
    }
    assert_snapshot!("report_damaged", text);
}

#[test]
fn existing_file_is_kept_without_force() {
    let folder = folder();
    let path = folder.path();
    let run = |arguments: &[&str]| cpreg_in(path, arguments);
    let read = |name: &str| fs::read(path.join(name)).expect("a file");
    fs::write(path.join("old"), "old").expect("a file in it");
    symlink("old", path.join("link")).expect("a link");
    fs::create_dir(path.join("folder")).expect("a folder");
    let vm = read("vm");
    for (target, expected) in [
        ("old", "error: old already exists"),
        ("link", "error: link already exists"),
        ("folder", "error: cannot write folder"),
        ("vm", "error: the output vm is the input"),
        ("/dev/null", "error: cannot write /dev/null"),
        ("no/such", "error: cannot write no/such"),
        ("-", "error: -o cannot write a report to standard output"),
    ] {
        let run = run(&["report", "vm", "-o", target]);
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
        assert_eq!(run.stderr.lines().next(), Some(expected), "{run}");
        assert!(run.stderr.contains("hint: "), "{run}");
    }
    for target in ["vm", "/dev/null", "folder"] {
        let run = run(&["report", "vm", "-o", target, "--force"]);
        assert_eq!(run.status, Some(2), "{run}");
    }
    assert!(read("vm") == vm && read("old") == b"old");
    let null = fs::metadata("/dev/null").expect("a device");
    assert_ne!(null.rdev(), 0);

    // The target of a link is replaced, not the link.
    assert_success(run(&["report", "vm", "-o", "link", "--force"]));
    assert!(path.join("link").is_symlink());
    assert!(read("old").starts_with(b"{\n  \"schema\": \"cpreg.report/2\""));
    assert_eq!(file_names(path), ["folder", "link", "old", "there", "vm"]);
}

#[test]
fn packed_and_piped_streams_give_the_same_report() {
    let folder = folder();
    let plain = assert_success(cpreg_in(
        folder.path(),
        &["report", "vm", "--format", "json"],
    ));
    let packed = assert_success(cpreg(&["report", KVM_6_12, "--format", "json"]));
    assert!(plain.stdout == packed.stdout);
    let verified =
        assert_success(cpreg(&["report", KVM_6_12, "--verify", "--format", "json"])).json();
    assert_eq!(verified["stream"], plain.json()["stream"]);
    assert!(Path::new(&streams().join(KVM_6_12)).exists());
}
