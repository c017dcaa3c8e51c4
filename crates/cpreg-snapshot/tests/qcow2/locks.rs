//! QEMU's locks.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use cpreg_snapshot::ErrorKind;
use cpreg_snapshot::qcow2::ImageLock;

use crate::common::{TestImage, has_tools, open_to_write};

#[test]
fn locks_exclude_other_programs_of_the_same_kind() {
    let image = TestImage::from_bytes(b"QFI\xfb");
    let (one, other) = (open_to_write(&image.path), open_to_write(&image.path));
    {
        let _reader = ImageLock::for_reading(&one).unwrap();
        ImageLock::for_reading(&other).unwrap();
        let error = ImageLock::for_writing(&other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
    }
    let _writer = ImageLock::for_writing(&one).unwrap();
    assert_eq!(
        ImageLock::for_reading(&other).unwrap_err().kind(),
        ErrorKind::InUse
    );
    assert_eq!(
        ImageLock::for_writing(&other).unwrap_err().kind(),
        ErrorKind::InUse
    );
}

#[test]
fn image_that_qemu_has_open_is_in_use() {
    if !has_tools() {
        return;
    }
    let image = TestImage::create("", "1M");
    for (option, readable) in [(None, false), (Some("-r"), true)] {
        let mut qemu = Command::new("qemu-io")
            .args(option)
            .args(["-f", "qcow2", image.path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The prompt follows the opening.
        let mut prompt = [0; 7];
        qemu.stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut prompt)
            .unwrap();
        let file = open_to_write(&image.path);
        assert_eq!(ImageLock::for_reading(&file).is_ok(), readable);
        let error = ImageLock::for_writing(&file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        qemu.stdin.take().unwrap().write_all(b"quit\n").unwrap();
        assert!(qemu.wait().unwrap().success());
        ImageLock::for_writing(&file).unwrap();
    }
}

#[test]
fn qemu_refuses_an_image_that_is_being_changed() {
    if !has_tools() {
        return;
    }
    let image = TestImage::create("", "1M");
    let info = || {
        let mut command = Command::new("qemu-img");
        command
            .args(["info", image.path()])
            .output()
            .unwrap()
            .status
            .success()
    };
    let file = open_to_write(&image.path);
    let lock = ImageLock::for_writing(&file).unwrap();
    assert!(!info());
    drop(lock);
    assert!(info());
    let _reader = ImageLock::for_reading(&File::open(&image.path).unwrap()).unwrap();
    assert!(info());
}
