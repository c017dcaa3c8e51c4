//! A side that stalls, and a user who cancels: Ctrl-C.

use std::io::Write as _;
use std::time::{Duration, Instant};

use cpreg_relay::{MigrationOutcome, VmLocation};

use super::harness::{
    NETS, Net, PolicyAction, RelayHarness, TEST_TIMEOUT, assert_no_stream, convert_stream,
    device_state_range, unwrap_result,
};
use super::identity::with_return_path;
use crate::common::synthetic::SyntheticStream;

/// Returns a stream larger than any socket buffer.
fn long_stream() -> Vec<u8> {
    SyntheticStream {
        registers: 6,
        pages: 4000,
        ..SyntheticStream::default()
    }
    .bytes()
}

#[test]
fn cancel_before_any_connection() {
    let harness = RelayHarness::new(Net::Unix);
    let (result, (), ()) = harness.run(PolicyAction::Keep, |harness| harness.user.cancel(), |_| ());
    assert!(result.unwrap().is_none());
}

#[test]
fn cancel_with_a_stalled_destination() {
    let whole = long_stream();
    for net in NETS {
        let harness = RelayHarness::new(net);
        let (result, ended_at, arrived) = harness.run(
            PolicyAction::Keep,
            |harness| {
                let mut socket = harness.source();
                assert!(!socket.send(&whole), "the relay buffered the whole stream");
                socket.read_return_path();
                Instant::now()
            },
            |harness| {
                let mut socket = harness.destination();
                harness.events.wait_for("phase ram", 1);
                std::thread::sleep(Duration::from_millis(100));
                let cancelled_at = Instant::now();
                harness.user.cancel();
                (cancelled_at, socket.read_to_close())
            },
        );
        let result = unwrap_result(result);
        assert!(
            matches!(result.outcome, MigrationOutcome::Cancelled),
            "{result:?}"
        );
        assert_eq!(result.vm_location, VmLocation::SourceRunning);
        assert!(ended_at.duration_since(arrived.0) < TEST_TIMEOUT);
        assert_no_stream(&arrived.1, "it was cancelled");
        assert!(whole.starts_with(&arrived.1));
    }
}

/// A source may stall anywhere without a timeout. Ctrl-C ends the migration and reports the
/// location of the VM.
#[test]
fn cancel_with_a_stalled_source() {
    for has_return_path in [false, true] {
        for postcopy in [false, true] {
            let whole = with_return_path(postcopy, has_return_path);
            let device_state = device_state_range(&whole);
            for (offset, phase) in [
                (20, "connected 1 main"),
                (device_state.start / 2, "phase ram"),
                (device_state.start + 12, "phase device-state"),
                (device_state.start + 400, "phase device-state"),
            ] {
                let harness = RelayHarness::new(NETS[offset % 2]);
                let (result, _, arrived) = harness.run(
                    PolicyAction::Keep,
                    |harness| {
                        let mut socket = harness.source();
                        socket.send(&whole[..offset]);
                        harness.events.wait_for(phase, 1);
                        std::thread::sleep(Duration::from_millis(10));
                        harness.user.cancel();
                        socket.read_return_path()
                    },
                    |harness| harness.destination().read_to_close(),
                );
                let result = unwrap_result(result);
                assert!(
                    matches!(result.outcome, MigrationOutcome::Cancelled),
                    "{result:?}"
                );
                let expected = match (offset > device_state.start, postcopy, has_return_path) {
                    (true, true, _) => VmLocation::SourcePostcopyPaused,
                    (true, false, false) => VmLocation::SourceStopped,
                    _ => VmLocation::SourceRunning,
                };
                assert_eq!(
                    result.vm_location, expected,
                    "{postcopy} {has_return_path} {phase}"
                );
                assert_no_stream(&arrived, "it was cancelled");
            }
        }
    }
}

/// After the device state, a cancel is too late: the migration continues to its end.
#[test]
fn late_cancel_is_ignored() {
    let whole = with_return_path(true, true);
    let expected = convert_stream(&whole, PolicyAction::Shorten);
    let device_state = device_state_range(&whole);
    for net in NETS {
        let harness = RelayHarness::new(net);
        let (result, _, arrived) = harness.run(
            PolicyAction::Shorten,
            |harness| {
                let mut socket = harness.source();
                socket.send(&whole[..device_state.end]);
                harness.events.wait_for("device-state-sent", 1);
                harness.user.cancel();
                std::thread::sleep(Duration::from_millis(20));
                socket.send(&whole[device_state.end..]);
                let received = socket.read_return_path();
                socket.half_close();
                received
            },
            |harness| {
                let mut socket = harness.destination();
                let arrived = socket.read_some(expected.len());
                socket.write_all(b"\0\x01\0\x04\0\0\0\0").unwrap();
                arrived
            },
        );
        let result = unwrap_result(result);
        assert!(
            matches!(result.outcome, MigrationOutcome::Completed),
            "{result:?}"
        );
        assert_eq!(result.vm_location, VmLocation::Destination);
        assert!(arrived == expected);
    }
}

/// The migration ends even if the source does not read the return path: with the VM at the
/// destination, or with a rejection.
#[test]
fn source_does_not_read_the_return_path() {
    // PONG 1, more than any socket buffer.
    let messages = b"\0\x02\0\x04\0\0\0\x01".repeat(3 << 20);
    let whole = with_return_path(false, true);
    let start = device_state_range(&whole).start;
    for net in NETS {
        for action in [PolicyAction::Keep, PolicyAction::Refuse] {
            let harness = RelayHarness::new(net);
            let start_time = Instant::now();
            let (result, (), arrived) = harness.run(
                action,
                |harness| {
                    let mut socket = harness.source();
                    let (first, second) = whole.split_at(start / 2);
                    socket.send(first);
                    harness.events.wait_for("phase ram", 1);
                    // The buffers of the return path are full now.
                    std::thread::sleep(Duration::from_millis(50));
                    socket.send(second);
                    if action == PolicyAction::Keep {
                        harness.events.wait_for("device-state-sent", 1);
                    } else {
                        harness.events.wait_for("device-state-received", 1);
                        std::thread::sleep(Duration::from_secs(1));
                    }
                },
                |harness| {
                    let mut socket = harness.destination();
                    let mut writer = socket.try_clone();
                    std::thread::scope(|scope| {
                        scope.spawn(|| writer.send(&messages));
                        socket.read_to_close()
                    })
                },
            );
            let result = unwrap_result(result);
            if action == PolicyAction::Keep {
                assert!(arrived == whole, "{result:?}");
                // The relay cannot forward the SHUT any more.
                assert_eq!(result.vm_location, VmLocation::Unknown, "{result:?}");
            } else {
                assert!(
                    matches!(result.outcome, MigrationOutcome::Refused),
                    "{result:?}"
                );
                assert_eq!(result.vm_location, VmLocation::SourceRunning);
                assert!(arrived == whole[..start]);
            }
            assert!(start_time.elapsed() < TEST_TIMEOUT);
        }
    }
}
