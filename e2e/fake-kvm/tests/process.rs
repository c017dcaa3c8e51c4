//! `libcpreg_interpose.so` in a process with threads, forks and failing calls.
//!
//! `fake-vmm` makes QEMU's calls, and `libe2e_fake_kvm.so` answers them as Linux 6.16.12 does. The
//! incoming VM comes from Linux 6.12.107, which lists three registers more.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const HOST: &str = "linux-6.16.12/neoverse-n1/pmu";
/// Recorded stream, relative to this package.
const STREAM: &str =
    "../../tests/fixtures/streams/kvm/6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";

/// Builds the preloaded libraries, and returns their folder. Cargo builds no cdylib for tests.
fn libraries() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_fake-vmm"));
        let folder = program.parent().expect("the folder of the profile");
        let target = folder.parent().expect("the target folder");
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--offline"]);
        command.args(["--package", "cpreg-interpose", "--package", "e2e-fake-kvm"]);
        command.arg("--target-dir").arg(target);
        if folder.ends_with("release") {
            command.arg("--release");
        }
        let status = command.status().expect("cargo");
        assert!(status.success(), "cargo build: {status}");
        folder.to_owned()
    });
    folder.clone()
}

/// Returns what `fake-vmm` prints.
fn prepare(arguments: &[&str]) -> String {
    let mut vmm = Command::new(env!("CARGO_BIN_EXE_fake-vmm"));
    let output = vmm.args(arguments).output().expect("a program");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Returns the values of the recorded VM with this many copies of its vCPU.
fn incoming(vcpus: usize) -> String {
    let stream = Path::new(env!("CARGO_MANIFEST_DIR")).join(STREAM);
    let stream = stream.to_str().expect("UTF-8");
    prepare(&["values", stream, &vcpus.to_string()])
}

/// Returns the policy of a VMM that receives a VM.
fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| prepare(&["policy", HOST]))
}

/// Runs `fake-vmm load` with the library, and with more variables in the environment.
fn run(values: &str, vcpus: usize, modes: &[&str], variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("values");
    std::fs::write(&path, values).expect("a file");
    let libraries = libraries();
    let preload = ["libcpreg_interpose.so", "libe2e_fake_kvm.so"]
        .map(|name| libraries.join(name).display().to_string());
    let mut vmm = Command::new(env!("CARGO_BIN_EXE_fake-vmm"));
    vmm.arg("load").arg(&path).args(modes);
    vmm.env("LD_PRELOAD", preload.join(":"))
        .env("CPREG_INTERPOSE", policy())
        .env("CPREG_INTERPOSE_FAKE_KVM", "1")
        .env("FAKE_KVM_HOST", HOST)
        .env("FAKE_KVM_VCPUS", vcpus.to_string())
        .envs(variables.iter().copied());
    vmm.output().expect("a program")
}

#[track_caller]
fn assert_output(output: &Output, expected: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim_end(), expected, "{output:?}");
    assert_eq!(output.status.success(), expected == "runs", "{output:?}");
}

#[test]
fn without_the_library_the_vmm_lacks_registers() {
    let output = run(&incoming(1), 1, &[], &[("CPREG_INTERPOSE", "off")]);
    assert_output(&output, "refused: list");
}

#[test]
fn eight_threads_load_their_vcpus_at_once() {
    let output = run(&incoming(8), 8, &[], &[]);
    assert_output(&output, "runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("ignored: "), "{text}");
    assert!(text.contains("PIR_EL1"), "{text}");
}

#[test]
fn a_vm_with_512_vcpus_loads() {
    assert_output(&run(&incoming(512), 512, &[], &[]), "runs");
}

/// With 64 threads, some thread holds a lock of the library at almost every fork.
#[test]
fn children_do_not_disturb_the_load() {
    let values = incoming(64);
    for mode in ["fork", "spawn"] {
        assert_output(&run(&values, 64, &[mode], &[]), "runs");
    }
}

#[test]
fn descriptors_that_the_kernel_gives_out_again_belong_to_the_new_vm() {
    assert_output(&run(&incoming(2), 2, &["reuse"], &[]), "runs");
}

/// A failing write fails in the VMM too, wherever it occurs, and the guest never runs.
#[test]
fn a_write_that_fails_half_way_fails_in_the_vmm() {
    let values = incoming(1);
    let registers = values.lines().count();
    for write in [
        1,
        registers / 2,
        2 * registers + registers / 2,
        3 * registers,
    ] {
        let write = write.to_string();
        let output = run(&values, 1, &[], &[("FAKE_KVM_FAILING_WRITE", &write)]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with("refused: "), "write {write}: {output:?}");
    }
}

#[test]
fn a_refused_vm_never_runs() {
    // No table entry tolerates this register, so the VMM does not list it.
    let unknown = incoming(1) + "0 603000000013c5e5 1\n";
    assert_output(&run(&unknown, 1, &[], &[]), "refused: list");
    // MIDR_EL1 of another CPU.
    let other_cpu = incoming(1) + "0 603000000013c000 410fd0c0\n";
    let output = run(&other_cpu, 1, &[], &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("refused: "), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("MIDR_EL1"), "{message}");
}
