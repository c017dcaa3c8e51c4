//! Snapshots of Cloud Hypervisor: identity, registers, edits and warnings.

use std::path::{Path, PathBuf};

use cpreg::register::{RegisterId, Value};
use cpreg_snapshot::ErrorKind;
use cpreg_snapshot::cloud_hypervisor::{Snapshot, Warning};

use crate::fixtures::{files, folder, read};

fn folders() -> Vec<PathBuf> {
    files(&folder().join("cloud-hypervisor/v53.0"), "")
}

pub(crate) fn state(folder: &Path) -> Vec<u8> {
    read(&folder.join("state.json.xz"))
}

fn parse(name: &str) -> Snapshot {
    Snapshot::parse(state(&folder().join("cloud-hypervisor").join(name))).unwrap()
}

#[test]
fn an_edit_that_changes_nothing_yields_the_same_bytes() {
    let mut folders = folders();
    folders.extend(files(
        &folder().join("cloud-hypervisor/rng-uninitialised"),
        "",
    ));
    for folder in &folders {
        let bytes = state(folder);
        let snapshot = Snapshot::parse(bytes.clone()).unwrap();
        assert!(snapshot.is_tested());
        let vm = snapshot.vm().unwrap();
        let name = folder.to_string_lossy();
        assert_eq!(snapshot.convert(&vm).unwrap(), bytes, "{name}");
        let frequency = if name.contains("max") {
            1_000_000_000
        } else {
            62_500_000
        };
        let stored = vm.source_hardware.counter_frequency;
        assert_eq!(stored, Some(frequency), "{name}");
    }
    assert_eq!(folders.len(), 23);
}

/// Every register that Firecracker saved on the same kernel and CPU is there, without SVE.
#[test]
fn firecracker_saves_the_same_list_on_the_same_host() {
    let vm = parse("v53.0/6.12.107__neoverse-n1__v1").vm().unwrap();
    let path = folder().join("firecracker/v1.16.1/6.12.107__neoverse-n1__v1.vmstate.xz");
    let firecracker = cpreg_snapshot::firecracker::Snapshot::parse(read(&path)).unwrap();
    let firecracker = firecracker.vm().unwrap();
    let registers = &vm.vcpus[0].registers;
    let mut compared = 0;
    for (id, _) in firecracker.vcpus[0].registers.iter() {
        assert!(registers.get(id).is_some(), "{id}");
        compared += 1;
    }
    assert_eq!(compared, 259);
    assert_eq!(
        vm.vcpus[0].pstate,
        registers.get_u64(RegisterId::CORE_PSTATE)
    );
}

#[test]
fn registers_of_sve_are_read_and_removed() {
    let snapshot = parse("v53.0/6.16.12__max__v2");
    let vm = snapshot.vm().unwrap();
    let registers = &vm.vcpus[1].registers;
    assert!(registers.get(RegisterId::SVE_VLS).is_some());
    assert!(registers.get(RegisterId::sve_z(31, 0)).is_some());
    // KVM does not list the V registers of a vCPU with SVE.
    assert!(registers.get(RegisterId::v(0)).is_none());
    let mut planned = vm.clone();
    planned.vcpus[1].registers.remove(RegisterId::sve_z(31, 0));
    let edited = Snapshot::parse(snapshot.convert(&planned).unwrap()).unwrap();
    assert!(edited.vm().unwrap().is_same_state(&planned));
}

