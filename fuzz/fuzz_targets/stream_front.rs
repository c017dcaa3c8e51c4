//! A stream read from its front, with its RAM.
#![no_main]

use cpreg_fuzz::{bytes, open};
use cpreg_stream::Stream;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    let Ok((opened, vm)) = open(stream, |source| Stream::open_by_full_scan(source)) else {
        return;
    };
    // Without its RAM it is the same VM.
    if let Ok(edit) = opened.without_ram(&[]) {
        let short = bytes(&edit.apply_to(&stream));
        let (_, same) = open(&short, Stream::open).expect("a stream without its RAM");
        assert_eq!(same, vm);
    }
});
