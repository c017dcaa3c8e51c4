//! Every transition of every part, and that an event changes no other part.

use super::super::states::MigrationStatus;
use super::*;

fn side(run: &'static str, migration: &'static str) -> SideStatus {
    SideStatus::present(RunState::new(run), MigrationStatus::new(migration))
}

#[test]
fn migration_phase() {
    use MigrationPhase::{Cancelled, NotStarted, Started};
    let active = side("running", "active");
    let settled = side("running", "failed");
    for (before, event, after) in [
        (NotStarted, GuardEvent::MigrationStarted, Started),
        (NotStarted, GuardEvent::DeviceStateCommitted(None), Started),
        (NotStarted, GuardEvent::UnfinishedMigrationFound, Started),
        (NotStarted, GuardEvent::SourceReported(&active), Started),
        (NotStarted, GuardEvent::SourceReported(&settled), NotStarted),
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
        let next = state.transition(&event);
        assert_eq!(next.migration, after, "{before:?}: {event:?}");
    }
}

#[test]
fn device_state_transfer() {
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
            let next = state.transition(&event);
            assert_eq!(next.transfer, after, "{before:?}: {event:?}");
        }
    }
    for (transfer, has_relay_ended, is_withheld) in [
        (Pending, false, false),
        (Pending, true, true),
        (Rejected, false, true),
        (Committed, true, false),
        (Aborted, true, false),
        (Delivered, true, false),
    ] {
        let relay = if has_relay_ended {
            RelayStatus::Ended
        } else {
            RelayStatus::Running
        };
        let state = GuardState {
            transfer,
            relay,
            ..GuardState::INITIAL
        };
        assert_eq!(state.is_device_state_withheld(), is_withheld, "{state:?}");
    }
}

#[test]
fn source_guest() {
    use SourceGuestState::{Paused, Running};
    for (guest, has_started, run, migration, after) in [
        (Running, false, "paused", "none", Paused),
        (Paused, false, "running", "none", Running),
        (Running, true, "paused", "active", Paused),
        (Paused, true, "running", "active", Running),
        // Stopped by the migration only.
        (Running, true, "finish-migrate", "device", Running),
        (Running, true, "postmigrate", "completed", Running),
        // The migration has ended, or the VM is elsewhere: the source's state has no meaning any
        // more.
        (Running, true, "paused", "failed", Running),
        (Paused, true, "running", "failed", Paused),
        (Running, true, "paused", "postcopy-active", Running),
    ] {
        let phase = if has_started {
            MigrationPhase::Started
        } else {
            MigrationPhase::NotStarted
        };
        let state = GuardState {
            source_guest: guest,
            migration: phase,
            ..GuardState::INITIAL
        };
        let side = side(run, migration);
        let next = state.transition(&GuardEvent::SourceReported(&side));
        assert_eq!(next.source_guest, after, "{guest:?}, {has_started}: {side}");
    }
    assert_eq!(
        GuardState::INITIAL
            .transition(&GuardEvent::SourceGuestObserved(Paused))
            .source_guest,
        Paused
    );
    let committed = GuardEvent::DeviceStateCommitted(Some(Paused));
    assert_eq!(
        GuardState::INITIAL.transition(&committed).source_guest,
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
fn source_commands() {
    use SourceCommandState::{Pending, ResumeRefused, Resumed, ResumedAndRefused};
    let all = [Pending, Resumed, ResumeRefused, ResumedAndRefused];
    for (outcome, expected) in [
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
            let next =
                state.transition(&GuardEvent::CommandExecuted(Command::ResumeSource, outcome));
            assert_eq!(next.source, after, "{before:?}: {outcome:?}");
            let stop = GuardEvent::CommandExecuted(Command::StopSource, outcome);
            assert_eq!(state.transition(&stop), state);
        }
    }
}

#[test]
fn destination_commands() {
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
    let running = side("running", "completed");
    let paused = side("paused", "completed");
    let resumed = [
        Resumed,
        Resumed,
        ResumedAndQuitting,
        ResumedAndQuitting,
        Resumed,
        ResumedAndQuitting,
    ];
    let executed = GuardEvent::CommandExecuted;
    for (event, expected) in [
        (GuardEvent::DestinationReported(&running), resumed),
        (
            executed(Command::ResumeDestination, CommandOutcome::Done),
            resumed,
        ),
        (
            executed(Command::ResumeDestination, CommandOutcome::NoReply),
            resumed,
        ),
        (
            executed(Command::ResumeDestination, CommandOutcome::GivenUp),
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
            executed(Command::QuitDestination, CommandOutcome::Done),
            [
                Quitting,
                ResumeRefusedAndQuitting,
                Quitting,
                ResumeRefusedAndQuitting,
                ResumedAndQuitting,
                ResumedAndQuitting,
            ],
        ),
        (GuardEvent::DestinationReported(&paused), all),
        (GuardEvent::DestinationReported(&SideStatus::Exited), all),
        (
            executed(Command::ResumeDestination, CommandOutcome::Refused),
            all,
        ),
        (
            executed(Command::QuitDestination, CommandOutcome::NoReply),
            all,
        ),
    ] {
        for (before, after) in all.into_iter().zip(expected) {
            let state = GuardState {
                destination: before,
                ..GuardState::INITIAL
            };
            let next = state.transition(&event);
            assert_eq!(next.destination, after, "{before:?}: {event:?}");
        }
    }
}

#[test]
fn events_change_their_own_part_only() {
    let initial = GuardState::INITIAL;
    for (event, after) in [
        (
            GuardEvent::AutostartBlocked,
            GuardState {
                autostart: Autostart::Blocked,
                ..initial
            },
        ),
        (
            GuardEvent::ReturnPathEnabled,
            GuardState {
                has_return_path: true,
                ..initial
            },
        ),
        (
            GuardEvent::RelayEnded,
            GuardState {
                relay: RelayStatus::Ended,
                ..initial
            },
        ),
        (
            GuardEvent::DeviceStateRejected,
            GuardState {
                transfer: DeviceStateTransfer::Rejected,
                ..initial
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
                ..initial
            },
        ),
        (
            GuardEvent::CommandExecuted(Command::QuitDestination, CommandOutcome::Done),
            GuardState {
                destination: DestinationCommandState::Quitting,
                ..initial
            },
        ),
        (
            GuardEvent::CommandExecuted(Command::ResumeSource, CommandOutcome::Done),
            GuardState {
                source: SourceCommandState::Resumed,
                ..initial
            },
        ),
    ] {
        assert_eq!(initial.transition(&event), after, "{event:?}");
    }
}
