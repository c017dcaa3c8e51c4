//! Streams that arrive in pieces of every size: the forwarded and the buffered bytes, and the
//! output compared with an edit of the file.

use std::io::{self, Read, Write};

use crate::common::damage::{Random, bases, mutate, synthetic_streams, with_live_sections};
use crate::common::forwarding::{assert_forwarded, assert_no_stream, join_output};
use crate::common::synthetic::SyntheticStream;
use crate::common::{bytes, fixtures, index, is_content_error, is_mapped_ram, shortening_edits};
use cpreg_stream::incremental::{
    DeviceStateBuffer, IncrementalParser, Phase, SetupBuffer, forward, resume_forward,
};
use cpreg_stream::{Edit, OpenMethod, Stream};
use cpreg_stream::{Error, ErrorKind};

/// Feeds a stream in pieces; returns the forwarded bytes and the buffer.
fn forward_in_pieces(
    stream: &[u8],
    mut piece: impl FnMut() -> usize,
    mut on_progress: impl FnMut(Phase, u64),
) -> (Vec<u8>, Result<DeviceStateBuffer, Error>) {
    let mut parser = IncrementalParser::new();
    let mut forwarded = Vec::new();
    let (mut from, mut to) = (0, 0);
    loop {
        let piece = piece();
        let last = to == stream.len();
        to = stream.len().min(to + piece);
        match parser.feed(&stream[from..to], last) {
            Ok(consumed) => {
                forwarded.extend_from_slice(&stream[from..from + consumed.forward]);
                from += consumed.forward + consumed.buffered;
                assert_eq!(parser.offset(), from as u64);
                // Only few bytes are shown again, except for early sections.
                assert!(to - from < 3 << 20, "{} bytes are not consumed", to - from);
                on_progress(parser.phase(), parser.offset());
            }
            Err(error) => return (forwarded, Err(error)),
        }
        if last {
            return (forwarded, parser.finish());
        }
    }
}

fn forward_at_once(stream: &[u8]) -> (Vec<u8>, Result<DeviceStateBuffer, Error>) {
    forward_in_pieces(stream, || stream.len().max(1), |_, _| {})
}

/// Returns the reason why a filter rejects a recorded stream, if it does.
fn check_supported(name: &str, stream: &Stream) -> Result<(), &'static str> {
    match () {
        () if is_mapped_ram(stream) => Err("mapped-ram"),
        () if name.contains("snapshot") => Err("background snapshot"),
        () if name.contains("postcopy") => Err("postcopy"),
        () => Ok(()),
    }
}

/// Feeds all recorded streams at once, and in pieces of a few sizes.
#[test]
fn recorded_streams() {
    let mut accepted = 0;
    let mut rejected = Vec::new();
    for fixture in fixtures() {
        let source = fixture.open();
        let stream = match Stream::open(&source) {
            Ok(stream) => stream,
            Err(error) => panic!("{}: {error}", fixture.name),
        };
        let whole = bytes(&source);
        let mut random = Random(whole.len() as u64);
        let sizes: [&mut dyn FnMut() -> usize; 3] =
            [&mut || usize::MAX >> 1, &mut || 4097, &mut || {
                1 + random.next_below(300_000)
            }];
        for size in sizes {
            let mut phases = vec![Phase::Header];
            let (forwarded, buffer) = forward_in_pieces(&whole, size, |phase, _| {
                if phases.last() != Some(&phase) {
                    phases.push(phase);
                }
            });
            match (check_supported(&fixture.name, &stream), buffer) {
                (Ok(()), Ok(buffer)) => {
                    assert!(phases.is_sorted(), "{}: {phases:?}", fixture.name);
                    assert_eq!(phases.last(), Some(&Phase::DeviceState));
                    let records = buffer.open_stream().unwrap().record_counts();
                    let expected = Stream::open_by_full_scan(&source).unwrap();
                    assert_eq!(records, expected.record_counts(), "{}", fixture.name);
                    assert_forwarded(&fixture.name, &whole, &forwarded, &buffer);
                    accepted += 1;
                }
                (Err(reason), Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                    assert!(error.to_string().contains(reason), "{error}");
                    assert!(error.hint().is_some());
                    rejected.push(reason);
                    // No device state was forwarded.
                    let first = stream.sections()[0].range.start;
                    assert!(forwarded.len() as u64 <= first, "{}", fixture.name);
                }
                (expected, Ok(_)) => panic!("{}: not rejected: {expected:?}", fixture.name),
                (Ok(()), Err(error)) => panic!("{}: {error}", fixture.name),
            }
        }
    }
    assert!(accepted >= 3 * 25, "{accepted}");
    rejected.sort_unstable();
    rejected.dedup();
    assert_eq!(rejected, ["background snapshot", "mapped-ram", "postcopy"]);
}

