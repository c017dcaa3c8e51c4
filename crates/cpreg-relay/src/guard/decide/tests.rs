//! Table of all outcomes, and properties that hold in every state.

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
        "unreachable" => SideStatus::Unreachable,
        "exited" => SideStatus::Exited,
        _ => {
            let (run, migration) = text.split_once(' ').unwrap();
            SideStatus::present(
                RunState::new(run.to_owned()),
                MigrationStatus::new(migration.to_owned()),
            )
        }
    }
}

/// Creates an observation. `events` are words for past events; `Ns` is the number of seconds
/// without a change.
fn observation(source: &str, destination: &str, events: &str) -> Observation {
    let mut state = GuardState {
        migration: MigrationPhase::Started,
        autostart: if destination == "?" {
            Autostart::Enabled
        } else {
            Autostart::Blocked
        },
        has_return_path: source != "?",
        ..GuardState::INITIAL
    };
    let mut unchanged = Duration::ZERO;
    for event in events.split_whitespace() {
        match event {
            "committed" => state.transfer = DeviceStateTransfer::Committed,
            "rejected" => state.transfer = DeviceStateTransfer::Rejected,
            "delivered" => state.transfer = DeviceStateTransfer::Delivered,
            "ended" => state.relay = RelayStatus::Ended,
            "was-paused" => state.source_guest = SourceGuestState::Paused,
            "not-started" => state.migration = MigrationPhase::NotStarted,
            "one-way" => state.has_return_path = false,
            "resumed" => state.destination = DestinationCommandState::Resumed,
            "resume-refused" => state.destination = DestinationCommandState::ResumeRefused,
            "quitting" => state.destination = DestinationCommandState::Quitting,
            "cancelled" => state.migration = MigrationPhase::Cancelled,
            "source-resumed" => state.source = SourceCommandState::Resumed,
            "source-refused" => state.source = SourceCommandState::ResumeRefused,
            _ => {
                let seconds = event.strip_suffix('s').unwrap().parse().unwrap();
                unchanged = Duration::from_secs(seconds);
            }
        }
    }
    Observation {
        source: side(source),
        destination: side(destination),
        state,
        unchanged_for: unchanged,
    }
}

fn describe_action(observation: &Observation) -> String {
    match decide(observation) {
        GuardAction::Conclude(report) => match report.running {
            Some(true) => format!("{} runs", report.place),
            Some(false) => format!("{} stopped", report.place),
            None => report.place.to_string(),
        },
        GuardAction::Execute(command) => format!("{command:?}"),
        GuardAction::Wait => "Wait".to_owned(),
    }
}

