//! VMs that cannot be loaded whatever their registers are: another accelerator ran them, or the
//! destination's QEMU lacks their machine type.

use std::fs::{self, File};

use insta::assert_snapshot;
use tempfile::TempDir;

use crate::fake_qemu::{FakeQemu, Workspace};
use crate::fixtures::{file_names, make_profile, unpack_stream};
use crate::run::{KVM_6_12, KVM_6_12_Q11_1, TCG_7_2, TCG_10_0, TCG_11_1, command, cpreg, cpreg_in};

/// Creates a folder with a VM of KVM, one of TCG, and a profile of TCG.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in [
        ("kvm.stream", unpack_stream(KVM_6_12)),
        ("tcg.stream", unpack_stream(TCG_10_0)),
        ("tcg.json", make_profile(TCG_7_2).into_bytes()),
    ] {
        fs::write(folder.path().join(name), content).expect("a file in it");
    }
    folder
}

const HOST: &str = "linux-6.12.107/neoverse-n1";

#[test]
fn check_refuses_another_accelerator() {
    assert_snapshot!("check_accelerators", cpreg(&["check", KVM_6_12, TCG_10_0]));
    for arguments in [["check", TCG_10_0, HOST], ["check", TCG_10_0, KVM_6_12]] {
        let run = cpreg(&arguments);
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stdout.contains("accelerator: tcg -> kvm"), "{run}");
        assert!(run.stderr.is_empty(), "{run}");
    }
}

#[test]
fn the_document_is_that_of_every_check() {
    let document = cpreg(&["check", TCG_10_0, HOST, "--format", "json"]).json();
    assert_eq!(document["schema"], "cpreg.check/2");
    assert_eq!(document["verdict"], "refused");
    let difference = &document["shape"][0];
    assert_eq!(difference["kind"], "accelerator");
    assert_eq!(difference["blocks"], true);
    for member in ["reason", "advice"] {
        assert!(difference[member].is_string(), "{difference}");
    }
    assert_eq!(document["decisions"].as_array().map(Vec::len), Some(0));
}

#[test]
fn convert_writes_nothing() {
    let folder = folder();
    let names = file_names(folder.path());
    for (vm, to) in [("kvm.stream", "tcg.json"), ("tcg.stream", HOST)] {
        let before = fs::read(folder.path().join(vm)).expect("the VM");
        for target in [&["-o", "out"][..], &["--in-place"]] {
            let run = cpreg_in(folder.path(), &[&["convert", vm, to], target].concat());
            assert_eq!(run.status, Some(1), "{run}");
            assert!(run.stdout.contains("accelerator: "), "{run}");
        }
        assert!(fs::read(folder.path().join(vm)).expect("the VM") == before);
    }
    assert_eq!(file_names(folder.path()), names);
}

#[test]
fn filter_forwards_no_device_state() {
    let folder = folder();
    // The machine type of a profile is refused before RAM, when the accelerator is not known yet.
    for (vm, to, reason) in [
        ("kvm.stream", "tcg.json", "machine type: "),
        ("tcg.stream", HOST, "accelerator: "),
    ] {
        let input = File::open(folder.path().join(vm)).expect("the VM");
        let arguments = ["filter", to];
        let output = command(folder.path(), &arguments)
            .stdin(input)
            .output()
            .expect("the command starts");
        let report = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{report}");
        assert!(report.contains(reason), "{report}");
        assert_eq!(output.stdout.is_empty(), to != HOST, "{report}");
        let vm = fs::read(folder.path().join(vm)).expect("the VM");
        assert!(vm.starts_with(&output.stdout) && output.stdout.len() < vm.len());
    }
}

#[test]
fn relay_does_not_listen() {
    let folder = folder();
    for (vm, to) in [("kvm.stream", "tcg.json"), ("tcg.stream", HOST)] {
        let arguments = [
            "relay",
            "--listen",
            "unix:here",
            "--connect",
            "unix:there",
            "--to",
            to,
            "--from",
            vm,
        ];
        let run = cpreg_in(folder.path(), &arguments);
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stdout.contains("accelerator: "), "{run}");
        assert!(!folder.path().join("here").exists());
    }
}

#[test]
fn rehearse_loads_nothing() {
    let workspace = Workspace::with_vm(TCG_10_0);
    for options in [&[][..], &["--converted"]] {
        let words = [
            &["rehearse", "vm"],
            options,
            &["--", "./qemu", "-M", "virt-10.0", "-accel", "kvm"],
        ];
        let mut fake = FakeQemu::from_stream(KVM_6_12);
        fake.load = |_| panic!("QEMU loads a VM of another accelerator");
        let run = workspace.run(fake, &words.concat());
        assert_eq!(run.status, Some(1), "{run}");
        assert!(
            run.stdout.contains("another accelerator ran the VM"),
            "{run}"
        );
        assert!(run.stdout.contains("accelerator: tcg -> kvm"), "{run}");
    }
}

/// Checks versioned machine types. Tests of the crate `cpreg` have the lists of two QEMUs.
#[test]
fn a_machine_type_that_the_loader_lacks_is_refused() {
    let refused = |source, to, loader| {
        let run = cpreg(&["check", source, to, "--loader", loader]);
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stdout.contains(" does not have it: "), "{run}");
        run
    };
    assert_snapshot!(
        "check_machine_type",
        refused(KVM_6_12, "linux-6.16.12/neoverse-n1", "qemu-8.2")
    );
    refused(KVM_6_12_Q11_1, HOST, "qemu-9.2");
    let run = cpreg(&["check", TCG_11_1, TCG_10_0, "--loader", "qemu-8.2"]);
    assert!(!run.stdout.contains(" does not have it: "), "{run}");
}
