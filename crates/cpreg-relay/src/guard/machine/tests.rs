//! Every transition, part by part; and that an event changes nothing else.

use super::super::states::MigrationStatus;
use super::*;

fn side(run: &'static str, migration: &'static str) -> Side {
    Side::present(RunState::new(run), MigrationStatus::new(migration))
}

#[test]
fn the_migration() {
    use Migration::{Begun, Cancelled, NotBegun};
    let active = side("running", "active");
    let over = side("running", "failed");
    for (before, event, after) in [
        (NotBegun, Event::Began, Begun),
        (NotBegun, Event::Passing(None), Begun),
        (NotBegun, Event::LeftOver, Begun),
        (NotBegun, Event::SourceSays(&active), Begun),
        (NotBegun, Event::SourceSays(&over), NotBegun),
        (NotBegun, Event::SourceSays(&Side::Gone), NotBegun),
        (NotBegun, Event::Refused, NotBegun),
        (NotBegun, Event::RelayEnded, NotBegun),
        (Begun, Event::Began, Begun),
        (Begun, Event::Told(Command::Cancel, Tried::Told), Cancelled),
        (
            Begun,
            Event::Told(Command::Cancel, Tried::Refused),
            Cancelled,
        ),
        (
            Begun,
            Event::Told(Command::Cancel, Tried::Silent),
            Cancelled,
        ),
        (Cancelled, Event::Began, Cancelled),
        (Cancelled, Event::Passing(None), Cancelled),
        (Cancelled, Event::SourceSays(&active), Cancelled),
    ] {
        let state = GuardState {
            migration: before,
            ..GuardState::NEW
        };
        let now = state.after(&event);
        assert_eq!(now.migration, after, "{before:?}: {event:?}");
    }
}

#[test]
fn the_device_state() {
    use DeviceState::{CutOff, Delivered, Expected, Passing, Withheld};
    let all = [Expected, Withheld, Passing, CutOff, Delivered];
    for (event, expected) in [
        (
            Event::Passing(None),
            [Passing, CutOff, Passing, CutOff, Delivered],
        ),
        (
            Event::Refused,
            [Withheld, Withheld, CutOff, CutOff, Delivered],
        ),
        (
            Event::Delivered,
            [Delivered, Withheld, Delivered, CutOff, Delivered],
        ),
        (
            Event::LeftOver,
            [Passing, CutOff, Passing, CutOff, Delivered],
        ),
        (Event::Began, all),
        (Event::RelayEnded, all),
        (Event::Told(Command::QuitDest, Tried::Told), all),
    ] {
        for (before, after) in all.into_iter().zip(expected) {
            let state = GuardState {
                device_state: before,
                ..GuardState::NEW
            };
            let now = state.after(&event);
            assert_eq!(now.device_state, after, "{before:?}: {event:?}");
        }
    }
    for (device_state, ended, withheld) in [
        (Expected, false, false),
        (Expected, true, true),
        (Withheld, false, true),
        (Passing, true, false),
        (CutOff, true, false),
        (Delivered, true, false),
    ] {
        let relay = if ended { Relay::Ended } else { Relay::Carries };
        let state = GuardState {
            device_state,
            relay,
            ..GuardState::NEW
        };
        assert_eq!(state.is_withheld(), withheld, "{state:?}");
    }
}

#[test]
fn what_the_guest_did() {
    use Guest::{Paused, Ran};
    for (guest, begun, run, migration, after) in [
        (Ran, false, "paused", "none", Paused),
        (Paused, false, "running", "none", Ran),
        (Ran, true, "paused", "active", Paused),
        (Paused, true, "running", "active", Ran),
        // Stopped by the migration, and by nobody else.
        (Ran, true, "finish-migrate", "device", Ran),
        (Ran, true, "postmigrate", "completed", Ran),
        // It is over, or the VM is elsewhere: what the source says now tells nothing.
        (Ran, true, "paused", "failed", Ran),
        (Paused, true, "running", "failed", Paused),
        (Ran, true, "paused", "postcopy-active", Ran),
    ] {
        let migration_part = if begun {
            Migration::Begun
        } else {
            Migration::NotBegun
        };
        let state = GuardState {
            guest,
            migration: migration_part,
            ..GuardState::NEW
        };
        let side = side(run, migration);
        let now = state.after(&Event::SourceSays(&side));
        assert_eq!(now.guest, after, "{guest:?}, {begun}: {side}");
    }
    assert_eq!(GuardState::NEW.after(&Event::Found(Paused)).guest, Paused);
    let passing = Event::Passing(Some(Paused));
    assert_eq!(GuardState::NEW.after(&passing).guest, Paused);
    assert_eq!(GuardState::NEW.after(&Event::Passing(None)).guest, Ran);
}

