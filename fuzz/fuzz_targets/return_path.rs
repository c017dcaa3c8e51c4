//! What a destination says on the return path, in pieces. The first byte says how long they are.
#![no_main]

use cpreg_relay::fuzzing::parse_return_path;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((size, said)) = input.split_first() else {
        return;
    };
    let at_once = parse_return_path([said]);
    assert_eq!(parse_return_path(said.chunks(usize::from(*size) + 1)), at_once);
});
