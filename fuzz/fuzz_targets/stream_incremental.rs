//! A stream in transit, in pieces. The first byte decides their length.
#![no_main]

use cpreg_fuzz::apply_edit;
use cpreg_stream::incremental::{DeviceStateBuffer, IncrementalParser, Phase};
use cpreg_stream::{Edit, Error, ErrorKind, Stream};
use libfuzzer_sys::fuzz_target;

/// Returns the forwarded bytes and the buffer.
fn parse_in_chunks(
    stream: &[u8],
    chunk_length: usize,
) -> (Vec<u8>, Result<DeviceStateBuffer, Error>) {
    let mut parser = IncrementalParser::new();
    let mut forwarded = Vec::new();
    let mut phase = Phase::Header;
    let (mut from, mut to) = (0, 0);
    loop {
        let last = to == stream.len();
        to = stream.len().min(to.saturating_add(chunk_length));
        let consumed = match parser.feed(&stream[from..to], last) {
            Ok(consumed) => consumed,
            Err(error) => return (forwarded, Err(error)),
        };
        forwarded.extend_from_slice(&stream[from..from + consumed.forward]);
        from += consumed.forward + consumed.buffered;
        assert_eq!(parser.offset(), from as u64);
        assert!(parser.phase() >= phase);
        phase = parser.phase();
        if last {
            return (forwarded, parser.finish());
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((size, stream)) = input.split_first() else {
        return;
    };
    let (forwarded, buffer) = parse_in_chunks(stream, usize::from(*size) * usize::from(*size) + 1);
    let (forwarded_at_once, buffer_at_once) = parse_in_chunks(stream, stream.len().max(1));
    match (&buffer, &buffer_at_once) {
        (Ok(buffer), Ok(other)) => {
            assert_eq!(forwarded, forwarded_at_once);
            assert_eq!(buffer.length(), other.length());
        }
        (Err(one), Err(other)) => assert_eq!(one.kind(), other.kind()),
        (Ok(_), Err(error)) => panic!("only in pieces: {error}"),
        (Err(error), Ok(_)) => panic!("only at once: {error}"),
    }
    let Ok(buffer) = buffer else {
        // The forwarded bytes are not a complete stream.
        assert!(Stream::open_by_full_scan(&forwarded).is_err());
        return;
    };
    assert_eq!(buffer.start() + buffer.length(), stream.len() as u64);
    let unchanged = Edit::identity(stream.len() as u64);
    let mut whole = forwarded;
    buffer
        .write(&unchanged, &mut whole)
        .expect("memory for the output");
    assert!(whole == stream);
    let (Ok(opened), Ok(file)) = (buffer.open_stream(), Stream::open_by_full_scan(&stream)) else {
        return;
    };
    let Ok(vm) = file.vm() else {
        return;
    };
    assert_eq!(opened.vm().expect("a VM"), vm);
    // A device can hold an imitation of the stream's end, which misleads the full scan. Only the
    // description shows it, and a comparison of both methods detects it.
    if opened.sections() != file.sections() {
        let error = Stream::verify(&stream).expect_err("the two methods disagree");
        assert_eq!(error.kind(), ErrorKind::Disagreement);
        return;
    }
    // Removing one register gives the same edit in transit and in the file.
    let mut reduced = vm.clone();
    for vcpu in &mut reduced.vcpus {
        let first = vcpu.registers.iter().next().map(|(id, _)| id);
        if let Some(id) = first {
            vcpu.registers.remove(id);
        }
    }
    let changes = opened.diff_to(&reduced).expect("registers of 64 bits");
    let (Ok(edit), Ok(expected)) = (opened.edit(&buffer, &changes), file.edit(&stream, &changes))
    else {
        return;
    };
    let mut whole = forwarded_at_once;
    buffer
        .write(&edit, &mut whole)
        .expect("memory for the output");
    assert!(whole == apply_edit(&expected, stream));
});
