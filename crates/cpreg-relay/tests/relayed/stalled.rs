//! A side that stands still, and somebody who does not want to wait any longer: Ctrl-C.

use std::io::Write as _;
use std::time::{Duration, Instant};

use cpreg_relay::{Outcome, Whereabouts};

use crate::common::made::Made;
use crate::identity::with_return_path;
use crate::play::{Act, LONG, NETS, Net, Stage, converted, device_state, ended, is_no_stream};

/// More than any socket holds.
fn long() -> Vec<u8> {
    Made {
        registers: 6,
        pages: 4000,
        ..Made::default()
    }
    .bytes()
}

#[test]
fn nobody_comes_and_ctrl_c() {
    let stage = Stage::new(Net::Unix);
    let (migrated, (), ()) = stage.play(Act::Keep, |stage| stage.user.cancel(), |_| ());
    assert!(migrated.unwrap().is_none());
}

#[test]
fn a_destination_that_reads_nothing_and_ctrl_c() {
    let whole = long();
    for net in NETS {
        let stage = Stage::new(net);
        let (migrated, ended_at, arrived) = stage.play(
            Act::Keep,
            |stage| {
                let mut socket = stage.source();
                assert!(!socket.send(&whole), "where did all of it go?");
                socket.hear();
                Instant::now()
            },
            |stage| {
                let mut socket = stage.destination();
                stage.notes.wait_for("phase ram", 1);
                std::thread::sleep(Duration::from_millis(100));
                let asked = Instant::now();
                stage.user.cancel();
                (asked, socket.read_up())
            },
        );
        let ended = ended(migrated);
        assert!(matches!(ended.outcome, Outcome::Cancelled), "{ended:?}");
        assert_eq!(ended.whereabouts, Whereabouts::SourceGoesOn);
        assert!(ended_at.duration_since(arrived.0) < LONG);
        is_no_stream(&arrived.1, "it was ended");
        assert!(whole.starts_with(&arrived.1));
    }
}

/// A source that stands still anywhere is waited for; Ctrl-C ends that, and says where the VM is.
#[test]
fn a_source_that_stands_still_and_ctrl_c() {
    for answers in [false, true] {
        for postcopy in [false, true] {
            let whole = with_return_path(postcopy, answers);
            let held = device_state(&whole);
            for (at, phase) in [
                (20, "connected 1 main"),
                (held.start / 2, "phase ram"),
                (held.start + 12, "phase device-state"),
                (held.start + 400, "phase device-state"),
            ] {
                let stage = Stage::new(NETS[at % 2]);
                let (migrated, _, arrived) = stage.play(
                    Act::Keep,
                    |stage| {
                        let mut socket = stage.source();
                        socket.send(&whole[..at]);
                        stage.notes.wait_for(phase, 1);
                        std::thread::sleep(Duration::from_millis(10));
                        stage.user.cancel();
                        socket.hear()
                    },
                    |stage| stage.destination().read_up(),
                );
                let ended = ended(migrated);
                assert!(matches!(ended.outcome, Outcome::Cancelled), "{ended:?}");
                let expected = match (at > held.start, postcopy, answers) {
                    (true, true, _) => Whereabouts::SourcePaused,
                    (true, false, false) => Whereabouts::SourceStopped,
                    _ => Whereabouts::SourceGoesOn,
                };
                assert_eq!(ended.whereabouts, expected, "{postcopy} {answers} {phase}");
                is_no_stream(&arrived, "it was ended");
            }
        }
    }
}

/// Behind the device state it is too late to end it: it goes on to its end.
#[test]
fn ctrl_c_that_comes_too_late() {
    let whole = with_return_path(true, true);
    let expected = converted(&whole, Act::Shorten);
    let held = device_state(&whole);
    for net in NETS {
        let stage = Stage::new(net);
        let (migrated, _, arrived) = stage.play(
            Act::Shorten,
            |stage| {
                let mut socket = stage.source();
                socket.send(&whole[..held.end]);
                stage.notes.wait_for("went-on", 1);
                stage.user.cancel();
                std::thread::sleep(Duration::from_millis(20));
                socket.send(&whole[held.end..]);
                let heard = socket.hear();
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
        let ended = ended(migrated);
        assert!(matches!(ended.outcome, Outcome::WentOn), "{ended:?}");
        assert_eq!(ended.whereabouts, Whereabouts::Destination);
        assert!(arrived == expected);
    }
}

/// A source that takes no answers still gets its VM away, and a refusal of it comes to an end.
#[test]
fn a_source_that_takes_no_answers() {
    // More than any socket holds, of PONG 1.
    let answers = b"\0\x02\0\x04\0\0\0\x01".repeat(3 << 20);
    let whole = with_return_path(false, true);
    let start = device_state(&whole).start;
    for net in NETS {
        for act in [Act::Keep, Act::Refuse] {
            let stage = Stage::new(net);
            let begin = Instant::now();
            let (migrated, (), arrived) = stage.play(
                act,
                |stage| {
                    let mut socket = stage.source();
                    let (one, other) = whole.split_at(start / 2);
                    socket.send(one);
                    stage.notes.wait_for("phase ram", 1);
                    // The way back is full now.
                    std::thread::sleep(Duration::from_millis(50));
                    socket.send(other);
                    if act == Act::Keep {
                        stage.notes.wait_for("went-on", 1);
                    } else {
                        stage.notes.wait_for("held", 1);
                        std::thread::sleep(Duration::from_secs(1));
                    }
                },
                |stage| {
                    let mut socket = stage.destination();
                    let mut mouth = socket.same();
                    std::thread::scope(|scope| {
                        scope.spawn(|| mouth.send(&answers));
                        socket.read_up()
                    })
                },
            );
            let ended = ended(migrated);
            if act == Act::Keep {
                assert!(arrived == whole, "{ended:?}");
                // Its answers cannot be passed on any more.
                assert_eq!(ended.whereabouts, Whereabouts::Unknown, "{ended:?}");
            } else {
                assert!(matches!(ended.outcome, Outcome::Refused), "{ended:?}");
                assert_eq!(ended.whereabouts, Whereabouts::SourceGoesOn);
                assert!(arrived == whole[..start]);
            }
            assert!(begin.elapsed() < LONG);
        }
    }
}
