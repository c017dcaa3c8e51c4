//! Streams that flow through in pieces of every size: what passes, what is held back, and that the whole is what an edit
//! of the file would be.

mod common;

use std::io::{self, Read, Write};

use common::damage::{Random, bases, mutate, synthetic_streams, with_live_sections};
use common::forwarding::{assert_forwarded, assert_no_stream, join_output};
use common::synthetic::SyntheticStream;
use common::{bytes, fixtures, index, shortening_edits};
use cpreg_stream::incremental::{DeviceStateBuffer, IncrementalParser, Phase, forward};
use cpreg_stream::{Edit, OpenMethod, Stream};
use cpreg_stream::{Error, ErrorKind};

/// Pushes a stream in pieces; gives what passed and what was held back.
fn forward_in_pieces(
    stream: &[u8],
    mut piece: impl FnMut() -> usize,
    mut see: impl FnMut(Phase, u64),
) -> (Vec<u8>, Result<DeviceStateBuffer, Error>) {
    let mut flow = IncrementalParser::new();
    let mut passed = Vec::new();
    let (mut from, mut to) = (0, 0);
    loop {
        let piece = piece();
        let last = to == stream.len();
        to = stream.len().min(to + piece);
        match flow.feed(&stream[from..to], last) {
            Ok(taken) => {
                passed.extend_from_slice(&stream[from..from + taken.forward]);
                from += taken.forward + taken.buffered;
                assert_eq!(flow.offset(), from as u64);
                // What is shown again is little, early sections aside.
                assert!(to - from < 3 << 20, "{} bytes are waiting", to - from);
                see(flow.phase(), flow.offset());
            }
            Err(error) => return (passed, Err(error)),
        }
        if last {
            return (passed, flow.finish());
        }
    }
}

fn forward_at_once(stream: &[u8]) -> (Vec<u8>, Result<DeviceStateBuffer, Error>) {
    forward_in_pieces(stream, || stream.len().max(1), |_, _| {})
}

/// The names of recorded streams, by whether a filter carries them.
fn check_supported(name: &str, stream: &Stream) -> Result<(), &'static str> {
    let mapped = stream
        .configuration()
        .is_some_and(|it| it.has_capability("mapped-ram"));
    match () {
        () if mapped => Err("mapped-ram"),
        () if name.contains("snapshot") => Err("background snapshot"),
        () if name.contains("postcopy") => Err("postcopy"),
        () => Ok(()),
    }
}

/// All recorded streams: at once, and in pieces of a few sizes.
#[test]
fn recorded_streams() {
    let mut carried = 0;
    let mut refused = Vec::new();
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
            let (passed, held) = forward_in_pieces(&whole, size, |phase, _| {
                if phases.last() != Some(&phase) {
                    phases.push(phase);
                }
            });
            match (check_supported(&fixture.name, &stream), held) {
                (Ok(()), Ok(held)) => {
                    assert!(phases.is_sorted(), "{}: {phases:?}", fixture.name);
                    assert_eq!(phases.last(), Some(&Phase::DeviceState));
                    let records = held.open_stream().unwrap().record_counts();
                    let expected = Stream::open_by_full_scan(&source).unwrap();
                    assert_eq!(records, expected.record_counts(), "{}", fixture.name);
                    assert_forwarded(&fixture.name, &whole, &passed, &held);
                    carried += 1;
                }
                (Err(why), Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                    assert!(error.to_string().contains(why), "{error}");
                    assert!(error.hint().is_some());
                    refused.push(why);
                    // Nothing of the device state went on.
                    let first = stream.sections()[0].range.start;
                    assert!(passed.len() as u64 <= first, "{}", fixture.name);
                }
                (expected, Ok(_)) => panic!("{}: not refused: {expected:?}", fixture.name),
                (Ok(()), Err(error)) => panic!("{}: {error}", fixture.name),
            }
        }
    }
    assert!(carried >= 3 * 25, "{carried}");
    refused.sort_unstable();
    refused.dedup();
    assert_eq!(refused, ["background snapshot", "mapped-ram", "postcopy"]);
}

#[test]
fn made_up_streams_in_pieces_of_every_size() {
    for (made, whole) in synthetic_streams() {
        for size in (1..40).chain([100, 1000, 4095, 4096, 4104, 1 << 20]) {
            let (passed, held) = forward_in_pieces(&whole, || size, |_, _| {});
            let held = held.unwrap_or_else(|error| panic!("{size}: {made:?}: {error}"));
            assert_forwarded(&format!("{size}: {made:?}"), &whole, &passed, &held);
        }
    }
}

#[test]
fn other_live_sections_pass() {
    for (made, whole) in synthetic_streams() {
        if made.postcopy {
            continue;
        }
        let whole = with_live_sections(&whole);
        for size in [1, 7, 64, 5000, 1 << 20] {
            let (passed, held) = forward_in_pieces(&whole, || size, |_, _| {});
            let held = held.unwrap_or_else(|error| panic!("{size}: {made:?}: {error}"));
            assert_forwarded(&format!("{size}: {made:?}"), &whole, &passed, &held);
        }
    }
}