/// Source, destination, past events, and the action.
const TABLE: &[(&str, &str, &str, &str)] = &[
    // No migration has begun.
    ("running none", "inmigrate none", "not-started", "Wait"),
    (
        "running none",
        "inmigrate none",
        "not-started ended 2s",
        "source runs",
    ),
    (
        "paused none",
        "inmigrate none",
        "not-started was-paused rejected 2s",
        "source stopped",
    ),
    ("running failed", "inmigrate none", "not-started 9s", "Wait"),
    ("running none", "inmigrate active", "committed", "Wait"),
    // RAM is sent.
    ("running active", "inmigrate active", "", "Wait"),
    ("running active", "inmigrate active", "ended", "Wait"),
    ("running active", "inmigrate active", "ended 2s", "Cancel"),
    (
        "running active",
        "inmigrate active",
        "ended cancelled 2s",
        "Wait",
    ),
    ("running active", "exited", "2s", "Cancel"),
    (
        "running cancelling",
        "exited",
        "ended cancelled 120s",
        "unknown",
    ),
    // The device state is received.
    (
        "finish-migrate device",
        "paused completed",
        "committed",
        "Wait",
    ),
    (
        "postmigrate completed",
        "paused completed",
        "committed",
        "ResumeDestination",
    ),
    (
        "finish-migrate completed",
        "paused completed",
        "committed",
        "ResumeDestination",
    ),
    (
        "postmigrate completed",
        "inmigrate active",
        "committed one-way",
        "Wait",
    ),
    (
        "postmigrate completed",
        "running completed",
        "committed resumed",
        "destination runs",
    ),
    (
        "postmigrate completed",
        "paused completed",
        "committed was-paused",
        "destination stopped",
    ),
    (
        "postmigrate completed",
        "suspended completed",
        "committed",
        "destination stopped",
    ),
    (
        "postmigrate completed",
        "paused completed",
        "committed resumed 2s",
        "destination stopped",
    ),
    // The destination refuses or exits.
    ("running failed", "exited", "committed", "source runs"),
    (
        "running failed",
        "inmigrate failed",
        "committed",
        "QuitDestination",
    ),
    (
        "running failed",
        "paused completed",
        "committed ended",
        "QuitDestination",
    ),
    (
        "running failed",
        "paused completed",
        "committed ended quitting",
        "source runs",
    ),
    ("running failed", "unreachable", "committed", "Wait"),
    (
        "running failed",
        "unreachable",
        "committed 30s",
        "source runs",
    ),
    ("finish-migrate failed", "exited", "committed", "Wait"),
    (
        "postmigrate failed",
        "exited",
        "committed 2s",
        "ResumeSource",
    ),
    (
        "postmigrate completed",
        "exited",
        "committed one-way",
        "ResumeSource",
    ),
    (
        "postmigrate completed",
        "inmigrate failed",
        "committed one-way",
        "QuitDestination",
    ),
    (
        "postmigrate completed",
        "inmigrate failed",
        "committed one-way quitting",
        "ResumeSource",
    ),
    (
        "postmigrate completed",
        "exited",
        "committed one-way was-paused",
        "source stopped",
    ),
    (
        "postmigrate completed",
        "exited",
        "committed one-way source-refused",
        "source stopped",
    ),
    (
        "postmigrate completed",
        "exited",
        "committed resumed",
        "destination",
    ),
    (
        "postmigrate completed",
        "unreachable",
        "committed 30s",
        "ResumeSource",
    ),
    (
        "postmigrate completed",
        "unreachable",
        "committed resumed 30s",
        "destination",
    ),
    (
        "postmigrate completed",
        "paused completed",
        "committed resume-refused",
        "QuitDestination",
    ),
    (
        "running completed",
        "exited",
        "committed ended source-resumed",
        "source runs",
    ),
    ("running completed", "paused completed", "committed", "Wait"),
    (
        "running completed",
        "paused completed",
        "committed 2s",
        "QuitDestination",
    ),
    // The relay rejects.
    (
        "postmigrate completed",
        "inmigrate active",
        "rejected one-way",
        "QuitDestination",
    ),
    (
        "postmigrate completed",
        "inmigrate active",
        "rejected one-way quitting",
        "ResumeSource",
    ),
    (
        "running failed",
        "inmigrate active",
        "rejected",
        "QuitDestination",
    ),
    // The source exits.
    ("exited", "inmigrate active", "committed", "Wait"),
    (
        "exited",
        "inmigrate active",
        "committed 30s",
        "lost stopped",
    ),
    ("exited", "inmigrate active", "ended", "lost stopped"),
    (
        "exited",
        "paused completed",
        "committed",
        "ResumeDestination",
    ),
    (
        "exited",
        "paused completed",
        "committed was-paused",
        "destination stopped",
    ),
    (
        "exited",
        "paused completed",
        "committed resume-refused",
        "destination stopped",
    ),
    (
        "exited",
        "running completed",
        "committed resumed",
        "destination runs",
    ),
    (
        "exited",
        "running postcopy-paused",
        "committed resumed",
        "lost stopped",
    ),
    ("exited", "exited", "committed", "lost stopped"),
    ("unreachable", "paused completed", "committed", "Wait"),
    (
        "unreachable",
        "paused completed",
        "committed 30s",
        "unknown",
    ),
    // Postcopy.
    (
        "finish-migrate postcopy-device",
        "paused postcopy-active",
        "committed",
        "Wait",
    ),
    (
        "running postcopy-active",
        "inmigrate active",
        "committed",
        "Wait",
    ),
    (
        "finish-migrate postcopy-active",
        "inmigrate active",
        "committed",
        "Wait",
    ),
    (
        "finish-migrate postcopy-active",
        "paused postcopy-active",
        "committed",
        "ResumeDestination",
    ),
    (
        "finish-migrate postcopy-active",
        "paused postcopy-active",
        "committed was-paused",
        "Wait",
    ),
    (
        "finish-migrate postcopy-active",
        "running postcopy-active",
        "committed resumed",
        "Wait",
    ),
    (
        "finish-migrate postcopy-paused",
        "running postcopy-paused",
        "committed resumed ended 2s",
        "destination runs",
    ),
    (
        "finish-migrate postcopy-paused",
        "paused postcopy-paused",
        "committed ended",
        "ResumeDestination",
    ),
    (
        "finish-migrate postcopy-active",
        "exited",
        "committed resumed",
        "destination",
    ),
    (
        "finish-migrate postcopy-paused",
        "exited",
        "rejected 2s",
        "source stopped",
    ),
    (
        "running failed",
        "paused postcopy-paused",
        "committed ended",
        "QuitDestination",
    ),
    (
        "running failed",
        "running postcopy-paused",
        "committed resumed",
        "StopSource",
    ),
    (
        "paused failed",
        "running postcopy-paused",
        "committed resumed",
        "destination runs",
    ),
    // One monitor.
    ("postmigrate completed", "?", "committed", "destination"),
    (
        "postmigrate completed",
        "?",
        "committed one-way ended",
        "unknown",
    ),
    (
        "postmigrate completed",
        "?",
        "rejected one-way",
        "ResumeSource",
    ),
    ("running failed", "?", "rejected", "source runs"),
    ("running failed", "?", "committed", "unknown runs"),
    ("?", "paused completed", "committed", "Wait"),
    (
        "?",
        "paused completed",
        "committed delivered",
        "ResumeDestination",
    ),
    (
        "?",
        "paused completed",
        "committed delivered was-paused",
        "destination stopped",
    ),
    ("?", "paused completed", "committed ended 2s", "unknown"),
    ("?", "inmigrate active", "rejected", "QuitDestination"),
    ("?", "inmigrate active", "rejected quitting", "source"),
    ("?", "exited", "committed", "source"),
];

