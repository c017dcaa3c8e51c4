//! Every outcome, and what must hold in all of them.

use std::time::Duration;

use super::observation::{GRACE_PERIOD, STALL_TIMEOUT};
use super::*;
use crate::guard::machine::{
    Autostart, Command, DestinationCommandState, DeviceStateTransfer, GuardState, MigrationPhase,
    RelayStatus, SourceCommandState, SourceGuestState,
};
use crate::guard::states::{MigrationStatus, RunState, SideStatus};

fn side(text: &str) -> SideStatus {
    match text {
        "?" => SideStatus::NoMonitor,
        "silent" => SideStatus::Unreachable,
        "gone" => SideStatus::Exited,
        _ => {
            let (run, migration) = text.split_once(' ').unwrap();
            SideStatus::present(
                RunState::new(run.to_owned()),
                MigrationStatus::new(migration.to_owned()),
            )
        }
    }
}

/// Words: what has happened before. `s` at the end of the seconds that nothing has changed.
fn observation(source: &str, dest: &str, words: &str) -> Observation {
    let mut state = GuardState {
        migration: MigrationPhase::Started,
        autostart: if dest == "?" {
            Autostart::Enabled
        } else {
            Autostart::Blocked
        },
        has_return_path: source != "?",
        ..GuardState::INITIAL
    };
    let mut unchanged = Duration::ZERO;
    for word in words.split_whitespace() {
        match word {
            "passing" => state.transfer = DeviceStateTransfer::Committed,
            "refused" => state.transfer = DeviceStateTransfer::Rejected,
            "delivered" => state.transfer = DeviceStateTransfer::Delivered,
            "ended" => state.relay = RelayStatus::Ended,
            "paused" => state.source_guest = SourceGuestState::Paused,
            "idle" => state.migration = MigrationPhase::NotStarted,
            "one-way" => state.has_return_path = false,
            "ran" => state.destination = DestinationCommandState::Resumed,
            "cannot" => state.destination = DestinationCommandState::ResumeRefused,
            "quits" => state.destination = DestinationCommandState::Quitting,
            "cancelled" => state.migration = MigrationPhase::Cancelled,
            "told" => state.source = SourceCommandState::Resumed,
            "stuck" => state.source = SourceCommandState::ResumeRefused,
            _ => {
                let seconds = word.strip_suffix('s').unwrap().parse().unwrap();
                unchanged = Duration::from_secs(seconds);
            }
        }
    }
    Observation {
        source: side(source),
        destination: side(dest),
        state,
        unchanged_for: unchanged,
    }
}

