//! Migrations at the same time, further channels, and refusals.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use cpreg_relay::{MigrationOutcome, VmLocation};

use super::harness::ServerHarness;
use crate::common::synthetic::SyntheticStream;
use crate::relayed::harness::{PolicyAction, SHUT_ERROR, assert_completed, convert_stream};
use crate::relayed::identity::with_return_path;

/// First bytes of a multifd channel.
pub(super) const MULTIFD: &[u8] = b"\x11\x22\x33\x44\0\0\0\x01";

pub(super) fn whole(registers: usize) -> Vec<u8> {
    SyntheticStream {
        registers: registers.try_into().unwrap(),
        ..SyntheticStream::default()
    }
    .bytes()
}

pub(super) fn read_to_end(mut socket: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    socket.read_to_end(&mut all).unwrap();
    all
}

/// Migrates through the server, like a source and a destination without a return path.
pub(super) fn migrate(harness: &ServerHarness, number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut source = harness.source(number);
    source.write_all(bytes).unwrap();
    source.shutdown(Shutdown::Write).unwrap();
    let destination = harness.destination(number);
    let arrived = read_to_end(&destination);
    drop(destination);
    assert!(read_to_end(&source).is_empty());
    arrived
}

#[test]
fn migrations_at_the_same_time() {
    const COUNT: u8 = 16;
    let harness = ServerHarness::new(COUNT, PolicyAction::Shorten);
    harness.run(|harness| {
        // Every migration has begun before the first one ends.
        let streams: Vec<_> = (1..=COUNT)
            .map(|number| whole(3 + usize::from(number)))
            .collect();
        let mut mains = Vec::new();
        for (number, stream) in (1..=COUNT).zip(&streams) {
            let mut main = harness.source(number);
            main.write_all(&stream[..100]).unwrap();
            mains.push((main, harness.destination(number)));
        }
        // Two further channels each; the second is silent, like postcopy-preempt.
        let mut others = Vec::new();
        for number in 1..=COUNT {
            let mut multifd = harness.source(number);
            multifd.write_all(MULTIFD).unwrap();
            let destination = harness.destination(number);
            others.push((multifd, destination, MULTIFD.len()));
            let silent = harness.source(number);
            others.push((silent, harness.destination(number), 0));
        }
        for (mut source, mut destination, sent) in others {
            destination.write_all(b"page request").unwrap();
            source.write_all(b"page").unwrap();
            source.shutdown(Shutdown::Write).unwrap();
            destination.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&source), b"page request");
            assert_eq!(&read_to_end(&destination)[sent..], b"page");
        }
        for ((mut source, destination), stream) in mains.into_iter().zip(&streams) {
            source.write_all(&stream[100..]).unwrap();
            source.shutdown(Shutdown::Write).unwrap();
            assert!(read_to_end(&destination) == convert_stream(stream, PolicyAction::Shorten));
            drop(destination);
            assert!(read_to_end(&source).is_empty());
        }
        let results = harness.handler.wait_for_results(COUNT.into());
        for (_, result) in &results {
            assert_completed(result);
            assert_eq!(result.other_channel_bytes, 8 + 2 * (12 + 4));
        }
    });
}

/// Sources before QEMU 7.2 connect a multifd channel first.
#[test]
fn a_multifd_channel_waits_for_its_main_channel() {
    let harness = ServerHarness::new(2, PolicyAction::Keep);
    harness.run(|harness| {
        let mut multifd = harness.source(2);
        multifd.write_all(MULTIFD).unwrap();
        // A migration to another address does not take the channel.
        let whole = whole(4);
        assert!(migrate(harness, 1, &whole) == whole);
        let mut main = harness.source(2);
        main.write_all(&whole).unwrap();
        main.shutdown(Shutdown::Write).unwrap();
        let destination = harness.destination(2);
        let mut multifd_destination = harness.destination(2);
        let mut first = [0; 8];
        multifd_destination.read_exact(&mut first).unwrap();
        assert_eq!(first, MULTIFD);
        assert!(read_to_end(&destination) == whole);
        drop((multifd, multifd_destination, destination));
        for (_, result) in harness.handler.wait_for_results(2) {
            assert_completed(&result);
        }
    });
}

