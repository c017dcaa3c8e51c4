//! Further connections of a migration, and those that have no place in one.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use cpreg_relay::{ErrorKind, MigrationOutcome, VmLocation};
use cpreg_stream::ErrorKind::Unsupported;

use crate::common::synthetic::SyntheticStream;
use crate::harness::{
    NETS, Net, PolicyAction, RelayHarness, Socket, TEST_TIMEOUT, Watch, assert_completed,
    convert_stream, unwrap_result,
};

/// The first bytes of a multifd channel.
const MULTIFD: &[u8] = b"\x11\x22\x33\x44\0\0\0\x01";

fn whole() -> Vec<u8> {
    SyntheticStream {
        registers: 6,
        ..SyntheticStream::default()
    }
    .bytes()
}

/// Sends a stream and closes; gives what was answered.
fn send(mut socket: Socket, bytes: &[u8]) -> Vec<u8> {
    socket.send(bytes);
    socket.half_close();
    socket.read_to_close()
}

/// Some megabytes without a pattern that a shift would not show, both ways over one more channel.
fn exchange_bytes(mut one: Socket, mut other: Socket, begun: &[u8]) {
    let there: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
    let back: Vec<u8> = there.iter().map(|byte| !byte).collect();
    let mut mouth = one.try_clone();
    thread::scope(|scope| {
        scope.spawn(|| {
            mouth.write_all(&there).unwrap();
            mouth.half_close();
        });
        let heard = scope.spawn(|| one.read_to_close());
        let mut arrived = other.read_some(begun.len() + there.len());
        assert!(arrived.drain(..begun.len()).eq(begun.iter().copied()));
        assert!(arrived == there);
        // Its own direction is still open behind the end of the other.
        other.write_all(&back).unwrap();
        other.half_close();
        assert!(heard.join().unwrap() == back);
        assert!(other.read_to_close().is_empty());
    });
}

#[test]
fn channels_beside_the_main_one_are_carried_unseen() {
    for net in NETS {
        let stage = RelayHarness::new(net);
        let whole = whole();
        let expected = convert_stream(&whole, PolicyAction::Shorten);
        let both = |stage: &RelayHarness| {
            let mut early = stage.source();
            early.write_all(MULTIFD).unwrap();
            let mut main = stage.source();
            main.write_all(&whole[..100]).unwrap();
            stage.events.wait_for("connected", 2);
            let mut late = stage.source();
            late.write_all(MULTIFD).unwrap();
            stage.events.wait_for("connected", 3);
            // It says nothing before it is asked, as postcopy-preempt.
            let silent = stage.source();
            stage.events.wait_for("connected", 4);
            // The destination gets them in the order in which they came, the main one before all.
            let mut there = stage.destination();
            let others = [(early, MULTIFD), (late, MULTIFD), (silent, &[])];
            thread::scope(|scope| {
                for (one, begun) in others {
                    let other = stage.destination();
                    scope.spawn(move || exchange_bytes(one, other, begun));
                }
                scope.spawn(move || assert!(send(main, &whole[100..]).is_empty()));
                let arrived = there.read_to_close();
                drop(there);
                assert!(arrived == expected);
            });
        };
        let (migrated, (), ()) = stage.run(PolicyAction::Shorten, both, |_| ());
        let ended = unwrap_result(migrated);
        assert_completed(&ended);
        assert_eq!(ended.other_channel_bytes, 3 * 2 * 1_200_000 + 16);
        assert_eq!(stage.events.lines()[0], "connected 1 main");
        assert!(stage.events.has("connected 2 multifd"));
        assert!(stage.events.has("connected 4 other"));
    }
}