#[test]
fn an_edit_changes_only_the_registers_in_the_text() {
    let snapshot = parse("v53.0/6.16.12__neoverse-n1__v2");
    let mut planned = snapshot.vm().unwrap();
    for vcpu in &mut planned.vcpus {
        vcpu.registers
            .insert(RegisterId::PSCI_VERSION, Value::U64(0x1_0001));
        vcpu.registers.remove(RegisterId::VENDOR_HYP_BMAP_2);
        vcpu.registers.insert(RegisterId::x(3), Value::U64(0x1122));
    }
    let edited = snapshot.convert(&planned).unwrap();
    let text = String::from_utf8(edited.clone()).unwrap();
    let original = state(&folder().join("cloud-hypervisor/v53.0/6.16.12__neoverse-n1__v2"));
    let original = String::from_utf8(original).unwrap();
    // Two registers are gone from the text, two have other bytes.
    let removed = "[3,0,22,0,0,0,48,96,0,0,0,0,0,0,0,0],";
    assert_eq!(original.matches(removed).count(), 2);
    let psci = |minor| format!("[0,0,20,0,0,0,48,96,{minor},0,1,0,0,0,0,0]");
    let expected = original.replace(removed, "").replace(&psci(3), &psci(1));
    assert_eq!(
        expected.len() + 2 * "34,17".len() - 2 * "0,0".len(),
        text.len()
    );
    let edited = Snapshot::parse(edited).unwrap().vm().unwrap();
    assert!(edited.is_same_state(&planned));
}

#[test]
fn unknown_members_and_the_older_forms_stay() {
    let core = vec![0_u8; 864];
    let core = serde_json::to_string(&core).unwrap();
    let registers = |array: &str| {
        format!(r#"{{"mp_state":[0,0,0,0],"new":7,"core_regs":{core},"sys_regs":{array}}}"#)
    };
    let objects = registers(
        r#"[ {"id":6931039826524504064,"addr":65539,"x":1},{"addr":2,"id":6931039826524504065}]"#,
    );
    let text = |inner: &str| serde_json::to_string(inner).unwrap();
    let bytes = |inner: &str| serde_json::to_string(inner.as_bytes()).unwrap();
    let document = |data: String| {
        format!(
            r#"{{ "a":1, "snapshots":{{"cpu-manager":{{"snapshots":{{"0":{{"snapshot_data":{data}}}}}}}}},"z":null}}"#
        )
    };
    for state in [
        document(format!(r#"{{"state": {}}}"#, text(&objects))),
        document(bytes(&objects)),
        document(format!(
            r#"{{"0-section":{{"id":"0-section","snapshot":{}}}}}"#,
            bytes(&format!(r#"{{"Kvm":{objects}}}"#))
        )),
    ] {
        let snapshot = Snapshot::parse(state.clone().into_bytes()).unwrap();
        assert!(!snapshot.is_tested());
        assert!(snapshot.warnings().contains(&Warning::WithoutSve));
        let mut planned = snapshot.vm().unwrap();
        assert_eq!(snapshot.convert(&planned).unwrap(), state.as_bytes());
        let psci = RegisterId::PSCI_VERSION;
        planned.vcpus[0].registers.insert(psci, Value::U64(65537));
        let edited = String::from_utf8(snapshot.convert(&planned).unwrap()).unwrap();
        // The number has five digits before and after the edit.
        let differing = edited
            .bytes()
            .zip(state.bytes())
            .filter(|(one, other)| one != other);
        assert_eq!(edited.len(), state.len());
        assert!(differing.count() <= 2);
    }
}

#[test]
fn limits_of_cloud_hypervisor_are_warnings() {
    let warnings = |name: &str| parse(name).warnings().to_vec();
    assert_eq!(warnings("v53.0/6.12.107__neoverse-n1__v1"), []);
    assert_eq!(
        warnings("v53.0/6.12.107__neoverse-n1__v2"),
        [Warning::EqualRedistributors]
    );
    assert_eq!(
        warnings("rng-uninitialised/v53.0__6.12.107__neoverse-n1__v1"),
        [Warning::QueueNotSetUp {
            device: "_virtio-pci-__rng".to_owned()
        }]
    );
}

#[test]
fn core_registers_cannot_be_removed_nor_new_ones_added() {
    let snapshot = parse("v53.0/6.1.176__neoverse-n1__v1");
    let mut without_pc = snapshot.vm().unwrap();
    without_pc.vcpus[0]
        .registers
        .remove(RegisterId::core_u64(0x40));
    let mut with_new = snapshot.vm().unwrap();
    with_new.vcpus[0]
        .registers
        .insert(RegisterId::TCR2_EL1, Value::U64(0));
    for planned in [without_pc, with_new] {
        let error = snapshot.convert(&planned).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadEdit, "{error}");
    }
}