#[test]
fn outcomes() {
    for (source, destination, events, expected) in TABLE {
        let observation = observation(source, destination, events);
        assert_eq!(
            describe_action(&observation),
            *expected,
            "{source} | {destination} | {events}"
        );
    }
}

/// Returns every state, except for the guest and the source.
fn states() -> Vec<GuardState> {
    let mut states = Vec::new();
    for migration in [MigrationPhase::Started, MigrationPhase::Cancelled] {
        for transfer in [
            DeviceStateTransfer::Pending,
            DeviceStateTransfer::Rejected,
            DeviceStateTransfer::Committed,
            DeviceStateTransfer::Aborted,
            DeviceStateTransfer::Delivered,
        ] {
            for relay in [RelayStatus::Running, RelayStatus::Ended] {
                for destination in [
                    DestinationCommandState::Pending,
                    DestinationCommandState::ResumeRefused,
                    DestinationCommandState::Quitting,
                    DestinationCommandState::ResumeRefusedAndQuitting,
                    DestinationCommandState::Resumed,
                    DestinationCommandState::ResumedAndQuitting,
                ] {
                    for autostart in [Autostart::Enabled, Autostart::Blocked] {
                        for has_return_path in [false, true] {
                            states.push(GuardState {
                                migration,
                                transfer,
                                relay,
                                destination,
                                autostart,
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

/// Calls `check` for all states of both sides, in every state of the guard.
fn for_each_observation(check: &mut dyn FnMut(&Observation)) {
    let run_states = ["running", "paused", "inmigrate", "postmigrate"];
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
    for run in run_states {
        sides.extend(migrations.map(|migration| {
            SideStatus::present(RunState::new(run), MigrationStatus::new(migration))
        }));
    }
    for source in &sides {
        for destination in &sides {
            let mut observation = observation("?", "?", "");
            observation.source = source.clone();
            observation.destination = destination.clone();
            for state in states() {
                observation.state = state;
                for unchanged in [
                    Duration::ZERO,
                    GRACE_PERIOD,
                    UNRESPONSIVE_TIMEOUT,
                    STALL_TIMEOUT,
                ] {
                    observation.unchanged_for = unchanged;
                    check(&observation);
                }
            }
        }
    }
}

#[test]
fn at_most_one_side_runs() {
    let mut counts = [0_u32; 3];
    for_each_observation(&mut |observation| match decide(observation) {
        GuardAction::Execute(Command::ResumeSource) => {
            counts[0] += 1;
            assert!(!observation.state.destination.has_run(), "{observation:?}");
            let cannot_run = observation.destination == SideStatus::Exited
                || observation.state.destination.is_quitting()
                || observation.state.is_device_state_withheld();
            let is_blocked = observation.destination == SideStatus::Unreachable
                && observation.state.is_autostart_blocked()
                && observation.unchanged_for >= UNRESPONSIVE_TIMEOUT;
            assert!(cannot_run || is_blocked, "{observation:?}");
        }
        GuardAction::Execute(Command::ResumeDestination) => {
            counts[1] += 1;
            assert!(!observation.state.destination.has_run(), "{observation:?}");
            let source_cannot_resume = match &observation.source {
                SideStatus::Present { run, migration } => {
                    *run != RunState::RUNNING
                        && (*migration == MigrationStatus::COMPLETED || migration.is_postcopy())
                }
                SideStatus::Exited => true,
                SideStatus::NoMonitor => {
                    observation.state.transfer == DeviceStateTransfer::Delivered
                        || !observation
                            .destination
                            .has_migration_status(&MigrationStatus::COMPLETED)
                }
                SideStatus::Unreachable => false,
            };
            assert!(source_cannot_resume, "{observation:?}");
        }
        GuardAction::Execute(Command::QuitDestination) => {
            counts[2] += 1;
            assert!(!observation.state.destination.has_run(), "{observation:?}");
        }
        _ => {}
    });
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}

#[test]
fn guard_ends_after_the_relay() {
    for_each_observation(&mut |observation| {
        if observation.state.has_relay_ended() && observation.unchanged_for >= STALL_TIMEOUT {
            assert_ne!(decide(observation), GuardAction::Wait, "{observation:?}");
        }
    });
}