/// Where one side of another channel dies, the other side of it sees it, and the main one goes on.
#[test]
fn another_channel_that_dies() {
    for net in NETS {
        for source_dies in [false, true] {
            let stage = RelayHarness::new(net);
            let whole = whole();
            let both = |stage: &RelayHarness| {
                let mut main = stage.source();
                main.write_all(&whole[..100]).unwrap();
                stage.events.wait_for("connected", 1);
                let mut there = stage.destination();
                let mut one = stage.source();
                one.write_all(MULTIFD).unwrap();
                let mut other = stage.destination();
                assert_eq!(other.read_some(MULTIFD.len()), MULTIFD);
                let (dies, mut stays) = if source_dies {
                    (one, other)
                } else {
                    (other, one)
                };
                dies.reset();
                assert!(stays.read_to_close().is_empty());
                drop(stays);
                thread::scope(|scope| {
                    scope.spawn(|| assert!(send(main, &whole[100..]).is_empty()));
                    let arrived = there.read_to_close();
                    drop(there);
                    assert!(arrived == whole);
                });
            };
            let (migrated, (), ()) = stage.run(PolicyAction::Keep, both, |_| ());
            assert_completed(&unwrap_result(migrated));
        }
    }
}

#[test]
fn a_second_migration_has_to_wait() {
    for begun in [
        &b"QEVM\0\0\0\x03"[..],
        b"\x08\0\0\x09\0\0",
        b"QCPR\0\0\0\x01",
    ] {
        let stage = RelayHarness::new(Net::Unix);
        let whole = whole();
        let (migrated, (), arrived) = stage.run(
            PolicyAction::Keep,
            |stage| {
                let mut main = stage.source();
                main.write_all(&whole[..100]).unwrap();
                stage.events.wait_for("connected", 1);
                let mut second = stage.source();
                second.write_all(begun).unwrap();
                assert!(second.read_to_close().is_empty());
                send(main, &whole[100..]);
            },
            |stage| {
                let mut main = stage.destination();
                let arrived = main.read_to_close();
                assert!(stage.destination_within(Duration::ZERO).is_none());
                arrived
            },
        );
        assert_completed(&unwrap_result(migrated));
        assert!(arrived == whole);
        let why = if begun.starts_with(b"QCPR") {
            "connection-rejected cpr: the channel of cpr-transfer"
        } else {
            "another migration is under way"
        };
        let lines = stage.events.lines();
        assert!(lines.iter().any(|line| line.contains(why)), "{lines:?}");
    }
}

/// What cannot be carried ends this attempt with advice; the next one works.
#[test]
fn what_is_encrypted_or_of_one_machine_is_refused_with_advice() {
    for net in NETS {
        let stage = RelayHarness::new(net);
        for (begun, what, advice) in [
            (
                &b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..],
                "TLS",
                "tls-creds",
            ),
            (b"QCPR\0\0\0\x01", "cpr-transfer", "mode `normal`"),
        ] {
            let (migrated, heard, ()) = stage.run(
                PolicyAction::Keep,
                |stage| send(stage.source(), begun),
                |_| (),
            );
            let error = migrated.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Stream(Unsupported));
            assert!(error.to_string().contains(what), "{error}");
            assert!(error.hint().unwrap().contains(advice), "{error}");
            assert!(heard.is_empty());
            assert!(stage.destination_within(Duration::ZERO).is_none());
        }
        let whole = whole();
        let (migrated, _, arrived) = stage.run(
            PolicyAction::Keep,
            |stage| send(stage.source(), &whole),
            |stage| stage.destination().read_to_close(),
        );
        assert_completed(&unwrap_result(migrated));
        assert!(arrived == whole);
    }
}

