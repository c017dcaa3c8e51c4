//! Further channels of a migration, and connections that do not belong to a migration.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use cpreg_relay::{ErrorKind, MigrationOutcome, VmLocation};
use cpreg_stream::ErrorKind::Unsupported;

use super::harness::{
    NETS, Net, PolicyAction, RelayHarness, Socket, TEST_TIMEOUT, Watchdog, assert_completed,
    convert_stream, unwrap_result,
};
use crate::common::synthetic::SyntheticStream;

/// First bytes of a multifd channel.
const MULTIFD: &[u8] = b"\x11\x22\x33\x44\0\0\0\x01";

fn whole() -> Vec<u8> {
    SyntheticStream {
        registers: 6,
        ..SyntheticStream::default()
    }
    .bytes()
}

/// Sends a stream and closes the sending direction. Returns the data of the return path.
fn send(mut socket: Socket, bytes: &[u8]) -> Vec<u8> {
    socket.send(bytes);
    socket.half_close();
    socket.read_to_close()
}

/// Exchanges 1.2 MB in each direction over one more channel, without a pattern that would hide a
/// shift.
fn exchange_bytes(mut source: Socket, mut destination: Socket, already_sent: &[u8]) {
    let to_destination: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
    let to_source: Vec<u8> = to_destination.iter().map(|byte| !byte).collect();
    let mut source_writer = source.try_clone();
    thread::scope(|scope| {
        scope.spawn(|| {
            source_writer.write_all(&to_destination).unwrap();
            source_writer.half_close();
        });
        let received = scope.spawn(|| source.read_to_close());
        let mut arrived = destination.read_some(already_sent.len() + to_destination.len());
        assert!(
            arrived
                .drain(..already_sent.len())
                .eq(already_sent.iter().copied())
        );
        assert!(arrived == to_destination);
        // The opposite direction stays open after the end of this one.
        destination.write_all(&to_source).unwrap();
        destination.half_close();
        assert!(received.join().unwrap() == to_source);
        assert!(destination.read_to_close().is_empty());
    });
}

#[test]
fn further_channels_are_forwarded_unparsed() {
    for net in NETS {
        let harness = RelayHarness::new(net);
        let whole = whole();
        let expected = convert_stream(&whole, PolicyAction::Shorten);
        let run_both_sides = |harness: &RelayHarness| {
            let mut early = harness.source();
            early.write_all(MULTIFD).unwrap();
            let mut main = harness.source();
            main.write_all(&whole[..100]).unwrap();
            harness.events.wait_for("connected", 2);
            let mut late = harness.source();
            late.write_all(MULTIFD).unwrap();
            harness.events.wait_for("connected", 3);
            // This channel sends nothing until it is asked, like postcopy-preempt.
            let silent = harness.source();
            harness.events.wait_for("connected", 4);
            // The destination accepts them in the order of arrival, the main channel first.
            let mut main_destination = harness.destination();
            let others = [(early, MULTIFD), (late, MULTIFD), (silent, &[])];
            thread::scope(|scope| {
                for (source, already_sent) in others {
                    let destination = harness.destination();
                    scope.spawn(move || exchange_bytes(source, destination, already_sent));
                }
                scope.spawn(move || assert!(send(main, &whole[100..]).is_empty()));
                let arrived = main_destination.read_to_close();
                drop(main_destination);
                assert!(arrived == expected);
            });
        };
        let (result, (), ()) = harness.run(PolicyAction::Shorten, run_both_sides, |_| ());
        let result = unwrap_result(result);
        assert_completed(&result);
        assert_eq!(result.other_channel_bytes, 3 * 2 * 1_200_000 + 16);
        assert_eq!(harness.events.lines()[0], "connected 1 main");
        assert!(harness.events.has("connected 2 multifd"));
        assert!(harness.events.has("connected 4 other"));
    }
}