/// Asserts that a stream in pieces of this size is forwarded.
fn assert_forwarded_in_pieces(synthetic: &SyntheticStream, whole: &[u8], size: usize) {
    let (forwarded, buffer) = forward_in_pieces(whole, || size, |_, _| {});
    let buffer = buffer.unwrap_or_else(|error| panic!("{size}: {synthetic:?}: {error}"));
    assert_forwarded(
        &format!("{size}: {synthetic:?}"),
        whole,
        &forwarded,
        &buffer,
    );
}

#[test]
fn synthetic_streams_in_pieces_of_every_size() {
    for (synthetic, whole) in synthetic_streams() {
        for size in (1..40).chain([100, 1000, 4095, 4096, 4104, 1 << 20]) {
            assert_forwarded_in_pieces(&synthetic, &whole, size);
        }
    }
}

/// Reader that returns at most `piece` bytes at a time, and counts them.
struct PieceReader<'s> {
    rest: &'s [u8],
    piece: usize,
    received: usize,
}

impl Read for PieceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = buffer.len().min(self.piece);
        let count = self.rest.read(&mut buffer[..limit])?;
        self.received += count;
        Ok(count)
    }
}

/// Checks that the setup is known before the first page, and that its bytes precede the others in
/// the output.
#[test]
fn a_setup_is_known_before_anything_is_forwarded() {
    let mut streams: Vec<_> = synthetic_streams()
        .into_iter()
        .filter(|(synthetic, _)| !synthetic.postcopy)
        .map(|(_, whole)| whole)
        .collect();
    streams.extend(fixtures().iter().find_map(|fixture| {
        let source = fixture.open();
        let stream = Stream::open(&source).ok()?;
        check_supported(&fixture.name, &stream).ok()?;
        Some(bytes(&source))
    }));
    for whole in &streams {
        let stream = Stream::open(whole).unwrap();
        for piece in [1, 1000, usize::MAX] {
            let mut input = PieceReader {
                rest: whole,
                piece,
                received: 0,
            };
            let beginning = SetupBuffer::read(&mut input).unwrap();
            let setup = beginning.setup();
            assert!(setup.is_some() || stream.ram_blocks().is_empty());
            if let Some(setup) = setup {
                assert_eq!(setup.machine.as_deref(), stream.machine());
                assert_eq!(setup.ram, stream.shape().ram);
            }
            if piece == 1 && !stream.ram_blocks().is_empty() {
                // The list ends there: without its last byte, the setup is not known.
                let cut = &whole[..input.received - 1];
                let error = SetupBuffer::read(&mut &*cut).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
            }
            let mut output = Vec::new();
            let (parser, pending) = beginning.write(&mut output).unwrap();
            let buffer = resume_forward(parser, pending, &mut input, &mut output, &mut |_, _| {});
            assert_forwarded("setup", whole, &output, &buffer.unwrap());
        }
    }
    let error = SetupBuffer::read(&mut io::empty()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAStream);
}