#[test]
fn a_recorded_stream_byte_by_byte() {
    let mut tried = 0;
    for fixture in fixtures() {
        let source = fixture.open();
        let stream = Stream::open(&source).unwrap();
        // RAM itself went over other connections, or is short.
        if stream.length() > 2 << 20 || check_supported(&fixture.name, &stream).is_err() {
            continue;
        }
        let whole = bytes(&source);
        let (passed, held) = forward_in_pieces(&whole, || 1, |_, _| {});
        assert_forwarded(&fixture.name, &whole, &passed, &held.unwrap());
        tried += 1;
    }
    assert!(tried > 0);
}

/// A guest can write into its memory whatever it likes.
#[test]
fn pages_that_imitate_the_end_of_a_stream_pass() {
    let made = SyntheticStream {
        vcpus: 1,
        registers: 6,
        pages: 40,
        payloads: vec![vec![1; 7]],
        ..SyntheticStream::default()
    };
    let mut whole = made.bytes();
    let first = index(Stream::open(&whole).unwrap().sections()[0].range.start);
    // How RAM ends, the devices, EOF and the description, in the third page.
    let ram_end = first - 18;
    let part_end = ram_end - 13;
    let imitation = whole[part_end..].to_vec();
    assert!(imitation.len() < 4096, "{}", imitation.len());
    let page = part_end - 38 * 4104 + 8;
    whole[page..page + imitation.len()].copy_from_slice(&imitation);

    for size in [1, 4096, 1 << 20] {
        let (passed, held) = forward_in_pieces(&whole, || size, |_, _| {});
        let held = held.unwrap();
        assert_eq!(held.start(), first as u64);
        assert_forwarded("imitation", &whole, &passed, &held);
    }
    // Cut there it opens from its end as if it were complete; it does not pass.
    let cut = &whole[..page + imitation.len()];
    assert_eq!(
        Stream::open(&cut).unwrap().open_method(),
        &OpenMethod::Description,
        "the imitation is good"
    );
    let error = forward_at_once(cut).1.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
}

#[test]
fn every_cut() {
    for (made, whole) in synthetic_streams() {
        let end = Stream::open(&whole).unwrap().end();
        let mut random = Random(7);
        for cut in 0..whole.len() {
            let (passed, held) =
                forward_in_pieces(&whole[..cut], || 1 + random.next_below(900), |_, _| {});
            assert_no_stream(&passed, &format!("cut at {cut}: {made:?}"));
            let opened = held.and_then(|held| held.open_stream());
            match opened {
                // Without its description, or without padding, it is complete.
                Ok(_) => assert!(
                    Stream::open(&&whole[..cut]).is_ok(),
                    "cut at {cut}: {made:?}"
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

/// Ten thousand damaged streams: never a panic or a hang, and never a stream that opens and is not what `convert` would
/// write of the same bytes.
#[test]
fn damaged_streams() {
    let bases = bases();
    let spare = bases[0].clone();

    let run = |part: u64| {
        let mut random = Random(part);
        let mut ends = (0, 0, 0);
        for _ in 0..2_500 {
            let mut whole = bases[random.next_below(bases.len())].clone();
            mutate(&mut whole, &mut random, &spare);
            let most = 1 + random.next_below(9000);
            let (passed, held) =
                forward_in_pieces(&whole, || 1 + random.next_below(most), |_, _| {});
            assert_no_stream(&passed, "damaged");
            let opened = held.and_then(|held| Ok((held.open_stream()?, held)));
            let (stream, held) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    assert_clear_error(&error);
                    ends.0 += 1;
                    continue;
                }
            };
            let file = Stream::open(&whole).expect("what can be filtered can be converted");
            let edits = shortening_edits(&stream);
            let Ok(edit) = stream.edit(&held, &edits) else {
                ends.1 += 1;
                continue;
            };
            let expected = file
                .edit(&whole, &shortening_edits(&file))
                .expect("an edit");
            assert!(join_output(&passed, &held, &edit) == bytes(&expected.apply_to(&whole)));
            held.open_edited(&edit).expect("what is written opens");
            ends.2 += 1;
        }
        ends
    };
    let ends = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=4).map(|part| scope.spawn(move || run(part))).collect();
        threads
            .into_iter()
            .map(|it| it.join().expect("no panic"))
            .fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2))
    });
    assert_eq!(ends.0 + ends.1 + ends.2, 10_000);
    assert!(ends.0 > 1000 && ends.2 > 1000, "{ends:?}");
}

/// An error says what and where.
fn assert_clear_error(error: &Error) {
    use ErrorKind as Kind;
    let kind = error.kind();
    let is_known = matches!(
        kind,
        Kind::NotAStream
            | Kind::ObsoleteVersion
            | Kind::NotArm
            | Kind::Truncated
            | Kind::Malformed
            | Kind::Unsupported
            | Kind::Disagreement
            | Kind::MultifdChannel
    );
    assert!(is_known, "{error:?}");
    let is_placed = error.offset().is_some() || kind == Kind::NotArm;
    assert!(is_placed && !error.message().is_empty(), "{error:?}");
}