fn describe_action(it: &Observation) -> String {
    match decide(it) {
        GuardAction::Conclude(at) => match at.running {
            Some(true) => format!("{} runs", at.place),
            Some(false) => format!("{} stopped", at.place),
            None => at.place.to_string(),
        },
        GuardAction::Execute(command) => format!("{command:?}"),
        GuardAction::Wait => "Wait".to_owned(),
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
        "ResumeDestination",
    ),
    (
        "finish-migrate completed",
        "paused completed",
        "passing",
        "ResumeDestination",
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
    (
        "running failed",
        "inmigrate failed",
        "passing",
        "QuitDestination",
    ),
    (
        "running failed",
        "paused completed",
        "passing ended",
        "QuitDestination",
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
    ("postmigrate failed", "gone", "passing 2s", "ResumeSource"),
    (
        "postmigrate completed",
        "gone",
        "passing one-way",
        "ResumeSource",
    ),
    (
        "postmigrate completed",
        "inmigrate failed",
        "passing one-way",
        "QuitDestination",
    ),
    (
        "postmigrate completed",
        "inmigrate failed",
        "passing one-way quits",
        "ResumeSource",
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
        "ResumeSource",
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
        "QuitDestination",
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
        "QuitDestination",
    ),
    // The relay refuses.
    (
        "postmigrate completed",
        "inmigrate active",
        "refused one-way",
        "QuitDestination",
    ),
    (
        "postmigrate completed",
        "inmigrate active",
        "refused one-way quits",
        "ResumeSource",
    ),
    (
        "running failed",
        "inmigrate active",
        "refused",
        "QuitDestination",
    ),
    // The source ends.
    ("gone", "inmigrate active", "passing", "Wait"),
    ("gone", "inmigrate active", "passing 30s", "lost stopped"),
    ("gone", "inmigrate active", "ended", "lost stopped"),
    ("gone", "paused completed", "passing", "ResumeDestination"),
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
        "lost stopped",
    ),
    ("gone", "gone", "passing", "lost stopped"),
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
        "ResumeDestination",
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
        "ResumeDestination",
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
        "QuitDestination",
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
    (
        "postmigrate completed",
        "?",
        "refused one-way",
        "ResumeSource",
    ),
    ("running failed", "?", "refused", "source runs"),
    ("running failed", "?", "passing", "unknown runs"),
    ("?", "paused completed", "passing", "Wait"),
    (
        "?",
        "paused completed",
        "passing delivered",
        "ResumeDestination",
    ),
    (
        "?",
        "paused completed",
        "passing delivered paused",
        "destination stopped",
    ),
    ("?", "paused completed", "passing ended 2s", "unknown"),
    ("?", "inmigrate active", "refused", "QuitDestination"),
    ("?", "inmigrate active", "refused quits", "source"),
    ("?", "gone", "passing", "source"),
];

#[test]
fn every_outcome() {
    for (source, dest, words, expected) in TABLE {
        let it = observation(source, dest, words);
        assert_eq!(
            describe_action(&it),
            *expected,
            "{source} | {dest} | {words}"
        );
    }
}

/// Every state but for the guest and the source.
fn states() -> Vec<GuardState> {
    let mut states = Vec::new();
    for migration in [MigrationPhase::Started, MigrationPhase::Cancelled] {
        for device_state in [
            DeviceStateTransfer::Pending,
            DeviceStateTransfer::Rejected,
            DeviceStateTransfer::Committed,
            DeviceStateTransfer::Aborted,
            DeviceStateTransfer::Delivered,
        ] {
            for relay in [RelayStatus::Running, RelayStatus::Ended] {
                for dest in [
                    DestinationCommandState::Pending,
                    DestinationCommandState::ResumeRefused,
                    DestinationCommandState::Quitting,
                    DestinationCommandState::ResumeRefusedAndQuitting,
                    DestinationCommandState::Resumed,
                    DestinationCommandState::ResumedAndQuitting,
                ] {
                    for hold in [Autostart::Enabled, Autostart::Blocked] {
                        for has_return_path in [false, true] {
                            states.push(GuardState {
                                migration,
                                transfer: device_state,
                                relay,
                                destination: dest,
                                autostart: hold,
                                has_return_path,
                                ..GuardState::INITIAL
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
fn for_each_observation(check: &mut dyn FnMut(&Observation)) {
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
    let mut sides = vec![
        SideStatus::NoMonitor,
        SideStatus::Unreachable,
        SideStatus::Exited,
    ];
    for run in runs {
        sides.extend(migrations.map(|migration| {
            SideStatus::present(RunState::new(run), MigrationStatus::new(migration))
        }));
    }
    for source in &sides {
        for dest in &sides {
            let mut it = observation("?", "?", "");
            it.source = source.clone();
            it.destination = dest.clone();
            for state in states() {
                it.state = state;
                for unchanged in [
                    Duration::ZERO,
                    GRACE_PERIOD,
                    UNRESPONSIVE_TIMEOUT,
                    STALL_TIMEOUT,
                ] {
                    it.unchanged_for = unchanged;
                    check(&it);
                }
            }
        }
    }
}

#[test]
fn never_both_whatever_is_seen() {
    let mut counts = [0_u32; 3];
    for_each_observation(&mut |it| match decide(it) {
        GuardAction::Execute(Command::ResumeSource) => {
            counts[0] += 1;
            assert!(!it.state.destination.has_run(), "{it:?}");
            let cannot = it.destination == SideStatus::Exited
                || it.state.destination.is_quitting()
                || it.state.is_device_state_withheld();
            let is_held = it.destination == SideStatus::Unreachable
                && it.state.is_autostart_blocked()
                && it.unchanged_for >= UNRESPONSIVE_TIMEOUT;
            assert!(cannot || is_held, "{it:?}");
        }
        GuardAction::Execute(Command::ResumeDestination) => {
            counts[1] += 1;
            assert!(!it.state.destination.has_run(), "{it:?}");
            let cannot_go_back = match &it.source {
                SideStatus::Present { run, migration } => {
                    *run != RunState::RUNNING
                        && (*migration == MigrationStatus::COMPLETED || migration.is_postcopy())
                }
                SideStatus::Exited => true,
                SideStatus::NoMonitor => {
                    it.state.transfer == DeviceStateTransfer::Delivered
                        || !it
                            .destination
                            .has_migration_status(&MigrationStatus::COMPLETED)
                }
                SideStatus::Unreachable => false,
            };
            assert!(cannot_go_back, "{it:?}");
        }
        GuardAction::Execute(Command::QuitDestination) => {
            counts[2] += 1;
            assert!(!it.state.destination.has_run(), "{it:?}");
        }
        _ => {}
    });
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}

#[test]
fn it_ends_when_the_relay_has() {
    for_each_observation(&mut |it| {
        if it.state.has_relay_ended() && it.unchanged_for >= STALL_TIMEOUT {
            assert_ne!(decide(it), GuardAction::Wait, "{it:?}");
        }
    });
}