#[test]
fn live_sections_in_front_of_ram_are_not_collected() {
    let (_, whole) = synthetic_streams()
        .into_iter()
        .find(|(synthetic, _)| !synthetic.postcopy && !synthetic.has_early_section)
        .unwrap();
    let ram = whole
        .windows(9)
        .position(|it| it == b"\x01\0\0\0\x02\x03ram")
        .unwrap();
    let mut endless = whole[..ram].to_vec();
    endless.extend(b"\x01\0\0\0\x04\x0cdirty-bitmap\0\0\0\0\0\0\0\x01\x01\x7e\0\0\0\x04");
    for _ in 0..100_000 {
        endless.extend(b"\x02\0\0\0\x04\x01\x7e\0\0\0\x04");
    }
    let mut input = PieceReader {
        rest: &endless,
        piece: 1000,
        received: 0,
    };
    let beginning = SetupBuffer::read(&mut input).unwrap();
    assert!(beginning.setup().is_none());
    assert!(input.received <= 2000, "{} bytes", input.received);
    // The bytes are forwarded in their order.
    let mut output = Vec::new();
    let (_, pending) = beginning.write(&mut output).unwrap();
    output.extend(pending);
    assert!(endless.starts_with(&output) && output.len() == input.received);
}

#[test]
fn other_live_sections_are_forwarded() {
    for (synthetic, whole) in synthetic_streams() {
        if synthetic.postcopy {
            continue;
        }
        let whole = with_live_sections(&whole);
        for size in [1, 7, 64, 5000, 1 << 20] {
            assert_forwarded_in_pieces(&synthetic, &whole, size);
        }
    }
}

#[test]
fn recorded_streams_byte_by_byte() {
    let mut checked = 0;
    for fixture in fixtures() {
        let source = fixture.open();
        let stream = Stream::open(&source).unwrap();
        // RAM itself was sent over other connections, or is short.
        if stream.length() > 2 << 20 || check_supported(&fixture.name, &stream).is_err() {
            continue;
        }
        let whole = bytes(&source);
        let (forwarded, buffer) = forward_in_pieces(&whole, || 1, |_, _| {});
        assert_forwarded(&fixture.name, &whole, &forwarded, &buffer.unwrap());
        checked += 1;
    }
    assert!(checked > 0);
}

/// Forwards pages that imitate an end: a guest can write anything into its memory.
#[test]
fn pages_that_imitate_the_end_of_a_stream_are_forwarded() {
    let synthetic = SyntheticStream {
        vcpus: 1,
        registers: 6,
        pages: 40,
        payloads: vec![vec![1; 7]],
        ..SyntheticStream::default()
    };
    let mut whole = synthetic.bytes();
    let first = index(Stream::open(&whole).unwrap().sections()[0].range.start);
    // Copy the end of RAM, the devices, EOF and the description into the third page.
    let ram_end = first - 18;
    let part_end = ram_end - 13;
    let imitation = whole[part_end..].to_vec();
    assert!(imitation.len() < 4096, "{}", imitation.len());
    let page = part_end - 38 * 4104 + 8;
    whole[page..page + imitation.len()].copy_from_slice(&imitation);

    for size in [1, 4096, 1 << 20] {
        let (forwarded, buffer) = forward_in_pieces(&whole, || size, |_, _| {});
        let buffer = buffer.unwrap();
        assert_eq!(buffer.start(), first as u64);
        assert_forwarded("imitation", &whole, &forwarded, &buffer);
    }
    // Cut there, it opens by its description as if it were complete; the parser rejects it.
    let cut = &whole[..page + imitation.len()];
    assert_eq!(
        Stream::open(&cut).unwrap().open_method(),
        &OpenMethod::Description,
        "the imitation is accepted"
    );
    let error = forward_at_once(cut).1.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
}

#[test]
fn every_cut() {
    for (synthetic, whole) in synthetic_streams() {
        let end = Stream::open(&whole).unwrap().end();
        let mut random = Random(7);
        for cut in 0..whole.len() {
            let (forwarded, buffer) =
                forward_in_pieces(&whole[..cut], || 1 + random.next_below(900), |_, _| {});
            assert_no_stream(&forwarded, &format!("cut at {cut}: {synthetic:?}"));
            let opened = buffer.and_then(|buffer| buffer.open_stream());
            match opened {
                // Without its description or padding it is complete.
                Ok(_) => assert!(
                    Stream::open(&&whole[..cut]).is_ok(),
                    "cut at {cut}: {synthetic:?}"
                ),
                Err(error) => {
                    assert!(
                        matches!(
                            error.kind(),
                            ErrorKind::Truncated | ErrorKind::NotAStream | ErrorKind::Disagreement
                        ),
                        "cut at {cut}: {error:?}"
                    );
                    assert_ne!(cut as u64, end, "{error}");
                }
            }
        }
    }
}

