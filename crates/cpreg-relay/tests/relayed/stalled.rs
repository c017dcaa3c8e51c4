//! A side that stands still, and somebody who does not want to wait any longer: Ctrl-C.

use std::io::Write as _;
use std::time::{Duration, Instant};

use cpreg_relay::{MigrationOutcome, VmLocation};

use crate::common::synthetic::SyntheticStream;
use crate::harness::{
    NETS, Net, PolicyAction, RelayHarness, TEST_TIMEOUT, assert_no_stream, convert_stream,
    device_state_range, unwrap_result,
};
use crate::identity::with_return_path;

/// More than any socket holds.
fn long_stream() -> Vec<u8> {
    SyntheticStream {
        registers: 6,
        pages: 4000,
        ..SyntheticStream::default()
    }
    .bytes()
}

#[test]
fn nobody_comes_and_ctrl_c() {
    let stage = RelayHarness::new(Net::Unix);
    let (migrated, (), ()) = stage.run(PolicyAction::Keep, |stage| stage.user.cancel(), |_| ());
    assert!(migrated.unwrap().is_none());
}

#[test]
fn a_destination_that_reads_nothing_and_ctrl_c() {
    let whole = long_stream();
    for net in NETS {
        let stage = RelayHarness::new(net);
        let (migrated, ended_at, arrived) = stage.run(
            PolicyAction::Keep,
            |stage| {
                let mut socket = stage.source();
                assert!(!socket.send(&whole), "where did all of it go?");
                socket.read_return_path();
                Instant::now()
            },
            |stage| {
                let mut socket = stage.destination();
                stage.events.wait_for("phase ram", 1);
                std::thread::sleep(Duration::from_millis(100));
                let asked = Instant::now();
                stage.user.cancel();
                (asked, socket.read_to_close())
            },
        );
        let ended = unwrap_result(migrated);
        assert!(
            matches!(ended.outcome, MigrationOutcome::Cancelled),
            "{ended:?}"
        );
        assert_eq!(ended.vm_location, VmLocation::SourceRunning);
        assert!(ended_at.duration_since(arrived.0) < TEST_TIMEOUT);
        assert_no_stream(&arrived.1, "it was ended");
        assert!(whole.starts_with(&arrived.1));
    }
}

/// A source that stands still anywhere is waited for; Ctrl-C ends that, and says where the VM is.
#[test]
fn a_source_that_stands_still_and_ctrl_c() {
    for answers in [false, true] {
        for postcopy in [false, true] {
            let whole = with_return_path(postcopy, answers);
            let held = device_state_range(&whole);
            for (at, phase) in [
                (20, "connected 1 main"),
                (held.start / 2, "phase ram"),
                (held.start + 12, "phase device-state"),
                (held.start + 400, "phase device-state"),
            ] {
                let stage = RelayHarness::new(NETS[at % 2]);
                let (migrated, _, arrived) = stage.run(
                    PolicyAction::Keep,
                    |stage| {
                        let mut socket = stage.source();
                        socket.send(&whole[..at]);
                        stage.events.wait_for(phase, 1);
                        std::thread::sleep(Duration::from_millis(10));
                        stage.user.cancel();
                        socket.read_return_path()
                    },
                    |stage| stage.destination().read_to_close(),
                );
                let ended = unwrap_result(migrated);
                assert!(
                    matches!(ended.outcome, MigrationOutcome::Cancelled),
                    "{ended:?}"
                );
                let expected = match (at > held.start, postcopy, answers) {
                    (true, true, _) => VmLocation::SourcePostcopyPaused,
                    (true, false, false) => VmLocation::SourceStopped,
                    _ => VmLocation::SourceRunning,
                };
                assert_eq!(ended.vm_location, expected, "{postcopy} {answers} {phase}");
                assert_no_stream(&arrived, "it was ended");
            }
        }
    }
}

/// Behind the device state it is too late to end it: it goes on to its end.
#[test]
fn ctrl_c_that_comes_too_late() {
    let whole = with_return_path(true, true);
    let expected = convert_stream(&whole, PolicyAction::Shorten);
    let held = device_state_range(&whole);
    for net in NETS {
        let stage = RelayHarness::new(net);
        let (migrated, _, arrived) = stage.run(
            PolicyAction::Shorten,
            |stage| {
                let mut socket = stage.source();
                socket.send(&whole[..held.end]);
                stage.events.wait_for("device-state-sent", 1);
                stage.user.cancel();
                std::thread::sleep(Duration::from_millis(20));
                socket.send(&whole[held.end..]);
                let heard = socket.read_return_path();
                socket.half_close();
                heard
            },
            |stage| {
                let mut socket = stage.destination();
                let arrived = socket.read_some(expected.len());
                socket.write_all(b"\0\x01\0\x04\0\0\0\0").unwrap();
                arrived
            },
        );
        let ended = unwrap_result(migrated);
        assert!(
            matches!(ended.outcome, MigrationOutcome::Completed),
            "{ended:?}"
        );
        assert_eq!(ended.vm_location, VmLocation::Destination);
        assert!(arrived == expected);
    }
}

/// A source that takes no answers still gets its VM away, and a refusal of it comes to an end.
#[test]
fn a_source_that_takes_no_answers() {
    // More than any socket holds, of PONG 1.
    let answers = b"\0\x02\0\x04\0\0\0\x01".repeat(3 << 20);
    let whole = with_return_path(false, true);
    let start = device_state_range(&whole).start;
    for net in NETS {
        for act in [PolicyAction::Keep, PolicyAction::Refuse] {
            let stage = RelayHarness::new(net);
            let begin = Instant::now();
            let (migrated, (), arrived) = stage.run(
                act,
                |stage| {
                    let mut socket = stage.source();
                    let (one, other) = whole.split_at(start / 2);
                    socket.send(one);
                    stage.events.wait_for("phase ram", 1);
                    // The way back is full now.
                    std::thread::sleep(Duration::from_millis(50));
                    socket.send(other);
                    if act == PolicyAction::Keep {
                        stage.events.wait_for("device-state-sent", 1);
                    } else {
                        stage.events.wait_for("device-state-received", 1);
                        std::thread::sleep(Duration::from_secs(1));
                    }
                },
                |stage| {
                    let mut socket = stage.destination();
                    let mut mouth = socket.try_clone();
                    std::thread::scope(|scope| {
                        scope.spawn(|| mouth.send(&answers));
                        socket.read_to_close()
                    })
                },
            );
            let ended = unwrap_result(migrated);
            if act == PolicyAction::Keep {
                assert!(arrived == whole, "{ended:?}");
                // Its answers cannot be passed on any more.
                assert_eq!(ended.vm_location, VmLocation::Unknown, "{ended:?}");
            } else {
                assert!(
                    matches!(ended.outcome, MigrationOutcome::Refused),
                    "{ended:?}"
                );
                assert_eq!(ended.vm_location, VmLocation::SourceRunning);
                assert!(arrived == whole[..start]);
            }
            assert!(begin.elapsed() < TEST_TIMEOUT);
        }
    }
}