#[test]
fn the_source() {
    use Source::{LetGo, Refuses, RefusesAgain, Untold};
    let all = [Untold, LetGo, Refuses, RefusesAgain];
    for (tried, expected) in [
        (Tried::Told, [LetGo, LetGo, RefusesAgain, RefusesAgain]),
        (
            Tried::GivenUp,
            [Refuses, RefusesAgain, Refuses, RefusesAgain],
        ),
        (Tried::Refused, all),
        (Tried::Silent, all),
    ] {
        for (before, after) in all.into_iter().zip(expected) {
            let state = GuardState {
                source: before,
                ..GuardState::NEW
            };
            let now = state.after(&Event::Told(Command::RunSource, tried));
            assert_eq!(now.source, after, "{before:?}: {tried:?}");
            let stopped = Event::Told(Command::StopSource, tried);
            assert_eq!(state.after(&stopped), state);
        }
    }
}

#[test]
fn the_destination() {
    use Dest::{Quits, Ran, RanAndQuits, Refuses, RefusesAndQuits, Untold};
    let all = [Untold, Refuses, Quits, RefusesAndQuits, Ran, RanAndQuits];
    let runs = side("running", "completed");
    let stands = side("paused", "completed");
    let ran = [Ran, Ran, RanAndQuits, RanAndQuits, Ran, RanAndQuits];
    let told = Event::Told;
    for (event, expected) in [
        (Event::DestSays(&runs), ran),
        (told(Command::RunDest, Tried::Told), ran),
        (told(Command::RunDest, Tried::Silent), ran),
        (
            told(Command::RunDest, Tried::GivenUp),
            [
                Refuses,
                Refuses,
                RefusesAndQuits,
                RefusesAndQuits,
                Ran,
                RanAndQuits,
            ],
        ),
        (
            told(Command::QuitDest, Tried::Told),
            [
                Quits,
                RefusesAndQuits,
                Quits,
                RefusesAndQuits,
                RanAndQuits,
                RanAndQuits,
            ],
        ),
        (Event::DestSays(&stands), all),
        (Event::DestSays(&Side::Gone), all),
        (told(Command::RunDest, Tried::Refused), all),
        (told(Command::QuitDest, Tried::Silent), all),
    ] {
        for (before, after) in all.into_iter().zip(expected) {
            let state = GuardState {
                dest: before,
                ..GuardState::NEW
            };
            let now = state.after(&event);
            assert_eq!(now.dest, after, "{before:?}: {event:?}");
        }
    }
}

#[test]
fn each_event_changes_its_own_part() {
    let new = GuardState::NEW;
    for (event, after) in [
        (
            Event::Held,
            GuardState {
                hold: Hold::Held,
                ..new
            },
        ),
        (
            Event::ReturnPath,
            GuardState {
                has_return_path: true,
                ..new
            },
        ),
        (
            Event::RelayEnded,
            GuardState {
                relay: Relay::Ended,
                ..new
            },
        ),
        (
            Event::Refused,
            GuardState {
                device_state: DeviceState::Withheld,
                ..new
            },
        ),
        (
            Event::LeftOver,
            GuardState {
                migration: Migration::Begun,
                device_state: DeviceState::Passing,
                relay: Relay::Ended,
                hold: Hold::Held,
                has_return_path: true,
                ..new
            },
        ),
        (
            Event::Told(Command::QuitDest, Tried::Told),
            GuardState {
                dest: Dest::Quits,
                ..new
            },
        ),
        (
            Event::Told(Command::RunSource, Tried::Told),
            GuardState {
                source: Source::LetGo,
                ..new
            },
        ),
    ] {
        assert_eq!(new.after(&event), after, "{event:?}");
    }
}
