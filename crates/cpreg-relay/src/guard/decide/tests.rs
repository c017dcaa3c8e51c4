//! Every outcome, and what must hold in all of them.

use std::time::Duration;

use super::situation::{FOR_GOOD, SOON};
use super::*;
use crate::guard::machine::{
    Command, Dest, DeviceState, GuardState, Guest, Hold, Migration, Relay, Source,
};
use crate::guard::states::{MigrationStatus, RunState, Side};

fn side(text: &str) -> Side {
    match text {
        "?" => Side::NotAsked,
        "silent" => Side::Unreachable,
        "gone" => Side::Gone,
        _ => {
            let (run, migration) = text.split_once(' ').unwrap();
            Side::present(
                RunState::new(run.to_owned()),
                MigrationStatus::new(migration.to_owned()),
            )
        }
    }
}

/// Words: what has happened before. `s` at the end of the seconds that nothing has changed.
fn situation(source: &str, dest: &str, words: &str) -> Situation {
    let mut state = GuardState {
        migration: Migration::Begun,
        hold: if dest == "?" { Hold::Free } else { Hold::Held },
        has_return_path: source != "?",
        ..GuardState::NEW
    };
    let mut unchanged = Duration::ZERO;
    for word in words.split_whitespace() {
        match word {
            "passing" => state.device_state = DeviceState::Passing,
            "refused" => state.device_state = DeviceState::Withheld,
            "delivered" => state.device_state = DeviceState::Delivered,
            "ended" => state.relay = Relay::Ended,
            "paused" => state.guest = Guest::Paused,
            "idle" => state.migration = Migration::NotBegun,
            "one-way" => state.has_return_path = false,
            "ran" => state.dest = Dest::Ran,
            "cannot" => state.dest = Dest::Refuses,
            "quits" => state.dest = Dest::Quits,
            "cancelled" => state.migration = Migration::Cancelled,
            "told" => state.source = Source::LetGo,
            "stuck" => state.source = Source::Refuses,
            _ => {
                let seconds = word.strip_suffix('s').unwrap().parse().unwrap();
                unchanged = Duration::from_secs(seconds);
            }
        }
    }
    Situation {
        source: side(source),
        dest: side(dest),
        state,
        unchanged,
    }
}

fn said(it: &Situation) -> String {
    match decide(it) {
        Action::Conclude(at) => match at.running {
            Some(true) => format!("{} runs", at.place),
            Some(false) => format!("{} stopped", at.place),
            None => at.place.to_string(),
        },
        Action::Tell(command) => format!("{command:?}"),
        Action::Wait => "Wait".to_owned(),
    }
}

