//! The description at the end of a stream, which is JSON: it stands behind a stream that is right.
#![no_main]

use std::io::Read as _;
use std::sync::LazyLock;

use cpreg_fuzz::bytes;
use cpreg_stream::Stream;
use libfuzzer_sys::fuzz_target;
use lzma_rust2::XzReader;

/// A recorded stream without its RAM and without its description.
static DEVICES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let packed: &[u8] =
        include_bytes!("../../tests/fixtures/tcg/qemu-10.0-a57-prelaunch.stream.xz");
    let mut recorded = Vec::new();
    let mut reader = XzReader::new(packed, true);
    reader.read_to_end(&mut recorded).expect("an archive");
    let stream = Stream::open(&recorded).expect("a stream");
    let edit = stream.without_ram(&[]).expect("a stream with RAM");
    let mut devices = bytes(&edit.apply_to(&recorded));
    let end = Stream::open(&devices).expect("a stream").end();
    devices.truncate(usize::try_from(end).expect("as much as fits"));
    devices
});

fuzz_target!(|description: &[u8]| {
    let mut stream = DEVICES.clone();
    stream.push(6);
    let length = u32::try_from(description.len()).expect("a short input");
    stream.extend(length.to_be_bytes());
    stream.extend(description);
    let end = Stream::open_by_description(&stream);
    // A description decides how devices are read, and never what the vCPUs hold.
    if let (Ok(end), Ok(front)) = (end, Stream::open_by_full_scan(&stream)) {
        assert_eq!(end.vm().ok(), front.vm().ok());
    }
});