/// QEMU 9.0 and later send the first byte of the main channel after all multifd channels are
/// connected, and a busy source sends the first bytes of these late.
#[test]
fn late_channels_are_connected_once_and_in_order() {
    let harness = ServerHarness::new(1, PolicyAction::Keep)
        .with_timeouts(|timeouts| timeouts.client_first = Duration::from_millis(20));
    harness.run(|harness| {
        let whole = whole(4);
        let mut main = harness.source(1);
        let mut destination = harness.destination(1);
        let mut multifd = harness.source(1);
        // Several times the time after which the relay listens to the server.
        thread::sleep(Duration::from_millis(200));
        multifd.write_all(MULTIFD).unwrap();
        main.write_all(&whole[..100]).unwrap();
        let mut first = [0; 4];
        destination.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"QEVM");
        let mut multifd_destination = harness.destination(1);
        let mut first = [0; 8];
        multifd_destination.read_exact(&mut first).unwrap();
        assert_eq!(first, MULTIFD);
        drop((multifd, multifd_destination));
        main.write_all(&whole[100..]).unwrap();
        main.shutdown(Shutdown::Write).unwrap();
        assert!(read_to_end(&destination) == whole[4..]);
        drop(destination);
        assert_completed(&harness.handler.wait_for_results(1)[0].1);
        harness.assert_no_further_connection(1);
    });
}

#[test]
fn a_multifd_channel_without_a_main_channel_is_closed() {
    let harness = ServerHarness::new(1, PolicyAction::Keep)
        .with_timeouts(|timeouts| timeouts.session = Duration::from_millis(50));
    harness.run(|harness| {
        let mut multifd = harness.source(1);
        multifd.write_all(MULTIFD).unwrap();
        harness
            .handler
            .wait_for("rejected multifd: no main channel", 1);
        assert!(read_to_end_or_reset(&multifd).is_empty());
    });
}

pub(super) fn read_to_end_or_reset(mut socket: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match socket.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    all
}

#[test]
fn a_refusal_leaves_the_vm_at_the_source_and_the_next_migration_begins_at_once() {
    let harness = ServerHarness::new(1, PolicyAction::Refuse);
    harness.run(|harness| {
        let whole = with_return_path(false, true);
        for _ in 0..2 {
            let mut source = harness.source(1);
            source.write_all(&whole).unwrap();
            let mut destination = harness.destination(1);
            let mut answer = [0; SHUT_ERROR.len()];
            source.read_exact(&mut answer).unwrap();
            assert_eq!(answer, SHUT_ERROR);
            drop(source);
            let mut arrived = Vec::new();
            let _ = destination.read_to_end(&mut arrived);
            assert!(arrived.len() < whole.len());
            drop(destination);
            let results = harness.handler.wait_for_results(1);
            let [(_, result)] = &results[..] else {
                panic!("{results:?}");
            };
            assert!(matches!(result.outcome, MigrationOutcome::Refused));
            assert_eq!(result.vm_location, VmLocation::SourceRunning);
        }
    });
}

/// A source that sends the beginning of a stream and nothing more holds neither the server nor the
/// address.
#[test]
fn an_unfinished_beginning_ends_with_its_timeout() {
    let harness = ServerHarness::new(2, PolicyAction::Keep)
        .with_timeouts(|timeouts| timeouts.setup = Duration::from_millis(300));
    harness.run(|harness| {
        let mut stalled = harness.source(1);
        stalled.write_all(b"QEVM").unwrap();
        let stalled_destination = harness.destination(1);
        thread::scope(|scope| {
            scope.spawn(|| {
                // Another address is not concerned.
                let whole = whole(4);
                assert!(migrate(harness, 2, &whole) == whole);
            });
            scope.spawn(|| {
                // The same address is free after the timeout.
                let whole = whole(5);
                assert!(migrate(harness, 1, &whole) == whole);
            });
            let _ = read_to_end_or_reset(&stalled_destination);
            drop(stalled_destination);
            assert!(read_to_end_or_reset(&stalled).is_empty());
        });
        let results = harness.handler.wait_for_results(3);
        let failed = results.iter().filter(|(_, result)| {
            matches!(&result.outcome, MigrationOutcome::Failed(error)
                if error.message().contains("sends nothing"))
        });
        assert_eq!(failed.count(), 1, "{results:?}");
    });
}
