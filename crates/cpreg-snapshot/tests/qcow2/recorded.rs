//! Images with a VM that real QEMUs saved.

use std::fs::File;
use std::path::Path;

use cpreg_snapshot::qcow2::{Commands, Image, plan_change};
use cpreg_snapshot::{Change, Container, ErrorKind, Format, State};
use cpreg_stream::{CountingSource, Edit, OpenMethod, Stream, convert};

use crate::common::{
    CheckResult, RECORDED, TestImage, bytes, check, has_tools, qemu_img, recorded,
};

#[test]
fn recorded_states_are_streams() {
    for name in RECORDED {
        let content = recorded(name);
        let source = CountingSource::new(content.as_slice());
        let image = Image::open(&source).unwrap();
        let [snapshot] = image.snapshots() else {
            panic!("{name}: not one snapshot");
        };
        let snapshot = snapshot.clone();
        assert_eq!((snapshot.id(), snapshot.name()), ("1", "suspend"));
        assert_eq!(snapshot.disk_size(), 16 << 20);
        assert_eq!(image.find("suspend").unwrap(), image.find("1").unwrap());
        let state = image.into_state(&snapshot).unwrap();
        let stream = Stream::open(&state).unwrap();
        assert_eq!(*stream.open_method(), OpenMethod::Description, "{name}");
        assert_eq!(
            stream.machine(),
            name.split(['_', '-']).nth(2).map(|_| {
                if name.starts_with("q10") {
                    "virt-10.0"
                } else {
                    "virt-7.2"
                }
            })
        );
        let vcpus = name.split("smp").nth(1).unwrap();
        assert_eq!(stream.cpus().len().to_string(), vcpus);
        assert!(source.bytes() < 500_000, "{} bytes read", source.bytes());
        Stream::verify(&state).unwrap();

        let vm = stream.vm().unwrap();
        let unchanged = convert(&stream, &state, &vm).unwrap();
        assert!(unchanged.is_identity());
        let change = plan_change(&state, &unchanged).unwrap();
        let same = change.to_edit();
        assert_eq!(same, Edit::identity(content.len() as u64));
    }
}

#[test]
fn recorded_images_with_fewer_registers() {
    for name in RECORDED {
        let content = recorded(name);
        let image = Image::open(content.as_slice()).unwrap();
        let snapshot = image.find("suspend").unwrap().clone();
        let state = image.into_state(&snapshot).unwrap();
        let stream = Stream::open(&state).unwrap();
        let mut planned = stream.vm().unwrap();
        for vcpu in &mut planned.vcpus {
            let ids: Vec<_> = vcpu.registers.iter().map(|(id, _)| id).collect();
            for id in ids.iter().step_by(3) {
                vcpu.registers.remove(*id);
            }
        }
        let edit = convert(&stream, &state, &planned).unwrap();
        let change = plan_change(&state, &edit).unwrap();
        let new = bytes(&change.to_edit().apply_to(&content));

        let reopened = Image::open(new.as_slice()).unwrap();
        let changed = reopened.find("suspend").unwrap().clone();
        assert!(changed.state_len() < snapshot.state_len());
        assert_eq!(changed.vm_clock_ns(), snapshot.vm_clock_ns());
        let changed = reopened.into_state(&changed).unwrap();
        assert!(bytes(&changed) == bytes(&edit.apply_to(&state)));
        assert!(Stream::open(&changed).unwrap().vm().unwrap() == planned);
        if has_tools() {
            let (old, new) = (TestImage::from_bytes(&content), TestImage::from_bytes(&new));
            assert_eq!(check(&new.path), CheckResult::Clean, "{name}");
            qemu_img(&["compare", old.path(), new.path()]);
            assert!(old.disk_of("1") == new.disk_of("1"));
        }
    }
}

/// Opens, converts and reads a VM as the command does.
#[test]
fn disks_are_files_with_saved_vms() {
    let file = TestImage::from_bytes(&recorded(RECORDED[2]));
    let open = |path: &Path| {
        let container = Container::open(File::open(path).unwrap(), path, Format::Qcow2).unwrap();
        assert_eq!(container.vms()[0].name, "suspend");
        container.open_vm(None).unwrap()
    };
    let vm = open(&file.path);
    let description = vm.description();
    assert_eq!(description.machine.as_deref(), Some("virt-7.2"));
    assert_eq!(description.vcpus, Some(2));
    let State::Stream(source) = vm.state() else {
        panic!("no stream");
    };
    let stream = Stream::open(source).unwrap();
    let mut planned = stream.vm().unwrap();
    let id = planned.vcpus[1].registers.iter().map(|(id, _)| id).next();
    planned.vcpus[1].registers.remove(id.unwrap());
    let edit = convert(&stream, source, &planned).unwrap();
    let copy = file.folder.path().join("copy.qcow2");
    let change = Change::Stream(&edit);
    let length = vm.write_new(change, &copy, false, &mut |_, _| {}).unwrap();
    assert_eq!(vm.write_in_place(change, &mut |_, _| {}).unwrap(), length);
    for path in [&copy, &file.path] {
        assert_eq!(std::fs::metadata(path).unwrap().len(), length);
        let changed = open(path);
        let State::Stream(source) = changed.state() else {
            panic!("no stream");
        };
        assert!(Stream::open(source).unwrap().vm().unwrap() == planned);
    }
    let file = File::open(&copy).unwrap();
    let container = Container::open(file, &copy, Format::Qcow2).unwrap();
    assert_eq!(
        container.open_vm(Some("2")).unwrap_err().kind(),
        ErrorKind::NoVm
    );
}

#[test]
fn disk_without_the_state() {
    let content = recorded(RECORDED[0]);
    let image = Image::open(content.as_slice()).unwrap();
    let snapshot = image.find("suspend").unwrap();
    let file = TestImage::from_bytes(&content);
    let copy = file.folder.path().join("copy.qcow2");
    let commands = Commands::new(
        snapshot,
        file.path(),
        copy.to_str().unwrap(),
        Some("virt-10.0"),
    );
    let options = ["-machine", "virt-10.0", "-loadvm", "suspend"];
    assert_eq!(commands.load_options, options);
    if has_tools() {
        let words: Vec<_> = commands
            .disk_without_state
            .iter()
            .map(String::as_str)
            .collect();
        assert_eq!(words[0], "qemu-img");
        qemu_img(&words[1..]);
        let copy = Image::open(std::fs::read(copy).unwrap()).unwrap();
        assert!(copy.snapshots().is_empty());
        assert_eq!(copy.disk_size(), 16 << 20);
    }
}
