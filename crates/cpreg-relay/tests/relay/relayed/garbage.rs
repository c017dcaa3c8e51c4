//! Damaged streams, and bytes that are not a stream, from either side.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use cpreg_relay::{MigrationOutcome, VmLocation};
use cpreg_stream::Stream;
use cpreg_stream::incremental::{DeviceStateBuffer, IncrementalParser};

use super::harness::{
    NETS, Net, PolicyAction, RelayHarness, assert_completed, assert_no_stream, device_state_range,
    unwrap_error, unwrap_result,
};
use super::identity::with_return_path;
use crate::common::damage::{Random, bases, mutate};
use crate::common::{bytes, index, shortening_edits};

/// Runs the parser of the main channel without connections. Returns the forwarded bytes, and the
/// device state with its stream and the number of bytes consumed.
pub(crate) fn parse_in_chunks(
    stream: &[u8],
    mut chunk_len: impl FnMut() -> usize,
) -> (Vec<u8>, Option<(DeviceStateBuffer, Stream, usize)>) {
    let mut parser = IncrementalParser::bidirectional();
    let mut forwarded = Vec::new();
    let (mut start, mut end) = (0, 0);
    loop {
        let is_last = end == stream.len();
        end = stream.len().min(end + chunk_len());
        let Ok(consumed) = parser.feed(&stream[start..end], is_last) else {
            return (forwarded, None);
        };
        forwarded.extend_from_slice(&stream[start..start + consumed.forward]);
        start += consumed.forward + consumed.buffered;
        assert!(end - start < 3 << 20, "{} bytes are waiting", end - start);
        if is_last || parser.looks_complete() {
            match parser.take_device_state() {
                Ok(device_state) => match device_state.open_stream() {
                    Ok(stream) => return (forwarded, Some((device_state, stream, start))),
                    Err(_) => parser.restore_device_state(device_state),
                },
                Err(_) => assert!(is_last, "the parser buffers no device state before the end"),
            }
        }
        if is_last {
            return (forwarded, None);
        }
    }
}

/// Ten thousand damaged streams: never a panic or a hang. Every output that opens equals the output
/// of `convert` for the same bytes.
#[test]
fn damaged_streams() {
    let bases = bases();
    let insertion_source = bases[1].clone();
    let run = |part: u64| {
        let mut random = Random(part);
        let (mut rejected_early, mut refused, mut compared) = (0, 0, 0);
        for _ in 0..2_500 {
            let mut whole = bases[random.next_below(bases.len())].clone();
            mutate(&mut whole, &mut random, &insertion_source);
            let max_chunk = 1 + random.next_below(9000);
            let (forwarded, device_state) =
                parse_in_chunks(&whole, || 1 + random.next_below(max_chunk));
            assert_no_stream(&forwarded, "damaged");
            let Some((device_state, stream, consumed)) = device_state else {
                rejected_early += 1;
                continue;
            };
            let edit = stream.edit(&device_state, &shortening_edits(&stream));
            let Ok(edit) = edit else {
                refused += 1;
                continue;
            };
            device_state
                .open_edited(&edit)
                .expect("the edited stream opens");
            let mut out = forwarded;
            device_state.write(&edit, &mut out).unwrap();
            // Data after the device state is forwarded unchanged.
            let length = out.len();
            out.extend_from_slice(&whole[consumed..]);
            match Stream::open(&whole) {
                Ok(file) => {
                    let expected = file
                        .edit(&whole, &shortening_edits(&file))
                        .expect("an edit");
                    assert!(out == bytes(&expected.apply_to(&whole)));
                }
                Err(_) if stream.package().is_some() => {
                    // RAM after the package is damaged; the destination finds that.
                    assert_eq!(
                        stream.vm().unwrap().vcpus.len(),
                        shortening_edits(&stream).len()
                    );
                }
                Err(_) => {
                    let whole = &whole[..consumed];
                    let file = Stream::open(&whole).expect("the forwarded stream can be converted");
                    let expected = file
                        .edit(&whole, &shortening_edits(&file))
                        .expect("an edit");
                    assert!(out[..length] == bytes(&expected.apply_to(&whole)));
                }
            }
            compared += 1;
        }
        (rejected_early, refused, compared)
    };
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = (11..=14)
            .map(|part| scope.spawn(move || run(part)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2))
    });
    assert_eq!(counts.0 + counts.1 + counts.2, 10_000);
    assert!(counts.0 > 1000 && counts.2 > 1000, "{counts:?}");
}

