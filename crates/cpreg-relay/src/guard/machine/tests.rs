//! Every transition, part by part; and that an event changes nothing else.

use super::super::states::MigrationStatus;
use super::*;

fn side(run: &'static str, migration: &'static str) -> SideStatus {
    SideStatus::present(RunState::new(run), MigrationStatus::new(migration))
}

#[test]
fn the_migration() {
    use MigrationPhase::{Cancelled, NotStarted, Started};
    let active = side("running", "active");
    let over = side("running", "failed");
    for (before, event, after) in [
        (NotStarted, GuardEvent::MigrationStarted, Started),
        (NotStarted, GuardEvent::DeviceStateCommitted(None), Started),
        (NotStarted, GuardEvent::UnfinishedMigrationFound, Started),
        (NotStarted, GuardEvent::SourceReported(&active), Started),
        (NotStarted, GuardEvent::SourceReported(&over), NotStarted),
        (
            NotStarted,
            GuardEvent::SourceReported(&SideStatus::Exited),
            NotStarted,
        ),
        (NotStarted, GuardEvent::DeviceStateRejected, NotStarted),
        (NotStarted, GuardEvent::RelayEnded, NotStarted),
        (Started, GuardEvent::MigrationStarted, Started),
        (
            Started,
            GuardEvent::CommandExecuted(Command::Cancel, CommandOutcome::Done),
            Cancelled,
        ),
        (
            Started,
            GuardEvent::CommandExecuted(Command::Cancel, CommandOutcome::Refused),
            Cancelled,
        ),
        (
            Started,
            GuardEvent::CommandExecuted(Command::Cancel, CommandOutcome::NoReply),
            Cancelled,
        ),
        (Cancelled, GuardEvent::MigrationStarted, Cancelled),
        (Cancelled, GuardEvent::DeviceStateCommitted(None), Cancelled),
        (Cancelled, GuardEvent::SourceReported(&active), Cancelled),
    ] {
        let state = GuardState {
            migration: before,
            ..GuardState::INITIAL
        };
        let now = state.transition(&event);
        assert_eq!(now.migration, after, "{before:?}: {event:?}");
    }
}

#[test]
fn the_device_state() {
    use DeviceStateTransfer::{Aborted, Committed, Delivered, Pending, Rejected};
    let all = [Pending, Rejected, Committed, Aborted, Delivered];
    for (event, expected) in [
        (
            GuardEvent::DeviceStateCommitted(None),
            [Committed, Aborted, Committed, Aborted, Delivered],
        ),
        (
            GuardEvent::DeviceStateRejected,
            [Rejected, Rejected, Aborted, Aborted, Delivered],
        ),
        (
            GuardEvent::DeviceStateDelivered,
            [Delivered, Rejected, Delivered, Aborted, Delivered],
        ),
        (
            GuardEvent::UnfinishedMigrationFound,
            [Committed, Aborted, Committed, Aborted, Delivered],
        ),
        (GuardEvent::MigrationStarted, all),
        (GuardEvent::RelayEnded, all),
        (
            GuardEvent::CommandExecuted(Command::QuitDestination, CommandOutcome::Done),
            all,
        ),
    ] {
        for (before, after) in all.into_iter().zip(expected) {
            let state = GuardState {
                transfer: before,
                ..GuardState::INITIAL
            };
            let now = state.transition(&event);
            assert_eq!(now.transfer, after, "{before:?}: {event:?}");
        }
    }
    for (device_state, ended, withheld) in [
        (Pending, false, false),
        (Pending, true, true),
        (Rejected, false, true),
        (Committed, true, false),
        (Aborted, true, false),
        (Delivered, true, false),
    ] {
        let relay = if ended {
            RelayStatus::Ended
        } else {
            RelayStatus::Running
        };
        let state = GuardState {
            transfer: device_state,
            relay,
            ..GuardState::INITIAL
        };
        assert_eq!(state.is_device_state_withheld(), withheld, "{state:?}");
    }
}

#[test]
fn what_the_guest_did() {
    use SourceGuestState::{Paused, Running};
    for (guest, begun, run, migration, after) in [
        (Running, false, "paused", "none", Paused),
        (Paused, false, "running", "none", Running),
        (Running, true, "paused", "active", Paused),
        (Paused, true, "running", "active", Running),
        // Stopped by the migration, and by nobody else.
        (Running, true, "finish-migrate", "device", Running),
        (Running, true, "postmigrate", "completed", Running),
        // It is over, or the VM is elsewhere: what the source says now tells nothing.
        (Running, true, "paused", "failed", Running),
        (Paused, true, "running", "failed", Paused),
        (Running, true, "paused", "postcopy-active", Running),
    ] {
        let migration_part = if begun {
            MigrationPhase::Started
        } else {
            MigrationPhase::NotStarted
        };
        let state = GuardState {
            source_guest: guest,
            migration: migration_part,
            ..GuardState::INITIAL
        };
        let side = side(run, migration);
        let now = state.transition(&GuardEvent::SourceReported(&side));
        assert_eq!(now.source_guest, after, "{guest:?}, {begun}: {side}");
    }
    assert_eq!(
        GuardState::INITIAL
            .transition(&GuardEvent::SourceGuestObserved(Paused))
            .source_guest,
        Paused
    );
    let passing = GuardEvent::DeviceStateCommitted(Some(Paused));
    assert_eq!(
        GuardState::INITIAL.transition(&passing).source_guest,
        Paused
    );
    assert_eq!(
        GuardState::INITIAL
            .transition(&GuardEvent::DeviceStateCommitted(None))
            .source_guest,
        Running
    );
}

