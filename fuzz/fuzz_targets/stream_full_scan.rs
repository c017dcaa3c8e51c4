//! A stream read by a full scan, including its RAM.
#![no_main]

use cpreg_fuzz::{bytes, open};
use cpreg_stream::Stream;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    let Ok((opened, vm)) = open(stream, |source| Stream::open_by_full_scan(source)) else {
        return;
    };
    // Without RAM the stream holds the same VM.
    if let Ok(edit) = opened.without_ram(&[]) {
        let short = bytes(&edit.apply_to(&stream));
        let (_, ramless_vm) = open(&short, Stream::open).expect("a stream without its RAM");
        assert_eq!(ramless_vm, vm);
    }
});
