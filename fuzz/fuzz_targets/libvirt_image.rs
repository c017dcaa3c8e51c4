//! A save image of libvirt: header and XML.
//!
//! Compressed streams are left out, because the programs that decompress them are not under test.
#![no_main]

use cpreg_snapshot::libvirt::{Domain, HEADER_LEN, Header};
use cpreg_snapshot::{Foreign, Format};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Format::identify(&bytes).expect("bytes in memory");
    let _ = Foreign::of_start(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Domain::parse(text);
    }
    let Ok(header) = Header::parse(bytes, bytes.len() as u64) else {
        return;
    };
    // The header's ranges are in the file.
    let end = HEADER_LEN + header.xml_length() as usize;
    assert!(header.stream_offset() < bytes.len() as u64);
    if let Ok(Ok(domain)) = std::str::from_utf8(&bytes[HEADER_LEN..end]).map(Domain::parse) {
        assert!(!domain.name.is_empty());
        let _ = domain.qemu_command();
    }
});
