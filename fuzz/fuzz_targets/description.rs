//! The description at the end of a stream, which is JSON, after a valid stream.
#![no_main]

use std::io::Read as _;
use std::sync::LazyLock;

use cpreg_fuzz::bytes;
use cpreg_stream::Stream;
use libfuzzer_sys::fuzz_target;
use lzma_rust2::XzReader;

/// Recorded stream without its RAM and without its description.
static DEVICES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let compressed: &[u8] =
        include_bytes!("../../tests/fixtures/tcg/qemu-10.0-a57-prelaunch.stream.xz");
    let mut recorded = Vec::new();
    let mut reader = XzReader::new(compressed, true);
    reader.read_to_end(&mut recorded).expect("an archive");
    let stream = Stream::open(&recorded).expect("a stream");
    let edit = stream.without_ram(&[]).expect("a stream with RAM");
    let mut devices = bytes(&edit.apply_to(&recorded));
    let end = Stream::open(&devices).expect("a stream").end();
    devices.truncate(usize::try_from(end).expect("a length that fits in memory"));
    devices
});

fuzz_target!(|description: &[u8]| {
    let mut stream = DEVICES.clone();
    stream.push(6);
    let length = u32::try_from(description.len()).expect("a short input");
    stream.extend(length.to_be_bytes());
    stream.extend(description);
    let described = Stream::open_by_description(&stream);
    // A description decides how devices are read, but never the state of the vCPUs.
    if let (Ok(described), Ok(scanned)) = (described, Stream::open_by_full_scan(&stream)) {
        assert_eq!(described.vm().ok(), scanned.vm().ok());
    }
});