/// Whoever knocks by mistake, or says nothing at all, is turned away, and who comes next is carried.
#[test]
fn strangers_are_turned_away() {
    let stage = RelayHarness::new(Net::Tcp);
    let whole = whole();
    let (migrated, (), arrived) = stage.run(
        PolicyAction::Keep,
        |stage| {
            let mut web = stage.source();
            web.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            assert!(web.read_to_close().is_empty());
            let mut short = stage.source();
            short.write_all(b"QE").unwrap();
            short.half_close();
            assert!(short.read_to_close().is_empty());
            drop(stage.source());
            stage.source().reset();
            let mut silent = stage.source();
            assert!(silent.read_to_close().is_empty());
            send(stage.source(), &whole);
        },
        |stage| stage.destination().read_to_close(),
    );
    assert_completed(&unwrap_result(migrated));
    assert!(arrived == whole);
    let lines = stage.events.lines();
    let away = "connection-rejected other: this is not a QEMU migration";
    assert_eq!(lines[..5], [away; 5]);
    assert_eq!(lines[5], "connected 1 main");
}

/// Channels of a migration that has ended before its main one was taken are no channels of the next.
#[test]
fn channels_of_the_past_are_not_connected() {
    for net in NETS {
        let stage = RelayHarness::new(net);
        let whole = whole();
        let (migrated, (), arrived) = stage.run(
            PolicyAction::Keep,
            |stage| {
                for dies in [true, false] {
                    let mut past = stage.source();
                    past.write_all(MULTIFD).unwrap();
                    if dies {
                        past.reset();
                    }
                }
                send(stage.source(), &whole);
            },
            |stage| {
                let arrived = stage.destination().read_to_close();
                assert!(
                    stage
                        .destination_within(Duration::from_millis(50))
                        .is_none()
                );
                arrived
            },
        );
        assert_completed(&unwrap_result(migrated));
        assert!(arrived == whole);
    }
}

/// An interrupted postcopy migration goes on without header: nothing is decided, and everything is carried.
#[test]
fn a_recovered_channel_is_carried() {
    let begun = b"\x08\0\x02\0\x04\0\0\0\x01";
    for net in NETS {
        let stage = RelayHarness::new(net);
        let both = |stage: &RelayHarness| {
            let mut one = stage.source();
            one.write_all(begun).unwrap();
            let other = stage.destination();
            exchange_bytes(one, other, begun);
        };
        // Whoever decides is not asked.
        let (migrated, (), ()) = stage.run(PolicyAction::RefuseEarly, both, |_| ());
        let ended = unwrap_result(migrated);
        assert!(
            matches!(ended.outcome, MigrationOutcome::Recovered),
            "{ended:?}"
        );
        assert_eq!(ended.main_channel_bytes, 2 * 1_200_000 + begun.len() as u64);
        assert_eq!(stage.events.lines(), ["connected 1 postcopy-recovery"]);

        for source_dies in [false, true] {
            let stage = RelayHarness::new(net);
            let both = |stage: &RelayHarness| {
                let mut one = stage.source();
                one.write_all(begun).unwrap();
                let mut other = stage.destination();
                assert_eq!(other.read_some(begun.len()), begun);
                other.write_all(begun).unwrap();
                let (dies, mut stays) = if source_dies {
                    (one, other)
                } else {
                    (other, one)
                };
                dies.reset();
                stays.read_to_close();
            };
            let (migrated, (), ()) = stage.run(PolicyAction::Keep, both, |_| ());
            assert_ne!(unwrap_vm_location(migrated), VmLocation::SourceRunning);
        }
    }
}

fn unwrap_vm_location(migrated: crate::harness::ServeResult) -> VmLocation {
    unwrap_result(migrated).vm_location
}

/// Nobody waits at the destination: the source is told at once.
#[test]
fn a_destination_that_is_not_there() {
    let _watch = Watch::new();
    let begin = std::time::Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let (stage, whole) = (RelayHarness::without_destination(folder.path()), whole());
    let (migrated, heard, ()) = stage.run(
        PolicyAction::Keep,
        |stage| send(stage.source(), &whole),
        |_| (),
    );
    let error = migrated.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.hint().unwrap().contains("-incoming"), "{error}");
    assert!(heard.is_empty() && begin.elapsed() < TEST_TIMEOUT);
}
