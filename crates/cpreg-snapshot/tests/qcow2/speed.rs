//! A large image: 64 GiB of disk, 8 GiB of state. A bounded number of bytes is read.
#![cfg(unix)]

use cpreg_snapshot::qcow2::{Image, Phase, plan_change};
use cpreg_stream::{CountingSource, OpenMethod, ReadAt as _, Stream, convert};
use cpreg_testdata::large_qcow2::{Size, write};

use crate::common::{
    CheckResult, RECORDED, check, has_tools, open_to_write, recorded, state_bytes,
};

#[test]
fn bytes_read_do_not_grow_with_disk_or_ram() {
    let stream = state_bytes(&recorded(RECORDED[0]), "suspend");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.qcow2");
    std::fs::write(&path, []).unwrap();
    let file = open_to_write(&path);
    let size = Size {
        disk: 64 << 30,
        ram: 8 << 30,
    };
    write(&stream, size, &file).unwrap();

    let source = CountingSource::new(&file);
    let image = Image::open(&source).unwrap();
    let snapshot = image.find("suspend").unwrap().clone();
    let state = image.into_state(&snapshot).unwrap();
    assert_eq!(state.length().unwrap(), stream.len() as u64 + (8 << 30));
    let opened = Stream::open(&state).unwrap();
    assert_eq!(*opened.open_method(), OpenMethod::Description);
    let open_bytes = source.bytes();
    assert!(open_bytes < 1 << 20, "{open_bytes} bytes read");

    let mut planned = opened.vm().unwrap();
    let id = planned.vcpus[0].registers.iter().map(|(id, _)| id).next();
    planned.vcpus[0].registers.remove(id.unwrap());
    let edit = convert(&opened, &state, &planned).unwrap();
    let change = plan_change(&state, &edit).unwrap();
    let bytes = source.bytes() - open_bytes;
    assert!(bytes < 4 << 20, "{bytes} bytes read");
    let written: usize = change
        .phases()
        .iter()
        .flat_map(|(_, writes)| writes.iter().map(|write| write.bytes.len()))
        .sum();
    assert!(written < 2 << 20, "{written} bytes to write");
    assert!(change.phases().iter().any(|it| it.0 == Phase::Switch));

    change.write_in_place(&file).unwrap();
    let image = Image::open(&file).unwrap();
    let snapshot = image.find("suspend").unwrap().clone();
    let state = image.into_state(&snapshot).unwrap();
    assert!(Stream::open(&state).unwrap().vm().unwrap() == planned);
    if has_tools() {
        assert_eq!(check(&path), CheckResult::Clean);
    }
}
