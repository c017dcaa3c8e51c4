//! What comes out is what `convert` makes of the file, byte for byte, and what the destination says comes back as it was said.

use std::io::Write as _;
use std::thread;

use cpreg_relay::{ErrorKind, MigrationOutcome, VmLocation};
use cpreg_stream::ErrorKind::Unsupported;
use cpreg_stream::Stream;

use crate::common::damage::{Random, synthetic_streams, with_live_sections};
use crate::common::{bytes, fixtures};
use crate::harness::{
    NETS, Net, PolicyAction, RelayHarness, SHUT_ERROR, Socket, assert_completed, assert_no_stream,
    convert_stream, device_state_range, unwrap_error, unwrap_result,
};

/// SHUT 0: the VM has been loaded.
const SHUT_OK: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 0];

/// Writes a stream in pieces of random sizes.
fn write_in_chunks(socket: &mut Socket, bytes: &[u8], most: usize, random: &mut Random) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(rest.len().min(1 + random.next_below(most)));
        socket.write_all(piece).unwrap();
        rest = more;
    }
}

/// Something of the return path: PONG, a request for pages, an acknowledgement without content.
fn message(random: &mut Random) -> Vec<u8> {
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

/// Passes a stream with answers between; whoever is to closes first, and only its own direction.
fn assert_forwarded(
    name: &str,
    whole: &[u8],
    act: PolicyAction,
    net: Net,
    most: usize,
    source_first: bool,
) {
    let expected = &convert_stream(whole, act);
    let stage = RelayHarness::new(net);
    let source = |stage: &RelayHarness| {
        let mut socket = stage.source();
        let mut ear = socket.try_clone();
        thread::scope(|scope| {
            let heard = scope.spawn(move || ear.read_to_close());
            write_in_chunks(&mut socket, whole, most, &mut Random(whole.len() as u64));
            if source_first {
                socket.half_close();
            }
            heard.join().unwrap()
        })
    };
    let destination = |stage: &RelayHarness| {
        let mut socket = stage.destination();
        let mut random = Random(expected.len() as u64);
        let (mut arrived, mut said) = (Vec::new(), Vec::new());
        while arrived.len() < expected.len() {
            let count = (expected.len() - arrived.len()).min(1 + random.next_below(most));
            let some = socket.read_some(count);
            assert_eq!(
                some.len(),
                count,
                "{name}: it ends behind {}",
                arrived.len()
            );
            arrived.extend(some);
            if random.next_below(4) == 0 {
                let message = message(&mut random);
                // Some messages go in two pieces.
                let (one, other) = message.split_at(random.next_below(message.len()));
                socket.write_all(one).unwrap();
                socket.write_all(other).unwrap();
                said.extend(message);
            }
        }
        said.extend(SHUT_OK);
        if source_first {
            assert!(socket.read_return_path().is_empty(), "{name}");
            socket.write_all(&SHUT_OK).unwrap();
        } else {
            socket.write_all(&SHUT_OK).unwrap();
            socket.half_close();
            assert!(socket.read_return_path().is_empty(), "{name}");
        }
        (arrived, said)
    };
    let (migrated, heard, (arrived, said)) = stage.run(act, source, destination);
    let ended = unwrap_result(migrated);
    assert!(
        matches!(ended.outcome, MigrationOutcome::Completed),
        "{name}: {ended:?}"
    );
    let answers = ended.setup.as_ref().unwrap().return_path;
    // QEMU waits for the answer; a source that does not may not have heard it.
    let expected_place = if source_first && answers {
        VmLocation::Unknown
    } else {
        VmLocation::Destination
    };
    assert_eq!(ended.vm_location, expected_place, "{name}");
    assert!(arrived == *expected, "{name} {act:?}");
    assert!(heard == said, "{name}: {} of {}", heard.len(), said.len());
    assert_eq!(ended.main_channel_bytes, expected.len() as u64, "{name}");
    let events = stage.events.lines();
    assert_eq!(events.first().map(String::as_str), Some("connected 1 main"));
    assert_eq!(
        events.last().map(String::as_str),
        Some("return-path-shut 0")
    );
    let is_postcopy = Stream::open(&whole).unwrap().package().is_some();
    let held = if is_postcopy {
        "device-state-received postcopy"
    } else {
        "device-state-received precopy"
    };
    assert!(stage.events.has(held), "{name}: {events:?}");
}

#[test]
fn recorded_migrations() {
    let (mut passed, mut refused) = (0, 0);
    for (number, fixture) in fixtures().iter().enumerate() {
        let source = fixture.open();
        let stream = Stream::open(&source).unwrap();
        let mapped = stream
            .configuration()
            .is_some_and(|it| it.has_capability("mapped-ram"));
        let net = NETS[number % 2];
        if mapped {
            // Zeros of a file, which no connection carries.
            assert_not_live(&bytes(&source)[..1 << 20], net);
            refused += 1;
        } else if fixture.name.contains("snapshot") {
            assert_not_live(&bytes(&source), net);
            refused += 1;
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
            passed += 1;
        }
    }
    assert!(passed >= 28 && refused >= 2, "{passed}, {refused}");
}

/// What is no live migration is ended, and the destination gets nothing of its devices.
fn assert_not_live(whole: &[u8], net: Net) {
    let stage = RelayHarness::new(net);
    let (migrated, _, arrived) = stage.run(
        PolicyAction::Keep,
        |stage| {
            let mut socket = stage.source();
            socket.send(whole);
            socket.read_return_path()
        },
        |stage| stage.destination().read_to_close(),
    );
    let ended = unwrap_result(migrated);
    assert_eq!(unwrap_error(&ended).kind(), ErrorKind::Stream(Unsupported));
    assert_eq!(ended.vm_location, VmLocation::SourceRunning);
    assert_no_stream(&arrived, "it cannot be live");
    assert!(whole.starts_with(&arrived));
}

/// Streams that have what recordings lack; those without description end when their source closes, or says nothing more.
#[test]
fn made_up_migrations_in_pieces() {
    for (number, (made, whole)) in synthetic_streams().into_iter().enumerate() {
        let name = format!("{made:?}");
        let net = NETS[number % 2];
        // Byte by byte; the source waits for an answer.
        assert_forwarded(&name, &whole, PolicyAction::Shorten, net, 1, false);
        assert_forwarded(&name, &whole, PolicyAction::Shorten, net, 5_000, true);
        if !made.postcopy {
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

/// Whoever answers nothing and closes when it has loaded the VM, as without return path.
#[test]
fn without_answers_it_is_probably_there() {
    let (_, whole) = &synthetic_streams()[8];
    for net in NETS {
        for act in [PolicyAction::Keep, PolicyAction::Shorten] {
            let stage = RelayHarness::new(net);
            let (migrated, heard, arrived) = stage.run(
                act,
                |stage| {
                    let mut socket = stage.source();
                    assert!(socket.send(whole));
                    socket.half_close();
                    socket.read_return_path()
                },
                |stage| stage.destination().read_to_close(),
            );
            assert_completed(&unwrap_result(migrated));
            assert!(heard.is_empty());
            assert!(arrived == convert_stream(whole, act));
        }
    }
}

/// A refusal is told to the source, in its own words if it has a return path, and the destination gets nothing of its devices.
#[test]
fn a_refusal_is_told_to_both() {
    for net in NETS {
        for postcopy in [false, true] {
            for answers in [false, true] {
                for act in [PolicyAction::Refuse, PolicyAction::RefuseEarly] {
                    let whole = with_return_path(postcopy, answers);
                    let start = device_state_range(&whole).start;
                    let stage = RelayHarness::new(net);
                    let (migrated, heard, arrived) = stage.run(
                        act,
                        |stage| {
                            let mut socket = stage.source();
                            socket.send(&whole);
                            socket.read_return_path()
                        },
                        |stage| stage.destination().read_to_close(),
                    );
                    let ended = unwrap_result(migrated);
                    assert!(
                        matches!(ended.outcome, MigrationOutcome::Refused),
                        "{ended:?}"
                    );
                    let expected = match (act, postcopy, answers) {
                        (PolicyAction::RefuseEarly, ..) | (_, false, true) => {
                            VmLocation::SourceRunning
                        }
                        (_, true, _) => VmLocation::SourcePostcopyPaused,
                        (_, false, false) => VmLocation::SourceStopped,
                    };
                    assert_eq!(ended.vm_location, expected);
                    let said = if answers { &SHUT_ERROR[..] } else { &[] };
                    assert_eq!(heard, said, "{net:?} {postcopy} {act:?}");
                    let event = format!("refused {}", expected.name());
                    assert!(stage.events.has(&event), "{:?}", stage.events.lines());
                    if act == PolicyAction::Refuse {
                        assert!(arrived == whole[..start]);
                    } else {
                        assert!(arrived.is_empty());
                    }
                }
            }
        }
    }
}

/// A made-up stream of a source that asks for a return path, or does not.
pub(crate) fn with_return_path(postcopy: bool, answers: bool) -> Vec<u8> {
    let made = crate::common::synthetic::SyntheticStream {
        registers: 6,
        postcopy,
        ..Default::default()
    };
    let whole = made.bytes();
    if !answers {
        return whole;
    }
    // OPEN_RETURN_PATH, behind the configuration.
    let configured = b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0c";
    let at = whole
        .windows(configured.len())
        .position(|it| it == configured)
        .unwrap()
        + configured.len();
    [&whole[..at], b"\x08\0\x01\0\0", &whole[at..]].concat()
}
