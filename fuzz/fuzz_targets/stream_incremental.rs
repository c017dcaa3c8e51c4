//! A stream while it flows, in pieces. The first byte says how long they are.
#![no_main]

use cpreg_fuzz::apply_edit;
use cpreg_stream::incremental::{IncrementalParser, DeviceStateBuffer, Phase};
use cpreg_stream::{Edit, Error, Stream};
use libfuzzer_sys::fuzz_target;

/// Returns what passed, and what was held back.
fn parse_in_chunks(stream: &[u8], piece: usize) -> (Vec<u8>, Result<DeviceStateBuffer, Error>) {
    let mut flow = IncrementalParser::new();
    let mut passed = Vec::new();
    let mut phase = Phase::Header;
    let (mut from, mut to) = (0, 0);
    loop {
        let last = to == stream.len();
        to = stream.len().min(to.saturating_add(piece));
        let taken = match flow.feed(&stream[from..to], last) {
            Ok(taken) => taken,
            Err(error) => return (passed, Err(error)),
        };
        passed.extend_from_slice(&stream[from..from + taken.forward]);
        from += taken.forward + taken.buffered;
        assert_eq!(flow.offset(), from as u64);
        assert!(flow.phase() >= phase);
        phase = flow.phase();
        if last {
            return (passed, flow.finish());
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((size, stream)) = input.split_first() else {
        return;
    };
    let (passed, held) = parse_in_chunks(stream, usize::from(*size) * usize::from(*size) + 1);
    let (passed_at_once, held_at_once) = parse_in_chunks(stream, stream.len().max(1));
    match (&held, &held_at_once) {
        (Ok(held), Ok(other)) => {
            assert_eq!(passed, passed_at_once);
            assert_eq!(held.length(), other.length());
        }
        (Err(one), Err(other)) => assert_eq!(one.kind(), other.kind()),
        (Ok(_), Err(error)) => panic!("only in pieces: {error}"),
        (Err(error), Ok(_)) => panic!("only at once: {error}"),
    }
    let Ok(held) = held else {
        // What passed is no complete stream.
        assert!(Stream::open_by_full_scan(&passed).is_err());
        return;
    };
    assert_eq!(held.start() + held.length(), stream.len() as u64);
    let unchanged = Edit::identity(stream.len() as u64);
    let mut whole = passed;
    held.write(&unchanged, &mut whole)
        .expect("memory to write to");
    assert!(whole == stream);
    let (Ok(opened), Ok(file)) = (held.open_stream(), Stream::open_by_full_scan(&stream)) else {
        return;
    };
    let Ok(vm) = file.vm() else {
        return;
    };
    assert_eq!(opened.vm().expect("it was translated"), vm);
    assert_eq!(opened.sections(), file.sections());
    // One register less is the same edit, here and in the file.
    let mut less = vm.clone();
    for vcpu in &mut less.vcpus {
        let first = vcpu.registers.iter().next().map(|(id, _)| id);
        if let Some(id) = first {
            vcpu.registers.remove(id);
        }
    }
    let changes = opened.diff_to(&less).expect("registers of 64 bits");
    let (Ok(edit), Ok(expected)) = (opened.edit(&held, &changes), file.edit(&stream, &changes))
    else {
        return;
    };
    let mut whole = passed_at_once;
    held.write(&edit, &mut whole).expect("memory to write to");
    assert!(whole == apply_edit(&expected, stream));
});