/// The same damage over connections: both sides are closed, and no output of a failed migration
/// opens.
#[test]
fn damaged_migrations() {
    let bases = bases();
    let mut random = Random(21);
    let mut completed = 0;
    for number in 0..300 {
        let mut whole = bases[random.next_below(bases.len())].clone();
        mutate(&mut whole, &mut random, &bases[1]);
        // Bytes that are not a migration are not connected at all.
        if !whole.starts_with(b"QEVM") {
            continue;
        }
        let harness = RelayHarness::new(NETS[number % 2]);
        let (result, _, arrived) = harness.run(
            PolicyAction::Shorten,
            |harness| {
                let mut socket = harness.source();
                socket.send(&whole);
                socket.half_close();
                socket.read_return_path()
            },
            |harness| harness.destination().read_to_close(),
        );
        let result = unwrap_result(result);
        if matches!(result.outcome, MigrationOutcome::Completed) {
            completed += 1;
        } else {
            assert_no_stream(&arrived, "the migration did not complete");
            assert!(whole.starts_with(&arrived));
            let vm_location = result.vm_location;
            let source = [
                VmLocation::SourceRunning,
                VmLocation::SourceStopped,
                VmLocation::SourcePostcopyPaused,
            ];
            assert!(source.contains(&vm_location), "{result:?}");
        }
    }
    assert!(completed > 30, "{completed}");
}

/// Garbage in the middle of a stream whose source then waits: the relay notices it before the
/// device state.
#[test]
fn garbage_from_a_waiting_source() {
    let whole = with_return_path(false, true);
    let start = device_state_range(&whole).start;
    let mut random = Random(3);
    let noise: Vec<u8> = (0..70_000)
        .map(|_| random.next().to_be_bytes()[0])
        .collect();
    for (number, offset) in [8, 60, start / 2, start - 5].into_iter().enumerate() {
        // A page may contain anything, so one page of the noise is valid.
        let harness = RelayHarness::new(NETS[number % 2]);
        let (result, _, arrived) = harness.run(
            PolicyAction::Keep,
            |harness| {
                let mut socket = harness.source();
                socket.send(&[&whole[..offset], &noise].concat());
                socket.read_return_path()
            },
            |harness| harness.destination().read_to_close(),
        );
        let result = unwrap_result(result);
        unwrap_error(&result);
        assert_eq!(result.vm_location, VmLocation::SourceRunning, "at {offset}");
        assert_no_stream(&arrived, "garbage");
    }
}

/// Unreadable device state, from a source that waits for an answer and from one that regards the VM
/// as migrated.
#[test]
fn unreadable_device_state() {
    for has_return_path in [true, false] {
        let mut whole = with_return_path(false, has_return_path);
        let start = device_state_range(&whole).start;
        // Last byte of the footer of the first device.
        let footer = whole[start..]
            .iter()
            .position(|byte| *byte == 0x7e)
            .unwrap()
            + start;
        whole[footer + 4] ^= 0x40;
        let harness = RelayHarness::new(Net::Unix);
        let (result, _, arrived) = harness.run(
            PolicyAction::Keep,
            |harness| {
                let mut socket = harness.source();
                socket.send(&whole);
                socket.read_return_path()
            },
            |harness| harness.destination().read_to_close(),
        );
        let result = unwrap_result(result);
        unwrap_error(&result);
        assert!(arrived == whole[..start]);
        let expected = if has_return_path {
            VmLocation::SourceRunning
        } else {
            VmLocation::SourceStopped
        };
        assert_eq!(result.vm_location, expected, "{result:?}");
    }
}