#[test]
fn the_source() {
    use SourceCommandState::{Pending, ResumeRefused, Resumed, ResumedAndRefused};
    let all = [Pending, Resumed, ResumeRefused, ResumedAndRefused];
    for (tried, expected) in [
        (
            CommandOutcome::Done,
            [Resumed, Resumed, ResumedAndRefused, ResumedAndRefused],
        ),
        (
            CommandOutcome::GivenUp,
            [
                ResumeRefused,
                ResumedAndRefused,
                ResumeRefused,
                ResumedAndRefused,
            ],
        ),
        (CommandOutcome::Refused, all),
        (CommandOutcome::NoReply, all),
    ] {
        for (before, after) in all.into_iter().zip(expected) {
            let state = GuardState {
                source: before,
                ..GuardState::INITIAL
            };
            let now = state.transition(&GuardEvent::CommandExecuted(Command::ResumeSource, tried));
            assert_eq!(now.source, after, "{before:?}: {tried:?}");
            let stopped = GuardEvent::CommandExecuted(Command::StopSource, tried);
            assert_eq!(state.transition(&stopped), state);
        }
    }
}

#[test]
fn the_destination() {
    use DestinationCommandState::{
        Pending, Quitting, ResumeRefused, ResumeRefusedAndQuitting, Resumed, ResumedAndQuitting,
    };
    let all = [
        Pending,
        ResumeRefused,
        Quitting,
        ResumeRefusedAndQuitting,
        Resumed,
        ResumedAndQuitting,
    ];
    let runs = side("running", "completed");
    let stands = side("paused", "completed");
    let ran = [
        Resumed,
        Resumed,
        ResumedAndQuitting,
        ResumedAndQuitting,
        Resumed,
        ResumedAndQuitting,
    ];
    let told = GuardEvent::CommandExecuted;
    for (event, expected) in [
        (GuardEvent::DestinationReported(&runs), ran),
        (told(Command::ResumeDestination, CommandOutcome::Done), ran),
        (
            told(Command::ResumeDestination, CommandOutcome::NoReply),
            ran,
        ),
        (
            told(Command::ResumeDestination, CommandOutcome::GivenUp),
            [
                ResumeRefused,
                ResumeRefused,
                ResumeRefusedAndQuitting,
                ResumeRefusedAndQuitting,
                Resumed,
                ResumedAndQuitting,
            ],
        ),
        (
            told(Command::QuitDestination, CommandOutcome::Done),
            [
                Quitting,
                ResumeRefusedAndQuitting,
                Quitting,
                ResumeRefusedAndQuitting,
                ResumedAndQuitting,
                ResumedAndQuitting,
            ],
        ),
        (GuardEvent::DestinationReported(&stands), all),
        (GuardEvent::DestinationReported(&SideStatus::Exited), all),
        (
            told(Command::ResumeDestination, CommandOutcome::Refused),
            all,
        ),
        (told(Command::QuitDestination, CommandOutcome::NoReply), all),
    ] {
        for (before, after) in all.into_iter().zip(expected) {
            let state = GuardState {
                destination: before,
                ..GuardState::INITIAL
            };
            let now = state.transition(&event);
            assert_eq!(now.destination, after, "{before:?}: {event:?}");
        }
    }
}

#[test]
fn each_event_changes_its_own_part() {
    let new = GuardState::INITIAL;
    for (event, after) in [
        (
            GuardEvent::AutostartBlocked,
            GuardState {
                autostart: Autostart::Blocked,
                ..new
            },
        ),
        (
            GuardEvent::ReturnPathEnabled,
            GuardState {
                has_return_path: true,
                ..new
            },
        ),
        (
            GuardEvent::RelayEnded,
            GuardState {
                relay: RelayStatus::Ended,
                ..new
            },
        ),
        (
            GuardEvent::DeviceStateRejected,
            GuardState {
                transfer: DeviceStateTransfer::Rejected,
                ..new
            },
        ),
        (
            GuardEvent::UnfinishedMigrationFound,
            GuardState {
                migration: MigrationPhase::Started,
                transfer: DeviceStateTransfer::Committed,
                relay: RelayStatus::Ended,
                autostart: Autostart::Blocked,
                has_return_path: true,
                ..new
            },
        ),
        (
            GuardEvent::CommandExecuted(Command::QuitDestination, CommandOutcome::Done),
            GuardState {
                destination: DestinationCommandState::Quitting,
                ..new
            },
        ),
        (
            GuardEvent::CommandExecuted(Command::ResumeSource, CommandOutcome::Done),
            GuardState {
                source: SourceCommandState::Resumed,
                ..new
            },
        ),
    ] {
        assert_eq!(new.transition(&event), after, "{event:?}");
    }
}