/// Feeds ten thousand damaged streams: no panic, no hang, and the output is the one of `convert`.
#[test]
fn damaged_streams() {
    let bases = bases();
    let spare = bases[0].clone();

    let run = |part: u64| {
        let mut random = Random(part);
        let mut counts = (0, 0, 0);
        for _ in 0..2_500 {
            let mut whole = bases[random.next_below(bases.len())].clone();
            mutate(&mut whole, &mut random, &spare);
            let max_size = 1 + random.next_below(9000);
            let (forwarded, buffer) =
                forward_in_pieces(&whole, || 1 + random.next_below(max_size), |_, _| {});
            assert_no_stream(&forwarded, "damaged");
            let opened = buffer.and_then(|buffer| Ok((buffer.open_stream()?, buffer)));
            let (stream, buffer) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    assert_clear_error(&error);
                    counts.0 += 1;
                    continue;
                }
            };
            let file =
                Stream::open(&whole).expect("a stream that can be filtered can be converted");
            let edits = shortening_edits(&stream);
            let Ok(edit) = stream.edit(&buffer, &edits) else {
                counts.1 += 1;
                continue;
            };
            let expected = file
                .edit(&whole, &shortening_edits(&file))
                .expect("an edit");
            assert!(join_output(&forwarded, &buffer, &edit) == bytes(&expected.apply_to(&whole)));
            buffer.open_edited(&edit).expect("the output opens");
            counts.2 += 1;
        }
        counts
    };
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=4).map(|part| scope.spawn(move || run(part))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2))
    });
    assert_eq!(counts.0 + counts.1 + counts.2, 10_000);
    assert!(counts.0 > 1000 && counts.2 > 1000, "{counts:?}");
}

/// Checks that an error has a place and a message.
fn assert_clear_error(error: &Error) {
    let kind = error.kind();
    let is_known = is_content_error(kind) || kind == ErrorKind::MultifdChannel;
    assert!(is_known, "{error:?}");
    let has_place = error.offset().is_some() || kind == ErrorKind::NotArm;
    assert!(has_place && !error.message().is_empty(), "{error:?}");
}

#[test]
fn unsupported_streams_are_rejected() {
    let plain = SyntheticStream::default().bytes();
    let reject = |bytes: &[u8], words: &str| {
        let (forwarded, buffer) = forward_at_once(bytes);
        let error = buffer
            .err()
            .unwrap_or_else(|| panic!("not rejected: {words}"));
        assert!(error.to_string().contains(words), "{error}");
        assert_no_stream(&forwarded, words);
        error
    };
    reject(
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 random bytes",
        "TLS",
    );
    reject(b"QCPR\0\0\0\x01 and what follows", "cpr-transfer");
    reject(b"\x08\0\x09\0\0 and what follows it", "postcopy");
    reject(b"", "the input is empty");
    reject(b"QEVM", "too early");
    let part = plain
        .windows(5)
        .position(|window| window == [2, 0, 0, 0, 2])
        .unwrap();
    let with = |command: &[u8]| [&plain[..part], command, &plain[part..]].concat();
    reject(&with(b"\x08\0\x08\0\0"), "COLO");
    let mut rdma = plain.clone();
    rdma[part + 5..part + 13].copy_from_slice(&0x80_u64.to_be_bytes());
    reject(&rdma, "RDMA");
    let snapshot = SyntheticStream {
        snapshot: true,
        ..SyntheticStream::default()
    };
    reject(&snapshot.bytes(), "background snapshot");
    let x86 = SyntheticStream {
        cpu_version: 12,
        ..SyntheticStream::default()
    };
    let (_, buffer) = forward_at_once(&x86.bytes());
    let error = buffer.unwrap().open_stream().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotArm, "{error}");
    // Commands for the return path, postcopy and switchover are forwarded.
    for command in [
        &b"\x08\0\x01\0\0"[..],
        b"\x08\0\x02\0\x04\0\0\0\x42",
        b"\x08\0\x0b\0\0",
    ] {
        let whole = with(command);
        let (forwarded, buffer) = forward_at_once(&whole);
        assert_forwarded("command", &whole, &forwarded, &buffer.unwrap());
    }
}