/// An unreadable package followed by RAM: the relay neither waits nor keeps the RAM. It discards
/// the data of a notified source for a moment, so that the source can close by itself.
#[test]
fn unreadable_package() {
    let mut whole = with_return_path(true, true);
    let device_state = device_state_range(&whole);
    let footer = whole[device_state.start + 20..]
        .iter()
        .position(|byte| *byte == 0x7e);
    whole[footer.unwrap() + device_state.start + 24] ^= 0x40;
    for net in NETS {
        let harness = RelayHarness::new(net);
        let (result, _, arrived) = harness.run(
            PolicyAction::Keep,
            |harness| {
                let mut socket = harness.source();
                assert!(socket.send(&whole[..device_state.end]));
                let page = vec![5; 64 << 10];
                let mut sent = 0;
                while socket.send(&page) {
                    sent += page.len();
                    assert!(sent < 256 << 20, "the relay reads without end");
                    // Slower than a network.
                    thread::sleep(Duration::from_millis(2));
                }
                socket.read_return_path();
                sent
            },
            |harness| harness.destination().read_to_close(),
        );
        let result = unwrap_result(result);
        unwrap_error(&result);
        assert_eq!(result.vm_location, VmLocation::SourcePostcopyPaused);
        assert!(arrived == whole[..device_state.start]);
    }
}

/// The return path is forwarded unchanged, whatever it contains.
#[test]
fn garbage_from_the_destination() {
    let whole = with_return_path(false, true);
    let start = device_state_range(&whole).start;
    let mut random = Random(4);
    let noise: Vec<u8> = (0..300_000)
        .map(|_| random.next().to_be_bytes()[0])
        .collect();
    for net in NETS {
        for action in [PolicyAction::Shorten, PolicyAction::Refuse] {
            let harness = RelayHarness::new(net);
            let (result, received, ()) = harness.run(
                action,
                |harness| {
                    let mut socket = harness.source();
                    let (one, other) = whole.split_at(start / 2);
                    socket.send(one);
                    let mut received = socket.read_some(noise.len());
                    socket.send(other);
                    socket.half_close();
                    received.extend(socket.read_return_path());
                    received
                },
                |harness| {
                    let mut socket = harness.destination();
                    socket.write_all(&noise).unwrap();
                    socket.read_to_close();
                },
            );
            assert!(received == noise, "{}", received.len());
            let result = unwrap_result(result);
            if action == PolicyAction::Shorten {
                // The return path is on, and the destination sent no SHUT.
                assert!(
                    matches!(result.outcome, MigrationOutcome::Completed),
                    "{result:?}"
                );
                assert_eq!(result.vm_location, VmLocation::Unknown);
            } else {
                assert_eq!(result.vm_location, VmLocation::SourceRunning);
            }
        }
    }
}

/// QEMU sends no data after a complete stream. Only a peer other than QEMU does, or a guest that
/// imitates the end of a stream.
#[test]
fn bytes_after_the_end() {
    let whole = with_return_path(false, false);
    for extra in [&[0; 5000][..], b"\0\0\0more"] {
        let harness = RelayHarness::new(Net::Unix);
        let (result, _, arrived) = harness.run(
            PolicyAction::Keep,
            |harness| {
                let mut socket = harness.source();
                socket.send(&whole);
                harness.events.wait_for("device-state-sent", 1);
                thread::sleep(Duration::from_millis(5));
                socket.send(extra);
                socket.half_close();
                socket.read_return_path()
            },
            |harness| harness.destination().read_to_close(),
        );
        assert_completed(&unwrap_result(result));
        assert!(arrived == [&whole[..], extra].concat());
        assert_eq!(index(arrived.len() as u64), whole.len() + extra.len());
    }
}
