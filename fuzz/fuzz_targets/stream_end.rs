//! A stream opened from its end, by its description.
#![no_main]

use cpreg_fuzz::open;
use cpreg_stream::Stream;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    if let Ok((_, vm)) = open(stream, |source| Stream::open_by_description(source)) {
        // The other way it can be refused, and must not be another VM.
        if let Ok(verified) = Stream::verify(&stream) {
            assert_eq!(verified.vm().expect("it was translated"), vm);
        }
    }
});
