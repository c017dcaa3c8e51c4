//! `cpreg rehearse` with a fake QEMU: its load of the VM, and the report.

use cpreg::register::{RegisterId, Value};
use insta::assert_snapshot;

use crate::fake_qemu::{FakeQemu, Fault, Workspace, device_state, edit_registers};
use crate::fixtures::unpack_stream;
use crate::run::{KVM_5_10, KVM_6_12, KVM_6_16, Run, TCG_7_2, TCG_10_0};

const KVM: [&str; 6] = ["--", "./qemu", "-M", "virt-10.0", "-accel", "kvm"];
const TCG: [&str; 6] = ["--", "./qemu", "-M", "virt-7.2", "-cpu", "cortex-a57"];

/// Returns a QEMU 7.2 under TCG.
fn tcg_7_2() -> FakeQemu {
    let mut fake = FakeQemu::from_stream(TCG_7_2);
    fake.version = [7, 2, 22];
    fake
}

/// Rehearses a recorded stream.
fn rehearse(recorded: &str, fake: FakeQemu, options: &[&str], command: &[&str]) -> Run {
    let words = [&["rehearse", "vm"], options, command].concat();
    Workspace::with_vm(recorded).run(fake, &words)
}

/// Makes QEMU execute these shell commands when the status is queried after a stream has arrived. A
/// QEMU that refuses a stream then exits.
fn refuse_load(command: &str, has_stream: bool, orders: &'static str) -> Option<Fault> {
    (command == "query-status" && has_stream).then_some(Fault::ShellCommand(orders))
}

const CPU_FAILED: &str =
    "echo \"qemu: error while loading state for instance 0x0 of device 'cpu'\" >&2
    echo 'qemu: load of migration failed: Operation not permitted' >&2
    exit 1";

#[test]
fn a_vm_that_loads() {
    let mut fake = FakeQemu::from_stream(KVM_6_12);
    fake.load = |sent| {
        // Every device is unchanged, and RAM has no page.
        let state = device_state(sent);
        assert!(state == device_state(&unpack_stream(KVM_6_12)));
        assert!(sent.len() < 2 * state.len(), "{}", sent.len());
        state
    };
    let run = rehearse(KVM_6_12, fake, &[], &KVM);
    assert_snapshot!("rehearse_loads", run);
    let run = rehearse(TCG_10_0, FakeQemu::from_stream(TCG_10_0), &[], &TCG);
    assert_snapshot!("rehearse_loads_tcg", run);
}

/// Checks that an emulating QEMU is queried in one process and loads in another, with the same
/// arguments.
#[test]
fn emulator_is_queried_and_loads_in_two_processes() {
    let workspace = Workspace::with_vm(TCG_10_0);
    let words = [&["rehearse", "vm"], &TCG[..]].concat();
    let (run, programs) = workspace.run_with_command_lines(FakeQemu::from_stream(TCG_10_0), &words);
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(programs.len(), 2, "{run}");
    for program in &programs {
        let words: Vec<_> = program.lines().collect();
        let monitor = words.iter().position(|word| *word == "-qmp");
        let before_monitor = &words[..monitor.expect("a monitor")];
        let expected =
            "-M virt-7.2 -cpu cortex-a57 -display none -no-user-config -S -S -incoming defer";
        assert_eq!(before_monitor.join(" "), expected, "{run}");
    }
    let workspace = Workspace::with_vm(KVM_6_12);
    let words = [&["rehearse", "vm"], &KVM[..]].concat();
    let (run, programs) = workspace.run_with_command_lines(FakeQemu::from_stream(KVM_6_12), &words);
    assert_eq!((run.status, programs.len()), (Some(0), 1), "{run}");
}