/// Rejects more device state than the limit of the buffer.
#[test]
fn buffer_is_bounded() {
    let whole = SyntheticStream {
        payloads: vec![vec![5; 100_000]],
        ..SyntheticStream::default()
    }
    .bytes();
    for piece in [100, 1 << 20] {
        let mut parser = IncrementalParser::new().with_buffer_limit(90_000);
        let mut at = 0;
        let error = loop {
            let start = index(parser.offset());
            at = whole.len().min(at + piece);
            assert!(parser.offset() < whole.len() as u64, "not rejected");
            if let Err(error) = parser.feed(&whole[start..at], false) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("90000 bytes"), "{error}");
    }
}

/// Rejects early sections without an end instead of waiting for it.
#[test]
fn early_sections_are_bounded() {
    let mut whole = b"QEVM\0\0\0\x03\x04\0\0\0\x05\x05early\0\0\0\0\0\0\0\x01".to_vec();
    whole.resize(8 << 20, 0xaa);
    let (forwarded, buffer) = forward_in_pieces(&whole, || 65_536, |_, _| {});
    let error = buffer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert_eq!(forwarded.len(), 8);
}

struct FailingStream {
    left: usize,
    kind: io::ErrorKind,
}

impl Write for FailingStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(self.kind.into());
        }
        let count = bytes.len().min(self.left);
        self.left -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for FailingStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Err(if self.left == 0 {
            self.kind.into()
        } else {
            self.left -= 1;
            buffer.fill(0);
            io::ErrorKind::Interrupted.into()
        })
    }
}

#[test]
fn input_and_output_errors() {
    let whole = SyntheticStream {
        pages: 1000,
        ..SyntheticStream::default()
    }
    .bytes();
    for (kind, expected) in [
        (io::ErrorKind::BrokenPipe, ErrorKind::Io),
        (io::ErrorKind::StorageFull, ErrorKind::NoSpace),
    ] {
        for left in [0, 1, 100_000, 2_000_000] {
            let mut output = FailingStream { left, kind };
            let error = forward(&mut whole.as_slice(), &mut output, &mut |_, _| {}).unwrap_err();
            assert_eq!(error.kind(), expected, "{error}");
        }
        let mut forwarded = Vec::new();
        let buffer = forward(&mut whole.as_slice(), &mut forwarded, &mut |_, _| {}).unwrap();
        let unchanged = Edit::identity(whole.len() as u64);
        for left in [0, 1, index(buffer.length()) - 1] {
            let error = buffer.write(&unchanged, &mut FailingStream { left, kind });
            assert_eq!(error.unwrap_err().kind(), expected);
        }
    }
    let failing = FailingStream {
        left: 3,
        kind: io::ErrorKind::ConnectionReset,
    };
    let mut input = whole[..100_000].chain(failing);
    let mut forwarded = Vec::new();
    let error = forward(&mut input, &mut forwarded, &mut |_, _| {}).unwrap_err();
    assert_eq!(
        (error.kind(), error.offset()),
        (ErrorKind::Io, Some(100_000))
    );
    assert_no_stream(&forwarded, "the input failed");
}

#[test]
fn edit_of_another_stream_is_rejected() {
    let whole = SyntheticStream::default().bytes();
    let (_, buffer) = forward_at_once(&whole);
    let buffer = buffer.unwrap();
    let other = Edit::identity(whole.len() as u64 + 1);
    assert_eq!(
        buffer.write(&other, &mut Vec::new()).unwrap_err().kind(),
        ErrorKind::BadEdit
    );
    let early = Stream::open(&whole).unwrap().without_ram(&[]).unwrap();
    assert_eq!(
        buffer.open_edited(&early).unwrap_err().kind(),
        ErrorKind::BadEdit
    );
}
