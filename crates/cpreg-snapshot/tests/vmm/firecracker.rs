//! Snapshots of Firecracker: identity, registers, and edits compared with snapshot-editor's.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cpreg::register::{RegisterId, Value};
use cpreg::vm::Vm;
use cpreg_snapshot::ErrorKind;
use cpreg_snapshot::firecracker::{SavedVcpu, Snapshot};

use crate::fixtures::{files, folder, read, read_text};

const FOLDERS: [&str; 5] = ["v1.10.1", "v1.14.4", "v1.16.1", "variants", "edited"];

fn snapshots() -> Vec<(PathBuf, Vec<u8>)> {
    let folders = FOLDERS.map(|name| folder().join("firecracker").join(name));
    let paths = folders.iter().flat_map(|path| files(path, ".vmstate.xz"));
    paths.map(|path| (path.clone(), read(&path))).collect()
}

fn parse(path: &std::path::Path) -> Snapshot {
    Snapshot::parse(read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn an_edit_that_changes_nothing_yields_the_same_bytes() {
    let snapshots = snapshots();
    for (path, bytes) in &snapshots {
        let name = path.display();
        let snapshot = Snapshot::parse(bytes.clone());
        let snapshot = snapshot.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(snapshot.is_tested(), "{name}");
        let vm = snapshot.vm().unwrap();
        assert_eq!(&snapshot.convert(&vm).unwrap(), bytes, "{name}");
    }
    assert_eq!(snapshots.len(), 111);
}

/// Compares ids, order, values, MPIDR and run state with the output of snapshot-editor.
#[test]
fn snapshot_editor_prints_the_same_registers() {
    let mut compared = 0;
    for version in ["v1.14.4", "v1.16.1"] {
        let folder = folder().join("firecracker").join(version);
        for path in files(&folder.join("dumps"), ".vcpu.txt.xz") {
            let name = path.file_name().unwrap().to_string_lossy();
            let name = name.replace(".vcpu.txt.xz", ".vmstate.xz");
            let snapshot = parse(&folder.join(&name));
            let text = read_text(&path);
            let dumps: Vec<&str> = text.split("vcpu ").skip(1).collect();
            assert_eq!(dumps.len(), snapshot.vcpus().len(), "{name}");
            for (dump, vcpu) in dumps.into_iter().zip(snapshot.vcpus()) {
                let mut lines = dump.lines().skip(1);
                let mut field = |key: &str| hex(lines.next().unwrap().strip_prefix(key).unwrap());
                let state = Value::U64(vcpu.mp_state().into());
                assert_eq!(field("kvm_mp_state: "), state, "{name}");
                field("mpidr: ");
                let printed: Vec<_> = lines
                    .filter(|line| !line.is_empty())
                    .map(|line| {
                        let (id, value) = line.split_once(' ').expect("id and value");
                        let id = u64::from_str_radix(&id[2..], 16).unwrap();
                        (RegisterId::from_raw(id), value)
                    })
                    .collect();
                let stored: Vec<_> = vcpu.registers().collect();
                assert_eq!(printed.len(), stored.len(), "{name}");
                for ((printed_id, printed_value), (id, value)) in printed.into_iter().zip(stored) {
                    assert_eq!(printed_id, id, "{name}");
                    assert_eq!(
                        digits(printed_value),
                        digits(&value_text(&value)),
                        "{name} {id}"
                    );
                }
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 44);
}

fn hex(text: &str) -> Value {
    Value::U64(u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap())
}

/// snapshot-editor pads the digits of each byte in its own way, so zeros are not compared.
fn digits(text: &str) -> String {
    text.trim_start_matches("0x").replace('0', "")
}

fn value_text(value: &Value) -> String {
    value.to_string()
}

/// Removes the registers that a reference lacks, and compares the bytes.
#[test]
fn an_edit_yields_the_file_of_snapshot_editor() {
    let mut compared = 0;
    for path in files(&folder().join("firecracker/edited"), ".vmstate.xz") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (source, rest) = name.split_once("-to-").unwrap();
        let (_, cpu) = rest.split_once("__").unwrap();
        let original = folder()
            .join("firecracker/v1.16.1")
            .join(format!("{source}__{cpu}"));
        let original = parse(&original);
        let reference = parse(&path);
        let kept: BTreeSet<_> = reference.vcpus()[0].ids().iter().collect();
        let mut planned = original.vm().unwrap();
        for id in original.vcpus()[0].ids() {
            if !kept.contains(id) {
                planned.vcpus[0].registers.remove(RegisterId::from_raw(*id));
            }
        }
        assert_eq!(original.convert(&planned).unwrap(), read(&path), "{name}");
        compared += 1;
    }
    assert_eq!(compared, 12);
}

#[test]
fn a_changed_value_is_read_back_and_the_version_stays() {
    for version in ["v1.10.1", "v1.14.4", "v1.16.1"] {
        let path = folder()
            .join("firecracker")
            .join(version)
            .join("6.16.12__max__v2.vmstate.xz");
        let snapshot = parse(&path);
        let mut planned = snapshot.vm().unwrap();
        for vcpu in &mut planned.vcpus {
            let old = vcpu
                .registers
                .insert(RegisterId::PSCI_VERSION, Value::U64(0x1_0001));
            assert_eq!(old, Some(Value::U64(0x1_0003)));
            vcpu.registers.remove(RegisterId::VENDOR_HYP_BMAP_2);
        }
        let edited = Snapshot::parse(snapshot.convert(&planned).unwrap()).unwrap();
        assert_eq!(edited.version(), snapshot.version());
        assert!(edited.vm().unwrap().is_same_state(&planned));
        let ids = |snapshot: &Snapshot| snapshot.vcpus()[1].ids().to_vec();
        let mut expected = ids(&snapshot);
        expected.retain(|id| *id != RegisterId::VENDOR_HYP_BMAP_2.raw());
        assert_eq!(ids(&edited), expected, "the order stays");
    }
}

#[test]
fn a_register_that_the_snapshot_lacks_cannot_be_set() {
    let path = folder().join("firecracker/v1.16.1/6.1.176__neoverse-n1__v1.vmstate.xz");
    let snapshot = parse(&path);
    let with = |id, value| -> Vm {
        let mut planned = snapshot.vm().unwrap();
        planned.vcpus[0].registers.insert(id, value);
        planned
    };
    for planned in [
        with(RegisterId::TCR2_EL1, Value::U64(0)),
        with(RegisterId::ccsidr(0), Value::U64(1 << 32)),
        Vm::default(),
    ] {
        let error = snapshot.convert(&planned).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadEdit, "{error}");
    }
}

/// The features that the vCPUs were initialised with. A CPU template with SVE replaces PSCI 0.2.
#[test]
fn the_features_of_the_vcpus_are_read() {
    let features = |name: &str| -> Vec<u32> {
        let snapshot = parse(&folder().join("firecracker").join(name));
        snapshot.vcpus().iter().map(SavedVcpu::features).collect()
    };
    for version in ["v1.10.1", "v1.14.4", "v1.16.1"] {
        let two = features(&format!("{version}/6.12.107__neoverse-n1__v2.vmstate.xz"));
        assert_eq!(two, [0b100, 0b100], "{version}");
        let sve = features(&format!(
            "variants/{version}-sve-v1__6.12.107__max.vmstate.xz"
        ));
        assert_eq!(sve, [0b1_0000], "{version}");
    }
}
