//! Damaged streams, and bytes that were never one, from either side.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use cpreg_relay::{MigrationOutcome, VmLocation};
use cpreg_stream::Stream;
use cpreg_stream::incremental::{DeviceStateBuffer, IncrementalParser};

use crate::common::damage::{Random, bases, mutate};
use crate::common::{bytes, index, shortening_edits};
use crate::harness::{
    NETS, Net, PolicyAction, RelayHarness, assert_completed, assert_no_stream, device_state_range,
    unwrap_error, unwrap_result,
};
use crate::identity::with_return_path;

/// What the relay's main channel does, without connections: what passed, what was held, and how much had come by then.
pub(crate) fn parse_in_chunks(
    stream: &[u8],
    mut piece: impl FnMut() -> usize,
) -> (Vec<u8>, Option<(DeviceStateBuffer, Stream, usize)>) {
    let mut flow = IncrementalParser::bidirectional();
    let mut passed = Vec::new();
    let (mut from, mut to) = (0, 0);
    loop {
        let last = to == stream.len();
        to = stream.len().min(to + piece());
        let Ok(taken) = flow.feed(&stream[from..to], last) else {
            return (passed, None);
        };
        passed.extend_from_slice(&stream[from..from + taken.forward]);
        from += taken.forward + taken.buffered;
        assert!(to - from < 3 << 20, "{} bytes are waiting", to - from);
        if last || flow.looks_complete() {
            match flow.take_device_state() {
                Ok(held) => match held.open_stream() {
                    Ok(stream) => return (passed, Some((held, stream, from))),
                    Err(_) => flow.restore_device_state(held),
                },
                Err(_) => assert!(last, "nothing is held that may be complete"),
            }
        }
        if last {
            return (passed, None);
        }
    }
}

/// Ten thousand damaged streams: never a panic or a hang, and never a stream that opens and is not what `convert` would write of
/// the same bytes.
#[test]
fn damaged_streams() {
    let bases = bases();
    let spare = bases[1].clone();
    let run = |part: u64| {
        let mut random = Random(part);
        let (mut ended, mut refused, mut compared) = (0, 0, 0);
        for _ in 0..2_500 {
            let mut whole = bases[random.next_below(bases.len())].clone();
            mutate(&mut whole, &mut random, &spare);
            let most = 1 + random.next_below(9000);
            let (passed, held) = parse_in_chunks(&whole, || 1 + random.next_below(most));
            assert_no_stream(&passed, "damaged");
            let Some((held, stream, taken)) = held else {
                ended += 1;
                continue;
            };
            let edit = stream.edit(&held, &shortening_edits(&stream));
            let Ok(edit) = edit else {
                refused += 1;
                continue;
            };
            held.open_edited(&edit).expect("what is written opens");
            let mut out = passed;
            held.write(&edit, &mut out).unwrap();
            // What stands behind passes as it comes, whatever it is.
            let length = out.len();
            out.extend_from_slice(&whole[taken..]);
            match Stream::open(&whole) {
                Ok(file) => {
                    let expected = file
                        .edit(&whole, &shortening_edits(&file))
                        .expect("an edit");
                    assert!(out == bytes(&expected.apply_to(&whole)));
                }
                Err(_) if stream.package().is_some() => {
                    // RAM behind the package is damaged, for the destination to find.
                    assert_eq!(
                        stream.vm().unwrap().vcpus.len(),
                        shortening_edits(&stream).len()
                    );
                }
                Err(_) => {
                    let whole = &whole[..taken];
                    let file = Stream::open(&whole).expect("what goes on can be converted");
                    let expected = file
                        .edit(&whole, &shortening_edits(&file))
                        .expect("an edit");
                    assert!(out[..length] == bytes(&expected.apply_to(&whole)));
                }
            }
            compared += 1;
        }
        (ended, refused, compared)
    };
    let ends = thread::scope(|scope| {
        let threads: Vec<_> = (11..=14)
            .map(|part| scope.spawn(move || run(part)))
            .collect();
        threads
            .into_iter()
            .map(|it| it.join().expect("no panic"))
            .fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2))
    });
    assert_eq!(ends.0 + ends.1 + ends.2, 10_000);
    assert!(ends.0 > 1000 && ends.2 > 1000, "{ends:?}");
}

/// The same over connections: both ends are always told, and nothing arrives that opens and should not.
#[test]
fn damaged_migrations() {
    let bases = bases();
    let mut random = Random(21);
    let mut went = 0;
    for number in 0..300 {
        let mut whole = bases[random.next_below(bases.len())].clone();
        mutate(&mut whole, &mut random, &bases[1]);
        // What is no migration is not connected at all.
        if !whole.starts_with(b"QEVM") {
            continue;
        }
        let stage = RelayHarness::new(NETS[number % 2]);
        let (migrated, _, arrived) = stage.run(
            PolicyAction::Shorten,
            |stage| {
                let mut socket = stage.source();
                socket.send(&whole);
                socket.half_close();
                socket.read_return_path()
            },
            |stage| stage.destination().read_to_close(),
        );
        let ended = unwrap_result(migrated);
        if matches!(ended.outcome, MigrationOutcome::Completed) {
            went += 1;
        } else {
            assert_no_stream(&arrived, "it did not go on");
            assert!(whole.starts_with(&arrived));
            let vm = ended.vm_location;
            let source = [
                VmLocation::SourceRunning,
                VmLocation::SourceStopped,
                VmLocation::SourcePostcopyPaused,
            ];
            assert!(source.contains(&vm), "{ended:?}");
        }
    }
    assert!(went > 30, "{went}");
}