/// A side of a further channel dies: the channel's other side notices, and the main channel
/// continues.
#[test]
fn further_channel_dies() {
    for net in NETS {
        for source_dies in [false, true] {
            let harness = RelayHarness::new(net);
            let whole = whole();
            let run_both_sides = |harness: &RelayHarness| {
                let mut main = harness.source();
                main.write_all(&whole[..100]).unwrap();
                harness.events.wait_for("connected", 1);
                let mut main_destination = harness.destination();
                let mut source = harness.source();
                source.write_all(MULTIFD).unwrap();
                let mut destination = harness.destination();
                assert_eq!(destination.read_some(MULTIFD.len()), MULTIFD);
                let (dying, mut remaining) = if source_dies {
                    (source, destination)
                } else {
                    (destination, source)
                };
                dying.reset();
                assert!(remaining.read_to_close().is_empty());
                drop(remaining);
                thread::scope(|scope| {
                    scope.spawn(|| assert!(send(main, &whole[100..]).is_empty()));
                    let arrived = main_destination.read_to_close();
                    drop(main_destination);
                    assert!(arrived == whole);
                });
            };
            let (result, (), ()) = harness.run(PolicyAction::Keep, run_both_sides, |_| ());
            assert_completed(&unwrap_result(result));
        }
    }
}

#[test]
fn second_migration_is_rejected() {
    for magic in [
        &b"QEVM\0\0\0\x03"[..],
        b"\x08\0\0\x09\0\0",
        b"QCPR\0\0\0\x01",
    ] {
        let harness = RelayHarness::new(Net::Unix);
        let whole = whole();
        let (result, (), arrived) = harness.run(
            PolicyAction::Keep,
            |harness| {
                let mut main = harness.source();
                main.write_all(&whole[..100]).unwrap();
                harness.events.wait_for("connected", 1);
                let mut second = harness.source();
                second.write_all(magic).unwrap();
                assert!(second.read_to_close().is_empty());
                send(main, &whole[100..]);
            },
            |harness| {
                let mut main = harness.destination();
                let arrived = main.read_to_close();
                assert!(harness.destination_within(Duration::ZERO).is_none());
                arrived
            },
        );
        assert_completed(&unwrap_result(result));
        assert!(arrived == whole);
        let reason = if magic.starts_with(b"QCPR") {
            "connection-rejected cpr: the channel of cpr-transfer"
        } else {
            "another migration is in progress"
        };
        let lines = harness.events.lines();
        assert!(lines.iter().any(|line| line.contains(reason)), "{lines:?}");
    }
}

/// A channel that cannot be forwarded ends the migration with a hint. The next migration works.
#[test]
fn tls_and_cpr_are_rejected_with_a_hint() {
    for net in NETS {
        let harness = RelayHarness::new(net);
        for (magic, message, hint) in [
            (
                &b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..],
                "TLS",
                "tls-creds",
            ),
            (b"QCPR\0\0\0\x01", "cpr-transfer", "mode `normal`"),
        ] {
            let (result, received, ()) = harness.run(
                PolicyAction::Keep,
                |harness| send(harness.source(), magic),
                |_| (),
            );
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Stream(Unsupported));
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.hint().unwrap().contains(hint), "{error}");
            assert!(received.is_empty());
            assert!(harness.destination_within(Duration::ZERO).is_none());
        }
        let whole = whole();
        let (result, _, arrived) = harness.run(
            PolicyAction::Keep,
            |harness| send(harness.source(), &whole),
            |harness| harness.destination().read_to_close(),
        );
        assert_completed(&unwrap_result(result));
        assert!(arrived == whole);
    }
}

