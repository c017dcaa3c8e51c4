//! Reads of a raw image with 8 GiB in front of the device state: counted, not timed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use cpreg_stream::{CountingSource, OpenMethod, Stream};

use crate::common::{RAW, open, unpack};

/// Length of the hole between RAM's first pages and the device state.
const HOLE_LEN: u64 = 8 << 30;
/// Maximum number of bytes that an open reads.
const MAX_READ: u64 = 2 << 20;

#[test]
fn an_image_of_8_gib_is_opened_without_its_ram() {
    let (folder, recorded) = unpack(RAW);
    let bytes = fs::read(&recorded).unwrap();
    let offset = open(&recorded).header().stream_offset();
    let first_section = Stream::open(open(&recorded).stream()).unwrap().sections()[0]
        .range
        .start;
    // The hole is after RAM's first page, and far from the first section of a device.
    let cut = usize::try_from(offset + first_section / 2).unwrap();
    let path = folder.path().join("large.save");
    let file = File::create(&path).unwrap();
    file.write_all_at(&bytes[..cut], 0).unwrap();
    file.write_all_at(&bytes[cut..], cut as u64 + HOLE_LEN)
        .unwrap();

    let image = open(&path);
    let counted = CountingSource::new(image.stream());
    let stream = Stream::open(&counted).unwrap();
    assert_eq!(*stream.open_method(), OpenMethod::Description);
    assert_eq!(stream.length(), bytes.len() as u64 - offset + HOLE_LEN);
    assert!(counted.bytes() < MAX_READ, "{} bytes", counted.bytes());
    let unchanged = stream.diff_to(&stream.vm().unwrap()).unwrap();
    assert!(stream.edit(&counted, &unchanged).unwrap().is_identity());
    assert!(counted.bytes() < 2 * MAX_READ, "{} bytes", counted.bytes());
}