#[test]
fn a_vm_that_is_refused() {
    let mut fake = tcg_7_2();
    fake.fault = |command, has_stream| refuse_load(command, has_stream, CPU_FAILED);
    let run = rehearse(TCG_10_0, fake, &[], &TCG);
    assert_snapshot!("rehearse_refused", run);
    // Only a consent resolves that.
    let mut fake = FakeQemu::from_stream(KVM_5_10);
    fake.fault = |command, has_stream| refuse_load(command, has_stream, CPU_FAILED);
    let run = rehearse(KVM_6_16, fake, &[], &KVM);
    assert_snapshot!("rehearse_refused_undecided", run);
}

#[test]
fn many_messages() {
    let mut fake = FakeQemu::from_stream(KVM_6_12);
    fake.fault = |command, has_stream| {
        let orders = "for n in 1 2 3 4 5 6 7 8 9; do echo \"qemu: warning: register $n\" >&2; done; echo 'qemu: it fails' >&2; exit 1";
        refuse_load(command, has_stream, orders)
    };
    let run = rehearse(KVM_6_12, fake, &[], &KVM);
    let line = run
        .stdout
        .split("\n\n")
        .find(|paragraph| paragraph.starts_with("messages of QEMU"));
    assert_snapshot!("rehearse_many_words", line.expect("a line"));
}

#[test]
fn a_vm_that_is_repaired() {
    let run = rehearse(TCG_10_0, tcg_7_2(), &["--converted"], &TCG);
    assert_snapshot!("rehearse_repaired", run);
    let mut fake = tcg_7_2();
    fake.fault = |command, has_stream| refuse_load(command, has_stream, CPU_FAILED);
    let run = rehearse(TCG_10_0, fake, &["--converted"], &TCG);
    assert_snapshot!("rehearse_repaired_refused", run);
    // A VM that the plan does not make loadable is not loaded.
    let mut fake = FakeQemu::from_stream(KVM_5_10);
    fake.fault = |command, _| {
        let refusal = Fault::Refusal("GenericError", "this is not asked");
        (command == "migrate-incoming").then_some(refusal)
    };
    let run = rehearse(KVM_6_16, fake, &["--converted"], &KVM);
    assert_snapshot!("rehearse_repair_refused", run);
    // Nothing needs a conversion.
    let run = rehearse(
        KVM_6_12,
        FakeQemu::from_stream(KVM_6_12),
        &["--converted"],
        &KVM,
    );
    assert_snapshot!("rehearse_repaired_nothing", run);
}

/// Returns the state of a QEMU that loads the VM, but with another MPIDR_EL1 and without TCR2_EL1.
fn drop_register(sent: &[u8]) -> Vec<u8> {
    let kept = edit_registers(sent, |vm| {
        let registers = &mut vm.vcpus[0].registers;
        registers.insert(RegisterId::MPIDR_EL1, Value::U64(0x8000_0001));
        let tcr2 = RegisterId::from_raw(0x6030_0000_0013_c103);
        registers.remove(tcr2).expect("it is listed");
    });
    device_state(&kept)
}

#[test]
fn a_vm_that_loads_with_deviations() {
    let mut fake = FakeQemu::from_stream(KVM_6_12);
    fake.load = drop_register;
    let run = rehearse(KVM_6_12, fake, &[], &KVM);
    assert_snapshot!("rehearse_deviations", run);
    let mut fake = tcg_7_2();
    fake.load = |sent| {
        let kept = edit_registers(sent, |vm| {
            let registers = &mut vm.vcpus[0].registers;
            let id_dfr0 = RegisterId::from_raw(0x4020_0000_200f_0082);
            registers.insert(id_dfr0, Value::U64(7));
        });
        device_state(&kept)
    };
    let run = rehearse(TCG_10_0, fake, &["--converted"], &TCG);
    assert_snapshot!("rehearse_repaired_deviations", run);
}

