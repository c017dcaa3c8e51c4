//! Messages of a destination on the return path, in pieces. The first byte is their length.
#![no_main]

use cpreg_relay::fuzzing::parse_return_path;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((size, messages)) = input.split_first() else {
        return;
    };
    let at_once = parse_return_path([messages]);
    assert_eq!(
        parse_return_path(messages.chunks(usize::from(*size) + 1)),
        at_once
    );
});
