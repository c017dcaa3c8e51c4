//! A stream of Linux 5.10 that does not show whether its guest has a PMU: cpreg plans with and
//! without, and decides only if the result is the same.

use std::fs;
use std::path::Path;

use crate::fixtures::unpack_stream;
use crate::run::{KVM_5_10, Run, command, cpreg, cpreg_in};

/// Host whose registers depend on the PMU.
const DEPENDENT: &str = "linux-6.12.107/n1";
/// Host whose registers are the same with and without a PMU.
const INDEPENDENT: &str = "linux-5.10.223/n1";
/// Host that refuses the guest with and without a PMU.
const OTHER_CPU: &str = "linux-6.12.107/max";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("vm"), unpack_stream(KVM_5_10)).expect("a file");
    folder
}

/// Runs the command in a report.
fn type_command(folder: &Path, command: &str) -> Run {
    let words: Vec<_> = command.split(' ').collect();
    assert_eq!(words[0], "cpreg");
    cpreg_in(folder, &words[1..])
}

#[test]
fn the_commands_of_an_unknown_verdict_give_their_verdicts() {
    let folder = folder();
    let arguments = ["check", "vm", DEPENDENT, "--format", "json"];
    let run = cpreg_in(folder.path(), &arguments);
    assert_eq!(run.status, Some(3), "{run}");
    let report = run.json();
    assert_eq!(report["verdict"], "unknown");
    assert_eq!(report["missing_facts"][0], "whether the guest has a PMU");
    let alternatives = report["alternatives"].as_array().expect("a list");
    assert_eq!(alternatives.len(), 2);
    for (alternative, (features, verdict, status)) in alternatives
        .iter()
        .zip([("pmu", "loads", 0), ("none", "refused", 1)])
    {
        assert_eq!(
            alternative["destination"],
            format!("{DEPENDENT}/{features}")
        );
        assert_eq!(alternative["verdict"], verdict);
        let command = alternative["command"].as_str().expect("text");
        let steps = report["next_steps"].to_string();
        assert!(steps.contains(&format!("`{command}`")), "{steps}");
        let run = type_command(folder.path(), command);
        assert_eq!(run.status, Some(status), "{run}");
        assert_eq!(run.json()["verdict"], verdict);
        assert!(run.json().get("alternatives").is_none());
    }
}

#[test]
fn nothing_is_written_on_an_assumption() {
    let folder = folder();
    let path = folder.path();
    let run = cpreg_in(path, &["convert", "vm", DEPENDENT, "-o", "out"]);
    assert_eq!(run.status, Some(3), "{run}");
    assert!(!path.join("out").exists());
    let step = format!("\n    cpreg convert vm {DEPENDENT}/pmu -o out\n");
    assert!(run.stdout.contains(&step), "{run}");

    let before = fs::read(path.join("vm")).expect("a file");
    let run = cpreg_in(path, &["convert", "vm", DEPENDENT, "--in-place"]);
    assert_eq!(run.status, Some(3), "{run}");
    assert_eq!(fs::read(path.join("vm")).expect("a file"), before);

    let input = fs::File::open(path.join("vm")).expect("a file");
    let output = command(path, &["filter", DEPENDENT])
        .stdin(input)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(3));
    let report = String::from_utf8_lossy(&output.stderr);
    let step = format!("\n    cpreg filter {DEPENDENT}/none\n");
    assert!(report.contains(&step), "{report}");
    let cpu_section = b"\x03cpu";
    let mut sent = output.stdout.windows(cpu_section.len());
    assert!(!sent.any(|it| it == cpu_section));
}

#[test]
fn a_common_result_is_reported_and_written() {
    let folder = folder();
    let path = folder.path();
    for (host, status, shown) in [(INDEPENDENT, 0, "with"), (OTHER_CPU, 1, "without")] {
        let run = cpreg_in(path, &["check", "vm", host]);
        assert_eq!(run.status, Some(status), "{run}");
        let note = format!("does not depend on it, and the plan shown is that {shown} a PMU");
        assert!(run.words().contains(&note), "{run}");
    }
    let convert = |host: &str, out: &str| {
        let run = cpreg_in(path, &["convert", "vm", host, "-o", out]);
        assert_eq!(run.status, Some(0), "{run}");
        fs::read(path.join(out)).expect("a file")
    };
    let written = convert(INDEPENDENT, "common");
    for features in ["pmu", "none"] {
        let other = convert(&format!("{INDEPENDENT}/{features}"), features);
        assert!(written == other, "{features}");
    }
}

/// The user's features of a recorded host as SOURCE are those of the VM.
#[test]
fn a_new_vm_has_the_named_features() {
    for features in ["pmu", "none"] {
        let source = format!("linux-5.10.223/neoverse-n1/{features}");
        let run = cpreg(&["check", &source, DEPENDENT]);
        let destination = format!("linux-6.12.107/neoverse-n1/{features} (");
        assert!(run.words().contains(&destination), "{run}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_relay_sends_no_vcpu_on_an_assumption() {
    use crate::relay::migrate;
    use crate::relay_process::{RelayProcess, load, send, with_return_path};

    let folder = folder();
    let stream = with_return_path(&unpack_stream(KVM_5_10));
    let relay = RelayProcess::start(
        folder.path(),
        &["--to", DEPENDENT, "--allow-no-return-path"],
    );
    let (_, arrived) = migrate(&relay, |socket| send(socket, &stream), load);
    let (run, _) = relay.end();
    assert_eq!(run.status, Some(3), "{run}");
    assert!(
        run.stdout.contains(&format!("--to {DEPENDENT}/none")),
        "{run}"
    );
    let cpu_section = b"\x03cpu";
    let mut sent = arrived.windows(cpu_section.len());
    assert!(!sent.any(|it| it == cpu_section));
}
