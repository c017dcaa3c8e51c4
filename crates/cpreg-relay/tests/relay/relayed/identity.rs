//! Migrations whose output must equal that of `convert` on the file, byte for byte. The return path
//! must be forwarded unchanged.

use std::io::Write as _;
use std::thread;

use cpreg_relay::{ErrorKind, MigrationOutcome, VmLocation};
use cpreg_stream::ErrorKind::Unsupported;
use cpreg_stream::Stream;

use super::harness::{
    NETS, Net, PolicyAction, RelayHarness, SHUT_ERROR, Socket, assert_completed, assert_no_stream,
    convert_stream, device_state_range, unwrap_error, unwrap_result,
};
use crate::common::damage::{Random, synthetic_streams, with_live_sections};
use crate::common::{bytes, fixtures, is_mapped_ram};

/// SHUT 0: the VM has been loaded.
const SHUT_OK: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 0];

/// Writes a stream in chunks of random sizes.
fn write_in_chunks(socket: &mut Socket, bytes: &[u8], max_chunk: usize, random: &mut Random) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(1 + random.next_below(max_chunk)));
        socket.write_all(chunk).unwrap();
        rest = after;
    }
}

/// Returns a random message of the return path other than SHUT.
fn random_message(random: &mut Random) -> Vec<u8> {
    let kind = 2 + random.next_below(6);
    let length = random.next_below(40);
    let mut message = vec![
        0,
        u8::try_from(kind).unwrap(),
        0,
        u8::try_from(length).unwrap(),
    ];
    message.extend((0..length).map(|_| random.next().to_be_bytes()[0]));
    message
}

/// Forwards a stream, while the destination sends messages on the return path. With
/// `source_closes_first`, the source closes its direction first.
fn assert_forwarded(
    name: &str,
    whole: &[u8],
    action: PolicyAction,
    net: Net,
    max_chunk: usize,
    source_closes_first: bool,
) {
    let expected = &convert_stream(whole, action);
    let harness = RelayHarness::new(net);
    let source = |harness: &RelayHarness| {
        let mut socket = harness.source();
        let mut reader = socket.try_clone();
        thread::scope(|scope| {
            let received = scope.spawn(move || reader.read_to_close());
            write_in_chunks(
                &mut socket,
                whole,
                max_chunk,
                &mut Random(whole.len() as u64),
            );
            if source_closes_first {
                socket.half_close();
            }
            received.join().unwrap()
        })
    };
    let destination = |harness: &RelayHarness| {
        let mut socket = harness.destination();
        let mut random = Random(expected.len() as u64);
        let (mut arrived, mut sent) = (Vec::new(), Vec::new());
        while arrived.len() < expected.len() {
            let count = (expected.len() - arrived.len()).min(1 + random.next_below(max_chunk));
            let chunk = socket.read_some(count);
            assert_eq!(chunk.len(), count, "{name}: ends after {}", arrived.len());
            arrived.extend(chunk);
            if random.next_below(4) == 0 {
                let message = random_message(&mut random);
                // Some messages are written in two parts.
                let (first, second) = message.split_at(random.next_below(message.len()));
                socket.write_all(first).unwrap();
                socket.write_all(second).unwrap();
                sent.extend(message);
            }
        }
        sent.extend(SHUT_OK);
        if source_closes_first {
            assert!(socket.read_return_path().is_empty(), "{name}");
            socket.write_all(&SHUT_OK).unwrap();
        } else {
            socket.write_all(&SHUT_OK).unwrap();
            socket.half_close();
            assert!(socket.read_return_path().is_empty(), "{name}");
        }
        (arrived, sent)
    };
    let (result, received, (arrived, sent)) = harness.run(action, source, destination);
    let result = unwrap_result(result);
    assert!(
        matches!(result.outcome, MigrationOutcome::Completed),
        "{name}: {result:?}"
    );
    let has_return_path = result.setup.as_ref().unwrap().return_path;
    // QEMU waits for the SHUT; a source that closes earlier may not have received it.
    let expected_location = if source_closes_first && has_return_path {
        VmLocation::Unknown
    } else {
        VmLocation::Destination
    };
    assert_eq!(result.vm_location, expected_location, "{name}");
    assert!(arrived == *expected, "{name} {action:?}");
    assert!(
        received == sent,
        "{name}: {} of {}",
        received.len(),
        sent.len()
    );
    assert_eq!(result.main_channel_bytes, expected.len() as u64, "{name}");
    let events = harness.events.lines();
    assert_eq!(events.first().map(String::as_str), Some("connected 1 main"));
    assert_eq!(
        events.last().map(String::as_str),
        Some("return-path-shut 0")
    );
    let is_postcopy = Stream::open(&whole).unwrap().package().is_some();
    let event = if is_postcopy {
        "device-state-received postcopy"
    } else {
        "device-state-received precopy"
    };
    assert!(harness.events.has(event), "{name}: {events:?}");
}