/// Connections that are no migration, or send no data, are rejected. A migration after them is
/// forwarded.
#[test]
fn other_connections_are_rejected() {
    let harness = RelayHarness::new(Net::Tcp);
    let whole = whole();
    let (result, (), arrived) = harness.run(
        PolicyAction::Keep,
        |harness| {
            let mut web = harness.source();
            web.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            assert!(web.read_to_close().is_empty());
            let mut short = harness.source();
            short.write_all(b"QE").unwrap();
            short.half_close();
            assert!(short.read_to_close().is_empty());
            drop(harness.source());
            harness.source().reset();
            let mut silent = harness.source();
            assert!(silent.read_to_close().is_empty());
            send(harness.source(), &whole);
        },
        |harness| harness.destination().read_to_close(),
    );
    assert_completed(&unwrap_result(result));
    assert!(arrived == whole);
    let lines = harness.events.lines();
    let rejected = "connection-rejected other: this is not a QEMU migration";
    assert_eq!(lines[..5], [rejected; 5]);
    assert_eq!(lines[5], "connected 1 main");
}

/// Channels of a migration that ended before its main channel was accepted are not taken for
/// channels of the next migration.
#[test]
fn channels_of_an_earlier_migration_are_not_connected() {
    for net in NETS {
        let harness = RelayHarness::new(net);
        let whole = whole();
        let (result, (), arrived) = harness.run(
            PolicyAction::Keep,
            |harness| {
                for resets in [true, false] {
                    let mut earlier = harness.source();
                    earlier.write_all(MULTIFD).unwrap();
                    if resets {
                        earlier.reset();
                    }
                }
                send(harness.source(), &whole);
            },
            |harness| {
                let arrived = harness.destination().read_to_close();
                assert!(
                    harness
                        .destination_within(Duration::from_millis(50))
                        .is_none()
                );
                arrived
            },
        );
        assert_completed(&unwrap_result(result));
        assert!(arrived == whole);
    }
}

/// A resumed postcopy migration has no header: everything is forwarded without a decision.
#[test]
fn postcopy_recovery_is_forwarded() {
    let magic = b"\x08\0\x02\0\x04\0\0\0\x01";
    for net in NETS {
        let harness = RelayHarness::new(net);
        let run_both_sides = |harness: &RelayHarness| {
            let mut source = harness.source();
            source.write_all(magic).unwrap();
            let destination = harness.destination();
            exchange_bytes(source, destination, magic);
        };
        // The policy is not called.
        let (result, (), ()) = harness.run(PolicyAction::RefuseEarly, run_both_sides, |_| ());
        let result = unwrap_result(result);
        assert!(
            matches!(result.outcome, MigrationOutcome::Recovered),
            "{result:?}"
        );
        assert_eq!(
            result.main_channel_bytes,
            2 * 1_200_000 + magic.len() as u64
        );
        assert_eq!(harness.events.lines(), ["connected 1 postcopy-recovery"]);

        for source_dies in [false, true] {
            let harness = RelayHarness::new(net);
            let run_both_sides = |harness: &RelayHarness| {
                let mut source = harness.source();
                source.write_all(magic).unwrap();
                let mut destination = harness.destination();
                assert_eq!(destination.read_some(magic.len()), magic);
                destination.write_all(magic).unwrap();
                let (dying, mut remaining) = if source_dies {
                    (source, destination)
                } else {
                    (destination, source)
                };
                dying.reset();
                remaining.read_to_close();
            };
            let (result, (), ()) = harness.run(PolicyAction::Keep, run_both_sides, |_| ());
            assert_ne!(unwrap_vm_location(result), VmLocation::SourceRunning);
        }
    }
}

fn unwrap_vm_location(result: super::harness::ServeResult) -> VmLocation {
    unwrap_result(result).vm_location
}

/// Without a listener at the destination, the source's connection is closed at once.
#[test]
fn missing_destination() {
    let _watchdog = Watchdog::new();
    let start = std::time::Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let (harness, whole) = (RelayHarness::without_destination(directory.path()), whole());
    let (result, received, ()) = harness.run(
        PolicyAction::Keep,
        |harness| send(harness.source(), &whole),
        |_| (),
    );
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.hint().unwrap().contains("-incoming"), "{error}");
    assert!(received.is_empty() && start.elapsed() < TEST_TIMEOUT);
}
