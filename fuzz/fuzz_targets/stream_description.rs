//! A stream opened by the description at its end.
#![no_main]

use cpreg_fuzz::open;
use cpreg_stream::Stream;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    if let Ok((_, vm)) = open(stream, |source| Stream::open_by_description(source)) {
        // `verify` may reject it, but must not find another VM.
        if let Ok(verified) = Stream::verify(&stream) {
            assert_eq!(verified.vm().expect("a VM"), vm);
        }
    }
});