/// Source, destination, what happened before, and what is done.
const TABLE: &[(&str, &str, &str, &str)] = &[
    // Nothing has begun.
    ("running none", "inmigrate none", "idle", "Wait"),
    (
        "running none",
        "inmigrate none",
        "idle ended 2s",
        "source runs",
    ),
    (
        "paused none",
        "inmigrate none",
        "idle paused refused 2s",
        "source stopped",
    ),
    ("running failed", "inmigrate none", "idle 9s", "Wait"),
    ("running none", "inmigrate active", "passing", "Wait"),
    // RAM flows.
    ("running active", "inmigrate active", "", "Wait"),
    ("running active", "inmigrate active", "ended", "Wait"),
    ("running active", "inmigrate active", "ended 2s", "Cancel"),
    (
        "running active",
        "inmigrate active",
        "ended cancelled 2s",
        "Wait",
    ),
    ("running active", "gone", "2s", "Cancel"),
    (
        "running cancelling",
        "gone",
        "ended cancelled 120s",
        "unknown",
    ),
    // It arrives.
    (
        "finish-migrate device",
        "paused completed",
        "passing",
        "Wait",
    ),
    (
        "postmigrate completed",
        "paused completed",
        "passing",
        "RunDest",
    ),
    (
        "finish-migrate completed",
        "paused completed",
        "passing",
        "RunDest",
    ),
    (
        "postmigrate completed",
        "inmigrate active",
        "passing one-way",
        "Wait",
    ),
    (
        "postmigrate completed",
        "running completed",
        "passing ran",
        "destination runs",
    ),
    (
        "postmigrate completed",
        "paused completed",
        "passing paused",
        "destination stopped",
    ),
    (
        "postmigrate completed",
        "suspended completed",
        "passing",
        "destination stopped",
    ),
    (
        "postmigrate completed",
        "paused completed",
        "passing ran 2s",
        "destination stopped",
    ),
    // The destination refuses, or ends.
    ("running failed", "gone", "passing", "source runs"),
    ("running failed", "inmigrate failed", "passing", "QuitDest"),
    (
        "running failed",
        "paused completed",
        "passing ended",
        "QuitDest",
    ),
    (
        "running failed",
        "paused completed",
        "passing ended quits",
        "source runs",
    ),
    ("running failed", "silent", "passing", "Wait"),
    ("running failed", "silent", "passing 30s", "source runs"),
    ("finish-migrate failed", "gone", "passing", "Wait"),
    ("postmigrate failed", "gone", "passing 2s", "RunSource"),
    (
        "postmigrate completed",
        "gone",
        "passing one-way",
        "RunSource",
    ),
    (
        "postmigrate completed",
        "inmigrate failed",
        "passing one-way",
        "QuitDest",
    ),
    (
        "postmigrate completed",
        "inmigrate failed",
        "passing one-way quits",
        "RunSource",
    ),
    (
        "postmigrate completed",
        "gone",
        "passing one-way paused",
        "source stopped",
    ),
    (
        "postmigrate completed",
        "gone",
        "passing one-way stuck",
        "source stopped",
    ),
    (
        "postmigrate completed",
        "gone",
        "passing ran",
        "destination",
    ),
    (
        "postmigrate completed",
        "silent",
        "passing 30s",
        "RunSource",
    ),
    (
        "postmigrate completed",
        "silent",
        "passing ran 30s",
        "destination",
    ),
    (
        "postmigrate completed",
        "paused completed",
        "passing cannot",
        "QuitDest",
    ),
    (
        "running completed",
        "gone",
        "passing ended told",
        "source runs",
    ),
    ("running completed", "paused completed", "passing", "Wait"),
    (
        "running completed",
        "paused completed",
        "passing 2s",
        "QuitDest",
    ),
    // The relay refuses.
    (
        "postmigrate completed",
        "inmigrate active",
        "refused one-way",
        "QuitDest",
    ),
    (
        "postmigrate completed",
        "inmigrate active",
        "refused one-way quits",
        "RunSource",
    ),
    ("running failed", "inmigrate active", "refused", "QuitDest"),
    // The source ends.
    ("gone", "inmigrate active", "passing", "Wait"),
    ("gone", "inmigrate active", "passing 30s", "nowhere stopped"),
    ("gone", "inmigrate active", "ended", "nowhere stopped"),
    ("gone", "paused completed", "passing", "RunDest"),
    (
        "gone",
        "paused completed",
        "passing paused",
        "destination stopped",
    ),
    (
        "gone",
        "paused completed",
        "passing cannot",
        "destination stopped",
    ),
    (
        "gone",
        "running completed",
        "passing ran",
        "destination runs",
    ),
    (
        "gone",
        "running postcopy-paused",
        "passing ran",
        "nowhere stopped",
    ),
    ("gone", "gone", "passing", "nowhere stopped"),
    ("silent", "paused completed", "passing", "Wait"),
    ("silent", "paused completed", "passing 30s", "unknown"),
    // Postcopy.
    (
        "finish-migrate postcopy-device",
        "paused postcopy-active",
        "passing",
        "Wait",
    ),
    (
        "running postcopy-active",
        "inmigrate active",
        "passing",
        "Wait",
    ),
    (
        "finish-migrate postcopy-active",
        "inmigrate active",
        "passing",
        "Wait",
    ),
    (
        "finish-migrate postcopy-active",
        "paused postcopy-active",
        "passing",
        "RunDest",
    ),
    (
        "finish-migrate postcopy-active",
        "paused postcopy-active",
        "passing paused",
        "Wait",
    ),
    (
        "finish-migrate postcopy-active",
        "running postcopy-active",
        "passing ran",
        "Wait",
    ),
    (
        "finish-migrate postcopy-paused",
        "running postcopy-paused",
        "passing ran ended 2s",
        "destination runs",
    ),
    (
        "finish-migrate postcopy-paused",
        "paused postcopy-paused",
        "passing ended",
        "RunDest",
    ),
    (
        "finish-migrate postcopy-active",
        "gone",
        "passing ran",
        "destination",
    ),
    (
        "finish-migrate postcopy-paused",
        "gone",
        "refused 2s",
        "source stopped",
    ),
    (
        "running failed",
        "paused postcopy-paused",
        "passing ended",
        "QuitDest",
    ),
    (
        "running failed",
        "running postcopy-paused",
        "passing ran",
        "StopSource",
    ),
    (
        "paused failed",
        "running postcopy-paused",
        "passing ran",
        "destination runs",
    ),
    // One monitor.
    ("postmigrate completed", "?", "passing", "destination"),
    (
        "postmigrate completed",
        "?",
        "passing one-way ended",
        "unknown",
    ),
    ("postmigrate completed", "?", "refused one-way", "RunSource"),
    ("running failed", "?", "refused", "source runs"),
    ("running failed", "?", "passing", "unknown runs"),
    ("?", "paused completed", "passing", "Wait"),
    ("?", "paused completed", "passing delivered", "RunDest"),
    (
        "?",
        "paused completed",
        "passing delivered paused",
        "destination stopped",
    ),
    ("?", "paused completed", "passing ended 2s", "unknown"),
    ("?", "inmigrate active", "refused", "QuitDest"),
    ("?", "inmigrate active", "refused quits", "source"),
    ("?", "gone", "passing", "source"),
];