#[test]
fn what_a_filter_cannot_carry() {
    let plain = SyntheticStream::default().bytes();
    let refused = |bytes: &[u8], words: &str| {
        let (passed, held) = forward_at_once(bytes);
        let error = held.err().unwrap_or_else(|| panic!("not refused: {words}"));
        assert!(error.to_string().contains(words), "{error}");
        assert_no_stream(&passed, words);
        error
    };
    refused(
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 random bytes",
        "TLS",
    );
    refused(b"QCPR\0\0\0\x01 and what follows", "cpr-transfer");
    refused(b"\x08\0\x09\0\0 and what follows it", "postcopy");
    refused(b"", "nothing came");
    refused(b"QEVM", "too early");
    let part = plain
        .windows(5)
        .position(|it| it == [2, 0, 0, 0, 2])
        .unwrap();
    let with = |command: &[u8]| [&plain[..part], command, &plain[part..]].concat();
    refused(&with(b"\x08\0\x08\0\0"), "COLO");
    let mut rdma = plain.clone();
    rdma[part + 5..part + 13].copy_from_slice(&0x80_u64.to_be_bytes());
    refused(&rdma, "RDMA");
    let snapshot = SyntheticStream {
        snapshot: true,
        ..SyntheticStream::default()
    };
    refused(&snapshot.bytes(), "background snapshot");
    let x86 = SyntheticStream {
        cpu_version: 12,
        ..SyntheticStream::default()
    };
    let (_, held) = forward_at_once(&x86.bytes());
    let error = held.unwrap().open_stream().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotArm, "{error}");
    // What a return path or postcopy asks for, and what is sent at the switch-over, passes.
    for command in [
        &b"\x08\0\x01\0\0"[..],
        b"\x08\0\x02\0\x04\0\0\0\x42",
        b"\x08\0\x0b\0\0",
    ] {
        let whole = with(command);
        let (passed, held) = forward_at_once(&whole);
        assert_forwarded("command", &whole, &passed, &held.unwrap());
    }
}

/// What comes is refused where it would need more memory than the device state of any VM.
#[test]
fn what_is_held_back_is_bounded() {
    let whole = SyntheticStream {
        payloads: vec![vec![5; 100_000]],
        ..SyntheticStream::default()
    }
    .bytes();
    for piece in [100, 1 << 20] {
        let mut flow = IncrementalParser::new().with_buffer_limit(90_000);
        let mut at = 0;
        let error = loop {
            let start = index(flow.offset());
            at = whole.len().min(at + piece);
            assert!(flow.offset() < whole.len() as u64, "not refused");
            if let Err(error) = flow.feed(&whole[start..at], false) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("90000 bytes"), "{error}");
    }
}

/// Early sections that never end are given up, not waited for.
#[test]
fn early_sections_are_bounded() {
    let mut whole = b"QEVM\0\0\0\x03\x04\0\0\0\x05\x05early\0\0\0\0\0\0\0\x01".to_vec();
    whole.resize(8 << 20, 0xaa);
    let (passed, held) = forward_in_pieces(&whole, || 65_536, |_, _| {});
    let error = held.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert_eq!(passed.len(), 8);
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
fn faults_of_the_system() {
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
        let mut passed = Vec::new();
        let held = forward(&mut whole.as_slice(), &mut passed, &mut |_, _| {}).unwrap();
        let unchanged = Edit::identity(whole.len() as u64);
        for left in [0, 1, index(held.length()) - 1] {
            let error = held.write(&unchanged, &mut FailingStream { left, kind });
            assert_eq!(error.unwrap_err().kind(), expected);
        }
    }
    let failing = FailingStream {
        left: 3,
        kind: io::ErrorKind::ConnectionReset,
    };
    let mut input = whole[..100_000].chain(failing);
    let mut passed = Vec::new();
    let error = forward(&mut input, &mut passed, &mut |_, _| {}).unwrap_err();
    assert_eq!(
        (error.kind(), error.offset()),
        (ErrorKind::Io, Some(100_000))
    );
    assert_no_stream(&passed, "the input failed");
}

#[test]
fn an_edit_of_another_stream_is_refused() {
    let whole = SyntheticStream::default().bytes();
    let (_, held) = forward_at_once(&whole);
    let held = held.unwrap();
    let other = Edit::identity(whole.len() as u64 + 1);
    assert_eq!(
        held.write(&other, &mut Vec::new()).unwrap_err().kind(),
        ErrorKind::BadEdit
    );
    let early = Stream::open(&whole).unwrap().without_ram(&[]).unwrap();
    assert_eq!(
        held.open_edited(&early).unwrap_err().kind(),
        ErrorKind::BadEdit
    );
}