/// Garbage in the middle of a stream whose source then waits: before the device state it is seen at once.
#[test]
fn garbage_from_a_source_that_waits() {
    let whole = with_return_path(false, true);
    let start = device_state_range(&whole).start;
    let mut random = Random(3);
    let noise: Vec<u8> = (0..70_000)
        .map(|_| random.next().to_be_bytes()[0])
        .collect();
    for (number, at) in [8, 60, start / 2, start - 5].into_iter().enumerate() {
        // A page may hold anything: so much of the noise is one.
        let stage = RelayHarness::new(NETS[number % 2]);
        let (migrated, _, arrived) = stage.run(
            PolicyAction::Keep,
            |stage| {
                let mut socket = stage.source();
                socket.send(&[&whole[..at], &noise].concat());
                socket.read_return_path()
            },
            |stage| stage.destination().read_to_close(),
        );
        let ended = unwrap_result(migrated);
        unwrap_error(&ended);
        assert_eq!(ended.vm_location, VmLocation::SourceRunning, "at {at}");
        assert_no_stream(&arrived, "garbage");
    }
}

/// Device state that cannot be read, of a source that waits for an answer or of one that believes it has sent the VM.
#[test]
fn device_state_that_cannot_be_read() {
    for answers in [true, false] {
        let mut whole = with_return_path(false, answers);
        let start = device_state_range(&whole).start;
        // The last byte of the footer of the first device.
        let footer = whole[start..].iter().position(|it| *it == 0x7e).unwrap() + start;
        whole[footer + 4] ^= 0x40;
        let stage = RelayHarness::new(Net::Unix);
        let (migrated, _, arrived) = stage.run(
            PolicyAction::Keep,
            |stage| {
                let mut socket = stage.source();
                socket.send(&whole);
                socket.read_return_path()
            },
            |stage| stage.destination().read_to_close(),
        );
        let ended = unwrap_result(migrated);
        unwrap_error(&ended);
        assert!(arrived == whole[..start]);
        let expected = if answers {
            VmLocation::SourceRunning
        } else {
            VmLocation::SourceStopped
        };
        assert_eq!(ended.vm_location, expected, "{ended:?}");
    }
}

/// A package that cannot be read, and the source goes on with RAM behind it: that is no reason to wait, nor to keep RAM. What a source that
/// has been told of the failure still sends is thrown away for a moment, in which it may close by itself.
#[test]
fn a_package_that_cannot_be_read() {
    let mut whole = with_return_path(true, true);
    let held = device_state_range(&whole);
    let footer = whole[held.start + 20..].iter().position(|it| *it == 0x7e);
    whole[footer.unwrap() + held.start + 24] ^= 0x40;
    for net in NETS {
        let stage = RelayHarness::new(net);
        let (migrated, _, arrived) = stage.run(
            PolicyAction::Keep,
            |stage| {
                let mut socket = stage.source();
                assert!(socket.send(&whole[..held.end]));
                let page = vec![5; 64 << 10];
                let mut sent = 0;
                while socket.send(&page) {
                    sent += page.len();
                    assert!(sent < 256 << 20, "all of it is taken");
                    // No faster than a network.
                    thread::sleep(Duration::from_millis(2));
                }
                socket.read_return_path();
                sent
            },
            |stage| stage.destination().read_to_close(),
        );
        let ended = unwrap_result(migrated);
        unwrap_error(&ended);
        assert_eq!(ended.vm_location, VmLocation::SourcePostcopyPaused);
        assert!(arrived == whole[..held.start]);
    }
}

/// What a destination says is passed on whatever it is.
#[test]
fn garbage_from_the_destination() {
    let whole = with_return_path(false, true);
    let start = device_state_range(&whole).start;
    let mut random = Random(4);
    let noise: Vec<u8> = (0..300_000)
        .map(|_| random.next().to_be_bytes()[0])
        .collect();
    for net in NETS {
        for act in [PolicyAction::Shorten, PolicyAction::Refuse] {
            let stage = RelayHarness::new(net);
            let (migrated, heard, ()) = stage.run(
                act,
                |stage| {
                    let mut socket = stage.source();
                    let (one, other) = whole.split_at(start / 2);
                    socket.send(one);
                    let mut heard = socket.read_some(noise.len());
                    socket.send(other);
                    socket.half_close();
                    heard.extend(socket.read_return_path());
                    heard
                },
                |stage| {
                    let mut socket = stage.destination();
                    socket.write_all(&noise).unwrap();
                    socket.read_to_close();
                },
            );
            assert!(heard == noise, "{}", heard.len());
            let ended = unwrap_result(migrated);
            if act == PolicyAction::Shorten {
                // It has a return path and has not said anything of the VM.
                assert!(
                    matches!(ended.outcome, MigrationOutcome::Completed),
                    "{ended:?}"
                );
                assert_eq!(ended.vm_location, VmLocation::Unknown);
            } else {
                assert_eq!(ended.vm_location, VmLocation::SourceRunning);
            }
        }
    }
}

/// Behind a complete stream nothing comes. What does is a guest's imitation, or no QEMU.
#[test]
fn bytes_behind_the_end() {
    let whole = with_return_path(false, false);
    for more in [&[0; 5000][..], b"\0\0\0more"] {
        let stage = RelayHarness::new(Net::Unix);
        let (migrated, _, arrived) = stage.run(
            PolicyAction::Keep,
            |stage| {
                let mut socket = stage.source();
                socket.send(&whole);
                stage.events.wait_for("device-state-sent", 1);
                thread::sleep(Duration::from_millis(5));
                socket.send(more);
                socket.half_close();
                socket.read_return_path()
            },
            |stage| stage.destination().read_to_close(),
        );
        assert_completed(&unwrap_result(migrated));
        assert!(arrived == [&whole[..], more].concat());
        assert_eq!(index(arrived.len() as u64), whole.len() + more.len());
    }
}
