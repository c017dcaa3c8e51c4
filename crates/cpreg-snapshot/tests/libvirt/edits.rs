//! Edits change the stream and nothing else.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use cpreg::vm::Vm;
use cpreg_stream::{Edit, Recovery, Stream, journal_path, recover};

use crate::common::{
    IMAGES, RAW, assert_same_bytes, first_difference, no_progress, open, stream, unpack,
};

/// Returns the state of a stream without the last register of each vCPU, and the edit to it.
fn shorten(image: &cpreg_snapshot::libvirt::Image) -> (Vm, Edit) {
    let stream = stream(image);
    let mut planned = stream.vm().unwrap();
    for vcpu in &mut planned.vcpus {
        let last = vcpu.registers.iter().last().unwrap().0;
        vcpu.registers.remove(last);
    }
    let edit = cpreg_stream::convert(&stream, image.stream(), &planned).unwrap();
    assert!(!edit.is_identity());
    (planned, edit)
}

#[test]
fn a_new_file_has_the_planned_state_and_the_old_header() {
    for name in IMAGES {
        let (folder, path) = unpack(name);
        let image = open(&path);
        let (planned, edit) = shorten(&image);
        let target = folder.path().join("new.save");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let length = image
            .write_new(&edit, &target, false, &mut no_progress())
            .unwrap();
        let new = open(&target);
        assert_eq!(new.header(), image.header(), "{name}");
        assert_eq!(target.metadata().unwrap().len(), length);
        assert_eq!(target.metadata().unwrap().mode() & 0o777, 0o640);
        assert_same_bytes(&edit.apply_to(image.stream()), new.stream());
        assert!(stream(&new).vm().unwrap().is_same_state(&planned), "{name}");
        // XML, cookie and padding, byte by byte.
        let (old, new) = (File::open(&path).unwrap(), File::open(&target).unwrap());
        let start = image.header().stream_offset();
        assert_eq!(first_difference(&old, &new, start), None, "{name}");
    }
}

#[test]
fn an_edit_in_place_equals_a_new_file() {
    for name in IMAGES {
        let (folder, path) = unpack(name);
        let image = open(&path);
        let (planned, edit) = shorten(&image);
        let target = folder.path().join("new.save");
        image
            .write_new(&edit, &target, false, &mut no_progress())
            .unwrap();
        let inode = path.metadata().unwrap().ino();
        let length = image.write_in_place(&edit, &mut no_progress()).unwrap();
        assert_eq!(path.metadata().unwrap().len(), length);
        let changed = open(&path);
        assert!(
            stream(&changed).vm().unwrap().is_same_state(&planned),
            "{name}"
        );
        assert_same_bytes(open(&target).stream(), changed.stream());
        let keeps_inode = path.metadata().unwrap().ino() == inode;
        assert_eq!(
            keeps_inode,
            !image.header().format.is_compressed(),
            "{name}"
        );
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 2, "{name}: another file was left");
    }
}

/// Simulates a process that dies while the new bytes are half-written.
#[test]
fn an_interrupted_edit_is_refused_and_undone() {
    let (_folder, path) = unpack(RAW);
    let original = fs::read(&path).unwrap();
    let image = open(&path);
    let (_, edit) = shorten(&image);
    let file_edit = edit.behind_header(image.header().stream_offset());
    // The journal of a complete edit stays if its removal fails.
    let start = usize::try_from(file_edit.replacements()[0].range.start).unwrap();
    image.write_in_place(&edit, &mut no_progress()).unwrap();
    let changed = fs::read(&path).unwrap();
    assert_ne!(changed, original);
    fs::write(&path, &original).unwrap();
    fs::write(journal_path(&path), journal(&original, start, &changed)).unwrap();
    let mut half = original.clone();
    for byte in &mut half[16..20] {
        *byte |= 0x80;
    }
    half[start..start + 100].copy_from_slice(&changed[start..start + 100]);
    fs::write(&path, &half).unwrap();
    let error = cpreg_snapshot::libvirt::Image::open(File::open(&path).unwrap(), &path);
    let kind = error.unwrap_err().kind();
    assert_eq!(kind, cpreg_snapshot::ErrorKind::UnfinishedEdit);
    assert_eq!(recover(&path).unwrap(), Recovery::Restored);
    assert_eq!(fs::read(&path).unwrap(), original);
}

/// Returns the journal of an edit that changes the file from `start` to its end.
fn journal(old: &[u8], start: usize, new: &[u8]) -> Vec<u8> {
    let sum = |bytes: &[u8]| {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let mut bytes = b"cpreg journal 1\n".to_vec();
    for number in [old.len(), new.len(), start, old.len() - start] {
        bytes.extend((number as u64).to_be_bytes());
    }
    bytes.extend(&old[start..]);
    bytes.extend(sum(&new[start..]).to_be_bytes());
    bytes.extend(sum(&bytes).to_be_bytes());
    bytes
}

#[test]
fn an_edit_keeps_extended_attributes() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};

    let (folder, path) = unpack(RAW);
    let set = setxattr(&path, "user.cpreg", b"kept", XattrFlags::empty());
    if let Err(error) = set {
        // Some filesystems have no attributes, so nothing can be lost.
        assert_eq!(error, rustix::io::Errno::OPNOTSUPP);
        return;
    }
    let image = open(&path);
    let (_, edit) = shorten(&image);
    let target = folder.path().join("new.save");
    image
        .write_new(&edit, &target, false, &mut no_progress())
        .unwrap();
    let mut value = [0; 16];
    let length = getxattr(&target, "user.cpreg", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"kept");
    assert!(Stream::open(open(&target).stream()).is_ok());
    assert_eq!(image.stream().length().unwrap(), edit.old_length());
}