#[test]
fn every_outcome() {
    for (source, dest, words, expected) in TABLE {
        let it = situation(source, dest, words);
        assert_eq!(said(&it), *expected, "{source} | {dest} | {words}");
    }
}

/// Every state but for the guest and the source.
fn states() -> Vec<GuardState> {
    let mut states = Vec::new();
    for migration in [Migration::Begun, Migration::Cancelled] {
        for device_state in [
            DeviceState::Expected,
            DeviceState::Withheld,
            DeviceState::Passing,
            DeviceState::CutOff,
            DeviceState::Delivered,
        ] {
            for relay in [Relay::Carries, Relay::Ended] {
                for dest in [
                    Dest::Untold,
                    Dest::Refuses,
                    Dest::Quits,
                    Dest::RefusesAndQuits,
                    Dest::Ran,
                    Dest::RanAndQuits,
                ] {
                    for hold in [Hold::Free, Hold::Held] {
                        for has_return_path in [false, true] {
                            states.push(GuardState {
                                migration,
                                device_state,
                                relay,
                                dest,
                                hold,
                                has_return_path,
                                ..GuardState::NEW
                            });
                        }
                    }
                }
            }
        }
    }
    states
}

/// All that both sides can say, with all that can have happened before.
fn each(check: &mut dyn FnMut(&Situation)) {
    let runs = ["running", "paused", "inmigrate", "postmigrate"];
    let migrations = [
        "none",
        "active",
        "completed",
        "failed",
        "cancelled",
        "postcopy-device",
        "postcopy-active",
        "postcopy-paused",
    ];
    let mut sides = vec![Side::NotAsked, Side::Unreachable, Side::Gone];
    for run in runs {
        sides.extend(
            migrations.map(|migration| {
                Side::present(RunState::new(run), MigrationStatus::new(migration))
            }),
        );
    }
    for source in &sides {
        for dest in &sides {
            let mut it = situation("?", "?", "");
            it.source = source.clone();
            it.dest = dest.clone();
            for state in states() {
                it.state = state;
                for unchanged in [Duration::ZERO, SOON, LATE, FOR_GOOD] {
                    it.unchanged = unchanged;
                    check(&it);
                }
            }
        }
    }
}

#[test]
fn never_both_whatever_is_seen() {
    let mut counts = [0_u32; 3];
    each(&mut |it| match decide(it) {
        Action::Tell(Command::RunSource) => {
            counts[0] += 1;
            assert!(!it.state.dest.has_run(), "{it:?}");
            let cannot = it.dest == Side::Gone
                || it.state.dest.has_confirmed_to_quit()
                || it.state.is_withheld();
            let is_held =
                it.dest == Side::Unreachable && it.state.is_held() && it.unchanged >= LATE;
            assert!(cannot || is_held, "{it:?}");
        }
        Action::Tell(Command::RunDest) => {
            counts[1] += 1;
            assert!(!it.state.dest.has_run(), "{it:?}");
            let cannot_go_back = match &it.source {
                Side::Present { run, migration } => {
                    *run != RunState::RUNNING
                        && (*migration == MigrationStatus::COMPLETED || migration.is_postcopy())
                }
                Side::Gone => true,
                Side::NotAsked => {
                    it.state.device_state == DeviceState::Delivered
                        || !it.dest.migration_is(&MigrationStatus::COMPLETED)
                }
                Side::Unreachable => false,
            };
            assert!(cannot_go_back, "{it:?}");
        }
        Action::Tell(Command::QuitDest) => {
            counts[2] += 1;
            assert!(!it.state.dest.has_run(), "{it:?}");
        }
        _ => {}
    });
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}

#[test]
fn it_ends_when_the_relay_has() {
    each(&mut |it| {
        if it.state.relay_has_ended() && it.unchanged >= FOR_GOOD {
            assert_ne!(decide(it), Action::Wait, "{it:?}");
        }
    });
}
