//! What comes out is what `convert` makes of the file, byte for byte, and what the destination says comes back as it was said.

use std::io::Write as _;
use std::thread;

use cpreg_relay::{ErrorKind, Outcome, Whereabouts};
use cpreg_stream::ErrorKind::Unsupported;
use cpreg_stream::Stream;

use crate::common::damage::{Random, made_up, with_live_sections};
use crate::common::{bytes, fixtures};
use crate::play::{
    Act, FAILED, NETS, Net, Socket, Stage, broken, converted, device_state, ended, is_no_stream,
    went_on,
};

/// SHUT 0: the VM has been loaded.
const LOADED: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 0];

/// Writes a stream in pieces of random sizes.
fn in_pieces(socket: &mut Socket, bytes: &[u8], most: usize, random: &mut Random) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(rest.len().min(1 + random.below(most)));
        socket.write_all(piece).unwrap();
        rest = more;
    }
}

/// Something of the return path: PONG, a request for pages, an acknowledgement without content.
fn message(random: &mut Random) -> Vec<u8> {
    let kind = 2 + random.below(6);
    let length = random.below(40);
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
fn passes(name: &str, whole: &[u8], act: Act, net: Net, most: usize, source_first: bool) {
    let expected = &converted(whole, act);
    let stage = Stage::new(net);
    let source = |stage: &Stage| {
        let mut socket = stage.source();
        let mut ear = socket.same();
        thread::scope(|scope| {
            let heard = scope.spawn(move || ear.read_up());
            in_pieces(&mut socket, whole, most, &mut Random(whole.len() as u64));
            if source_first {
                socket.half_close();
            }
            heard.join().unwrap()
        })
    };
    let destination = |stage: &Stage| {
        let mut socket = stage.destination();
        let mut random = Random(expected.len() as u64);
        let (mut arrived, mut said) = (Vec::new(), Vec::new());
        while arrived.len() < expected.len() {
            let count = (expected.len() - arrived.len()).min(1 + random.below(most));
            let some = socket.read_some(count);
            assert_eq!(
                some.len(),
                count,
                "{name}: it ends behind {}",
                arrived.len()
            );
            arrived.extend(some);
            if random.below(4) == 0 {
                let message = message(&mut random);
                // Some messages go in two pieces.
                let (one, other) = message.split_at(random.below(message.len()));
                socket.write_all(one).unwrap();
                socket.write_all(other).unwrap();
                said.extend(message);
            }
        }
        said.extend(LOADED);
        if source_first {
            assert!(socket.hear().is_empty(), "{name}");
            socket.write_all(&LOADED).unwrap();
        } else {
            socket.write_all(&LOADED).unwrap();
            socket.half_close();
            assert!(socket.hear().is_empty(), "{name}");
        }
        (arrived, said)
    };
    let (migrated, heard, (arrived, said)) = stage.play(act, source, destination);
    let ended = ended(migrated);
    assert!(
        matches!(ended.outcome, Outcome::WentOn),
        "{name}: {ended:?}"
    );
    let answers = ended.outline.as_ref().unwrap().return_path;
    // QEMU waits for the answer; a source that does not may not have heard it.
    let expected_place = if source_first && answers {
        Whereabouts::Unknown
    } else {
        Whereabouts::Destination
    };
    assert_eq!(ended.whereabouts, expected_place, "{name}");
    assert!(arrived == *expected, "{name} {act:?}");
    assert!(heard == said, "{name}: {} of {}", heard.len(), said.len());
    assert_eq!(ended.passed, expected.len() as u64, "{name}");
    let events = stage.notes.lines();
    assert_eq!(events.first().map(String::as_str), Some("connected 1 main"));
    assert_eq!(events.last().map(String::as_str), Some("answered 0"));
    let is_postcopy = Stream::open(&whole).unwrap().package().is_some();
    let held = if is_postcopy {
        "held postcopy"
    } else {
        "held precopy"
    };
    assert!(stage.notes.has(held), "{name}: {events:?}");
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
            cannot_be_live(&bytes(&source)[..1 << 20], net);
            refused += 1;
        } else if fixture.name.contains("snapshot") {
            cannot_be_live(&bytes(&source), net);
            refused += 1;
        } else {
            let whole = bytes(&source);
            passes(
                &fixture.name,
                &whole,
                Act::Keep,
                net,
                1 << 17,
                number % 4 < 2,
            );
            passes(
                &fixture.name,
                &whole,
                Act::Shorten,
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
fn cannot_be_live(whole: &[u8], net: Net) {
    let stage = Stage::new(net);
    let (migrated, _, arrived) = stage.play(
        Act::Keep,
        |stage| {
            let mut socket = stage.source();
            socket.send(whole);
            socket.hear()
        },
        |stage| stage.destination().read_up(),
    );
    let ended = ended(migrated);
    assert_eq!(broken(&ended).kind(), ErrorKind::Stream(Unsupported));
    assert_eq!(ended.whereabouts, Whereabouts::SourceGoesOn);
    is_no_stream(&arrived, "it cannot be live");
    assert!(whole.starts_with(&arrived));
}

/// Streams that have what recordings lack; those without description end when their source closes, or says nothing more.
#[test]
fn made_up_migrations_in_pieces() {
    for (number, (made, whole)) in made_up().into_iter().enumerate() {
        let name = format!("{made:?}");
        let net = NETS[number % 2];
        // Byte by byte; the source waits for an answer.
        passes(&name, &whole, Act::Shorten, net, 1, false);
        passes(&name, &whole, Act::Shorten, net, 5_000, true);
        if !made.postcopy {
            passes(
                &name,
                &with_live_sections(&whole),
                Act::Shorten,
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
    let (_, whole) = &made_up()[8];
    for net in NETS {
        for act in [Act::Keep, Act::Shorten] {
            let stage = Stage::new(net);
            let (migrated, heard, arrived) = stage.play(
                act,
                |stage| {
                    let mut socket = stage.source();
                    assert!(socket.send(whole));
                    socket.half_close();
                    socket.hear()
                },
                |stage| stage.destination().read_up(),
            );
            went_on(&ended(migrated));
            assert!(heard.is_empty());
            assert!(arrived == converted(whole, act));
        }
    }
}

/// A refusal is told to the source, in its own words if it has a return path, and the destination gets nothing of its devices.
#[test]
fn a_refusal_is_told_to_both() {
    for net in NETS {
        for postcopy in [false, true] {
            for answers in [false, true] {
                for act in [Act::Refuse, Act::RefuseEarly] {
                    let whole = with_return_path(postcopy, answers);
                    let start = device_state(&whole).start;
                    let stage = Stage::new(net);
                    let (migrated, heard, arrived) = stage.play(
                        act,
                        |stage| {
                            let mut socket = stage.source();
                            socket.send(&whole);
                            socket.hear()
                        },
                        |stage| stage.destination().read_up(),
                    );
                    let ended = ended(migrated);
                    assert!(matches!(ended.outcome, Outcome::Refused), "{ended:?}");
                    let expected = match (act, postcopy, answers) {
                        (Act::RefuseEarly, ..) | (_, false, true) => Whereabouts::SourceGoesOn,
                        (_, true, _) => Whereabouts::SourcePaused,
                        (_, false, false) => Whereabouts::SourceStopped,
                    };
                    assert_eq!(ended.whereabouts, expected);
                    let said = if answers { &FAILED[..] } else { &[] };
                    assert_eq!(heard, said, "{net:?} {postcopy} {act:?}");
                    let event = format!("refused {}", expected.name());
                    assert!(stage.notes.has(&event), "{:?}", stage.notes.lines());
                    if act == Act::Refuse {
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
    let made = crate::common::made::Made {
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
