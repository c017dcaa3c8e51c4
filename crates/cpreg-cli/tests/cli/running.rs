//! Running VMs: SOURCE is the socket of a monitor, served by a fake QEMU.

use insta::assert_snapshot;

use crate::fake_qemu::{FakeQemu, Workspace};
use crate::run::{KVM_6_12, KVM_6_16, Run, cpreg_in, streams};

/// Returns a QEMU whose guest runs.
fn running_qemu(recorded: &str) -> FakeQemu {
    let mut fake = FakeQemu::from_stream(recorded);
    fake.status = "running";
    fake
}

/// Returns the run, and the commands that its QEMU received.
fn run_with_monitor(workspace: &Workspace, arguments: &[&str]) -> (Run, Vec<String>) {
    workspace.run_with_monitor("vm.qmp", running_qemu(KVM_6_12), || {
        cpreg_in(&workspace.path(""), arguments)
    })
}

/// Returns the output of `show` before the registers.
fn summary(run: &Run) -> &str {
    let end = run.stdout.find("\n\n");
    &run.stdout[..end.expect("a blank line")]
}

#[test]
fn showing_a_running_vm_neither_stops_nor_migrates_it() {
    let (run, received) = run_with_monitor(&Workspace::new(), &["show", "vm.qmp"]);
    assert_snapshot!("running_show", summary(&run));
    // QEMU neither stops nor migrates, and keeps nothing that cpreg has passed to it.
    let expected = [
        "qmp_capabilities",
        "query-status",
        "query-kvm",
        "qom-get",
        "query-cpus-fast",
        "qom-get",
        "human-monitor-command",
        "add-fd",
        "xen-save-devices-state",
        "remove-fd",
    ];
    assert_eq!(received, expected);
}

/// Checks that the result is that of the stream which QEMU would write.
#[test]
fn check_has_the_result_of_the_stream() {
    let workspace = Workspace::new();
    let destination = streams().join(KVM_6_16);
    let destination = destination.to_str().expect("UTF-8");
    let (run, _) = run_with_monitor(&workspace, &["check", "vm.qmp", destination]);
    let file = streams().join(KVM_6_12);
    std::fs::copy(file, workspace.path("vm.xz")).expect("a copy");
    let stream = cpreg_in(&workspace.path(""), &["check", "vm.xz", destination]);
    assert_eq!(run.status, stream.status, "{run}");
    let tail = |run: &Run| {
        run.without_steps()
            .lines()
            .skip(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(tail(&run), tail(&stream), "{run}");
}

/// A stream has no SVE vector lengths, but QEMU knows those of its VM.
#[test]
fn vector_lengths_are_compared() {
    const GUEST: &str = "kvm/6.12.107__q10.0__max__virt10.0-smp4.stream.xz";
    let decide = |lengths| {
        let mut fake = running_qemu(GUEST);
        fake.vector_lengths = lengths;
        let workspace = Workspace::new();
        let host = "linux-6.12.107/max/pmu,ptrauth,sve";
        let arguments = ["check", "vm.qmp", host, "--format", "json"];
        let (run, _) = workspace
            .run_with_monitor("vm.qmp", fake, || cpreg_in(&workspace.path(""), &arguments));
        let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
        let decisions = report["hardware"].as_array().expect("decisions").iter();
        let mut decisions = decisions.filter(|it| it["property"] == "SVE vector lengths");
        decisions.next().expect("SVE")["decision"].clone()
    };
    assert_eq!(decide(0xffff), "keep");
    assert_eq!(decide(0), "assume");
    // The host was recorded on an emulated CPU, whose other lengths prove nothing.
    assert_eq!(decide(0x3), "assume");
}

#[test]
fn rehearse() {
    let workspace = Workspace::new();
    let arguments = [
        "rehearse",
        "vm.qmp",
        "--",
        "./qemu",
        "-M",
        "virt-10.0",
        "-accel",
        "kvm",
    ];
    let (run, _) = workspace.run_with_monitor("vm.qmp", running_qemu(KVM_6_12), || {
        workspace.run(FakeQemu::from_stream(KVM_6_12), &arguments)
    });
    assert_snapshot!("running_rehearse", run);
}

#[test]
fn convert_is_refused() {
    let workspace = Workspace::new();
    let destination = streams().join(KVM_6_16);
    std::fs::copy(destination, workspace.path("there.xz")).expect("a copy");
    let arguments = ["convert", "vm.qmp", "there.xz", "-o", "out"];
    let (run, _) = run_with_monitor(&workspace, &arguments);
    assert_snapshot!("running_convert", run);
    assert!(!workspace.path("out").exists());
}

#[test]
fn report() {
    let workspace = Workspace::new();
    let (run, _) = run_with_monitor(&workspace, &["report", "vm.qmp", "-o", "out.json"]);
    assert_snapshot!("running_report", run);
    let report = cpreg_in(&workspace.path(""), &["show", "out.json"]);
    assert_snapshot!("running_report_shown", summary(&report));
}

/// Checks that the report has the guest's run state, although QEMU always writes `running`.
#[test]
fn run_state_is_reported() {
    for status in ["paused", "inmigrate", "a state of the future that is long"] {
        let mut fake = running_qemu(KVM_6_12);
        fake.status = status;
        let workspace = Workspace::new();
        let (run, _) = workspace.run_with_monitor("vm.qmp", fake, || {
            cpreg_in(&workspace.path(""), &["show", "vm.qmp"])
        });
        assert_eq!(run.status, Some(0), "{run}");
        let mut lines = run.stdout.lines();
        let guest = lines.find_map(|line| line.trim().strip_prefix("guest      "));
        // A VM in the state `inmigrate` is never loaded, and the third state is longer than its
        // field.
        let expected = if status == "paused" {
            status
        } else {
            "running"
        };
        assert_eq!(guest, Some(expected), "{run}");
    }
}