/// Checks a controller whose load depends on guest memory, which a rehearsal lacks.
#[test]
fn a_refusal_that_may_be_due_to_missing_memory() {
    let mut stream = unpack_stream(KVM_6_12);
    let (old_name, new_name) = (b"gpex_root", b"ich9_ahci");
    for offset in 0..stream.len() - old_name.len() {
        if stream[offset..].starts_with(old_name) {
            stream[offset..offset + old_name.len()].copy_from_slice(new_name);
        }
    }
    let workspace = Workspace::new();
    workspace.put("vm", &stream);
    let mut fake = FakeQemu::from_stream(KVM_6_12);
    fake.state = device_state(&stream);
    fake.fault = |command, has_stream| {
        let orders = "echo \"qemu: error while loading state for instance 0x0 of device '0000:00:00.0/ich9_ahci'\" >&2; exit 1";
        refuse_load(command, has_stream, orders)
    };
    let words = [&["rehearse", "vm"], &KVM[..]].concat();
    assert_snapshot!("rehearse_not_believed", workspace.run(fake, &words));
}

/// Options that access the host: files, sockets, devices.
const HOST_ACCESS_OPTIONS: [&str; 16] = [
    "-drive",
    "file=disk.img,format=raw,if=none,id=disk",
    "-nographic",
    "-serial",
    "mon:stdio",
    "-pidfile",
    "pid",
    "-device",
    "vfio-pci,host=0000:01:00.0",
    "-object",
    "memory-backend-file,id=ram,size=64M,mem-path=ram,share=on",
    "-netdev",
    "user,id=net,hostfwd=tcp::2222-:22",
    "-monitor",
    "unix:monitor,server=on",
    "-daemonize",
];

#[test]
fn a_command_line_that_accesses_the_host() {
    let command = [&KVM[..], &HOST_ACCESS_OPTIONS].concat();
    let run = rehearse(KVM_6_12, FakeQemu::from_stream(KVM_6_12), &[], &command);
    assert_snapshot!("rehearse_outside", run);
    let run = rehearse(
        KVM_6_12,
        FakeQemu::from_stream(KVM_6_12),
        &["--allow-option", "serial", "--allow-option", "plugin"],
        &[&KVM[..], &["-serial", "null", "-plugin", "mine.so"]].concat(),
    );
    assert_snapshot!("rehearse_kept", run);
}

/// Returns JSON documents: of a VM that deviates, of a QEMU whose state cannot be queried, and of a
/// device that fails.
pub(crate) fn documents() -> [serde_json::Value; 3] {
    let mut fake = FakeQemu::from_stream(KVM_6_12);
    fake.load = drop_register;
    let command = [&KVM[..], &HOST_ACCESS_OPTIONS].concat();
    let deviating = rehearse(KVM_6_12, fake, &["--format", "json"], &command);
    let mut fake = FakeQemu::from_stream(KVM_6_12);
    fake.fault = |command, _| {
        let refusal = Fault::Refusal("CommandNotFound", "there is none");
        (command == "xen-save-devices-state").then_some(refusal)
    };
    let without_state = rehearse(KVM_6_12, fake, &["--format", "json"], &KVM);
    assert_eq!((deviating.status, without_state.status), (Some(1), Some(3)));
    let mut fake = FakeQemu::from_stream(KVM_6_12);
    fake.fault = |command, has_stream| {
        let orders = "echo \"qemu: error while loading state for instance 0x0 of device 'pl011'\" >&2; exit 1";
        refuse_load(command, has_stream, orders)
    };
    let device = rehearse(KVM_6_12, fake, &["--format", "json"], &KVM);
    assert_eq!(device.status, Some(1), "{device}");
    [deviating.json(), without_state.json(), device.json()]
}

#[test]
fn json_of_rehearsals() {
    let [mut deviating, without_state, _] = documents();
    let object = deviating.as_object_mut().expect("an object");
    let check = object.remove("check").expect("a member");
    assert_eq!(check["schema"], "cpreg.check/2");
    let pretty = |document| serde_json::to_string_pretty(document).expect("JSON");
    assert_snapshot!("json_rehearsal", pretty(&deviating));
    assert_snapshot!("json_rehearsal_mute", pretty(&without_state));
}