#[test]
fn recorded_migrations() {
    let (mut forwarded, mut rejected) = (0, 0);
    for (number, fixture) in fixtures().iter().enumerate() {
        let source = fixture.open();
        let stream = Stream::open(&source).unwrap();
        let net = NETS[number % 2];
        if is_mapped_ram(&stream) {
            // The file is mostly zeros, and no connection sends this format.
            assert_not_live(&bytes(&source)[..1 << 20], net);
            rejected += 1;
        } else if fixture.name.contains("snapshot") {
            assert_not_live(&bytes(&source), net);
            rejected += 1;
        } else {
            let whole = bytes(&source);
            assert_forwarded(
                &fixture.name,
                &whole,
                PolicyAction::Keep,
                net,
                1 << 17,
                number % 4 < 2,
            );
            assert_forwarded(
                &fixture.name,
                &whole,
                PolicyAction::Shorten,
                net,
                40_000,
                number % 4 >= 2,
            );
            forwarded += 1;
        }
    }
    assert!(forwarded >= 28 && rejected >= 2, "{forwarded}, {rejected}");
}

/// Asserts that a stream that is not a live migration is stopped, and that the destination receives
/// no device state.
fn assert_not_live(whole: &[u8], net: Net) {
    let harness = RelayHarness::new(net);
    let (result, _, arrived) = harness.run(
        PolicyAction::Keep,
        |harness| {
            let mut socket = harness.source();
            socket.send(whole);
            socket.read_return_path()
        },
        |harness| harness.destination().read_to_close(),
    );
    let result = unwrap_result(result);
    assert_eq!(unwrap_error(&result).kind(), ErrorKind::Stream(Unsupported));
    assert_eq!(result.vm_location, VmLocation::SourceRunning);
    assert_no_stream(&arrived, "it cannot be live");
    assert!(whole.starts_with(&arrived));
}

/// Synthetic streams cover features that the recordings lack. Streams without description end when
/// the source closes or sends no more.
#[test]
fn synthetic_migrations_in_chunks() {
    for (number, (options, whole)) in synthetic_streams().into_iter().enumerate() {
        let name = format!("{options:?}");
        let net = NETS[number % 2];
        // Byte by byte; the source waits for an answer.
        assert_forwarded(&name, &whole, PolicyAction::Shorten, net, 1, false);
        assert_forwarded(&name, &whole, PolicyAction::Shorten, net, 5_000, true);
        if !options.postcopy {
            assert_forwarded(
                &name,
                &with_live_sections(&whole),
                PolicyAction::Shorten,
                net,
                3_000,
                true,
            );
        }
    }
}

/// A destination that sends no SHUT, and closes after it has loaded the VM, as without return path.
#[test]
fn without_shut_the_destination_is_unconfirmed() {
    let (_, whole) = &synthetic_streams()[8];
    for net in NETS {
        for action in [PolicyAction::Keep, PolicyAction::Shorten] {
            let harness = RelayHarness::new(net);
            let (result, received, arrived) = harness.run(
                action,
                |harness| {
                    let mut socket = harness.source();
                    assert!(socket.send(whole));
                    socket.half_close();
                    socket.read_return_path()
                },
                |harness| harness.destination().read_to_close(),
            );
            assert_completed(&unwrap_result(result));
            assert!(received.is_empty());
            assert!(arrived == convert_stream(whole, action));
        }
    }
}

/// A rejection closes the source's connection, after an error SHUT if it has a return path. The
/// destination receives no device state.
#[test]
fn rejection_is_reported_to_both_sides() {
    for net in NETS {
        for postcopy in [false, true] {
            for has_return_path in [false, true] {
                for action in [PolicyAction::Refuse, PolicyAction::RefuseEarly] {
                    let whole = with_return_path(postcopy, has_return_path);
                    let start = device_state_range(&whole).start;
                    let harness = RelayHarness::new(net);
                    let (result, received, arrived) = harness.run(
                        action,
                        |harness| {
                            let mut socket = harness.source();
                            socket.send(&whole);
                            socket.read_return_path()
                        },
                        |harness| harness.destination().read_to_close(),
                    );
                    let result = unwrap_result(result);
                    assert!(
                        matches!(result.outcome, MigrationOutcome::Refused),
                        "{result:?}"
                    );
                    let expected = match (action, postcopy, has_return_path) {
                        (PolicyAction::RefuseEarly, ..) | (_, false, true) => {
                            VmLocation::SourceRunning
                        }
                        (_, true, _) => VmLocation::SourcePostcopyPaused,
                        (_, false, false) => VmLocation::SourceStopped,
                    };
                    assert_eq!(result.vm_location, expected);
                    let shut = if has_return_path {
                        &SHUT_ERROR[..]
                    } else {
                        &[]
                    };
                    assert_eq!(received, shut, "{net:?} {postcopy} {action:?}");
                    let event = format!("refused {}", expected.name());
                    assert!(harness.events.has(&event), "{:?}", harness.events.lines());
                    if action == PolicyAction::Refuse {
                        assert!(arrived == whole[..start]);
                    } else {
                        assert!(arrived.is_empty());
                    }
                }
            }
        }
    }
}

/// Returns a synthetic stream of a source with or without return path.
pub(crate) fn with_return_path(postcopy: bool, has_return_path: bool) -> Vec<u8> {
    let options = crate::common::synthetic::SyntheticStream {
        registers: 6,
        postcopy,
        ..Default::default()
    };
    let whole = options.bytes();
    if !has_return_path {
        return whole;
    }
    // OPEN_RETURN_PATH after the configuration.
    let configuration = b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0c";
    let offset = whole
        .windows(configuration.len())
        .position(|window| window == configuration)
        .unwrap()
        + configuration.len();
    [&whole[..offset], b"\x08\0\x01\0\0", &whole[offset..]].concat()
}
