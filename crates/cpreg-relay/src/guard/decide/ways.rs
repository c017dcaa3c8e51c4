//! Where a migration that did not simply succeed can lead: decided alike with one monitor and with
//! two.

use super::situation::{Action, LATE, SOON, Situation};
use crate::guard::machine::{Command, Migration};
use crate::guard::states::{MigrationStatus, RunState, Side};
use crate::guard::whereabouts::{Place, Whereabouts};

pub(super) fn conclude(place: Place, running: bool, why: impl Into<String>) -> Action {
    Action::Conclude(Whereabouts::new(place, Some(running), why))
}

/// The destination has all of it and stands still.
pub(super) fn loaded(it: &Situation, run: &RunState) -> Action {
    let waits = *run == RunState::PAUSED || *run == RunState::PRELAUNCH;
    if !waits {
        return conclude(
            Place::DESTINATION,
            false,
            format!("it is loaded there; its guest is `{run}`, as it was at the source"),
        );
    }
    if it.state.dest.has_run() && it.unchanged < SOON {
        return Action::Wait;
    }
    if it.state.dest.has_run() {
        return conclude(
            Place::DESTINATION,
            false,
            "it has run there, and was paused since",
        );
    }
    if !it.state.is_to_run() {
        return conclude(
            Place::DESTINATION,
            false,
            "it is loaded there, paused as it was at the source",
        );
    }
    if it.state.dest.has_refused() {
        return back_to_source(it, "the destination cannot run it");
    }
    Action::Tell(Command::RunDest)
}

/// Lets the source go on, once the destination cannot.
pub(super) fn back_to_source(it: &Situation, why: &str) -> Action {
    if it.state.dest.has_run() {
        return ran_and_stopped(it);
    }
    let safe = match &it.dest {
        Side::Gone => true,
        _ if it.state.dest.has_confirmed_to_quit() => true,
        Side::Present { .. } => return Action::Tell(Command::QuitDest),
        Side::NotAsked => it.state.is_withheld(),
        Side::Unreachable if it.unchanged < LATE => return Action::Wait,
        // Nobody but this guard lets it run, and this guard has not.
        Side::Unreachable => it.state.is_held() || it.state.is_withheld(),
    };
    if !safe {
        return Action::Conclude(
            Whereabouts::new(
                Place::UNKNOWN,
                None,
                "the source is stopped, and nobody knows what \
             the destination does",
            )
            .advise(
                "look at the destination. If its QEMU has ended, or is ended (`quit`): QMP \
                 `cont` at the source. If it has the VM: leave it there",
            ),
        );
    }
    if !it.state.is_to_run() {
        return conclude(
            Place::SOURCE,
            false,
            format!("{why}; it was paused there before"),
        );
    }
    if it.state.source.has_refused() {
        return Action::Conclude(
            Whereabouts::new(
                Place::SOURCE,
                Some(false),
                format!("{why}; QEMU refused to let it go on at the source"),
            )
            .advise("QMP `cont` at the source tells why"),
        );
    }
    Action::Tell(Command::RunSource)
}

/// The source's migration has failed and its guest is stopped. It usually goes on by itself, at once.
pub(super) fn source_stopped(
    it: &Situation,
    run: &RunState,
    migration: &MigrationStatus,
) -> Action {
    if it.state.dest.has_run() {
        return match &it.dest {
            Side::Present { run, migration } => Action::Conclude(incomplete(run, migration)),
            _ => ran_and_stopped(it),
        };
    }
    if !it.state.is_to_run() || !run.is_migrated() {
        // Paused before, or stopped by somebody: it is not for the guard to let it run.
        return match &it.dest {
            Side::Present { .. } if !it.state.dest.has_confirmed_to_quit() => {
                Action::Tell(Command::QuitDest)
            }
            Side::Unreachable if it.unchanged < LATE => Action::Wait,
            _ => conclude(
                Place::SOURCE,
                false,
                format!("its migration is `{migration}`, and it is `{run}` there as before"),
            ),
        };
    }
    if it.unchanged < SOON && !it.state.dest.has_confirmed_to_quit() {
        return Action::Wait;
    }
    back_to_source(it, "its migration failed")
}

/// A migration is under way.
pub(super) fn in_progress(it: &Situation, run: &RunState, migration: &MigrationStatus) -> Action {
    let is_stopped = run.is_migrated();
    if migration.is_postcopy() {
        return postcopy(it, is_stopped, migration);
    }
    if it.state.dest.has_run() {
        // It was told to run too early, or by somebody else; 10.2 and later can still fail here.
        return Action::Wait;
    }
    let is_under_way = !migration.is_settled();
    let hopeless =
        it.state.relay_has_ended() || it.state.device_state.is_refused() || it.dest == Side::Gone;
    if is_under_way
        && hopeless
        && it.state.migration != Migration::Cancelled
        && it.unchanged >= SOON
    {
        return Action::Tell(Command::Cancel);
    }
    Action::Wait
}

/// The source has given the VM away and sends its memory after it.
pub(super) fn postcopy(it: &Situation, is_stopped: bool, migration: &MigrationStatus) -> Action {
    let is_paused = *migration == MigrationStatus::POSTCOPY_PAUSED;
    match &it.dest {
        Side::Present {
            run,
            migration: there,
        } => {
            let has_device_state = there.is_postcopy() || *there == MigrationStatus::COMPLETED;
            if *run == RunState::PAUSED
                && has_device_state
                && is_stopped
                && !it.state.dest.has_run()
            {
                if it.state.is_to_run() {
                    return Action::Tell(Command::RunDest);
                }
                if *there == MigrationStatus::COMPLETED {
                    return Action::Wait;
                }
            }
            if *run == RunState::INMIGRATE && it.state.is_withheld() && !it.state.dest.has_run() {
                return stuck(it);
            }
            if (is_paused || *there == MigrationStatus::POSTCOPY_PAUSED)
                && it.state.relay_has_ended()
                && it.unchanged >= SOON
            {
                return Action::Conclude(incomplete(run, there));
            }
            Action::Wait
        }
        Side::Gone | Side::Unreachable if it.state.dest.has_run() => {
            if it.dest == Side::Unreachable && it.unchanged < LATE {
                return Action::Wait;
            }
            ran_and_stopped(it)
        }
        Side::Gone => stuck(it),
        Side::Unreachable | Side::NotAsked if it.unchanged < LATE => Action::Wait,
        Side::Unreachable | Side::NotAsked => Action::Conclude(
            Whereabouts::new(
                Place::UNKNOWN,
                None,
                format!(
                    "postcopy was entered (`{migration}`), \
             and the destination does not answer"
                ),
            )
            .advise(
                "nothing was ended: the VM's memory may be on both sides. Look at the \
                 destination, and recover (`migrate-recover` there, `migrate` with `resume` \
                 at the source)",
            ),
        ),
    }
}

/// Postcopy was entered, and the destination never ran and never will: only the source has the VM, and it waits for a recovery.
pub(super) fn stuck(it: &Situation) -> Action {
    if it.unchanged < SOON {
        return Action::Wait;
    }
    if matches!(it.dest, Side::Present { .. }) && !it.state.dest.has_confirmed_to_quit() {
        return Action::Tell(Command::QuitDest);
    }
    // 7.2 hangs in `cancelling` if told to give up here, 10.0 refuses; both refuse `cont`.
    Action::Conclude(
        Whereabouts::new(
            Place::SOURCE,
            Some(false),
            "postcopy was entered, and the destination cannot run it: the source holds \
             all of the VM and does not let it go on",
        )
        .advise(
            "QEMU up to 10.1 cannot go back from postcopy (`cont`: Migration is not \
         finalized yet): the guest can only be started anew. 10.2 and later can",
        ),
    )
}

/// The destination has the VM, and the source has not ended well.
pub(super) fn incomplete(run: &RunState, migration: &MigrationStatus) -> Whereabouts {
    let runs = Some(*run == RunState::RUNNING);
    if *migration == MigrationStatus::COMPLETED {
        return Whereabouts::new(
            Place::DESTINATION,
            runs,
            "it has run there and has all its memory; the source was not told, and holds \
             an old copy",
        )
        .advise("end the source's QEMU (`quit`), and never let it go on");
    }
    Whereabouts::new(
        Place::DESTINATION,
        runs,
        format!(
            "postcopy was entered, and the connection is lost before all memory was there \
         (`{migration}`)"
        ),
    )
    .advise(
        "end neither QEMU. If the source is `postcopy-paused`: QMP `migrate-recover` \
         at the destination with a new address, then `migrate` with `resume` to it at \
         the source. If not, the guest runs on until it needs what is missing",
    )
}

/// The destination has run the VM and does not any more.
pub(super) fn ran_and_stopped(it: &Situation) -> Action {
    if it.dest == Side::Unreachable && it.unchanged < LATE {
        return Action::Wait;
    }
    let how = if it.dest == Side::Gone {
        "has ended since"
    } else {
        "does not answer since"
    };
    Action::Conclude(
        Whereabouts::new(
            Place::DESTINATION,
            None,
            format!(
                "the destination was told to run it, \
         and {how}"
            ),
        )
        .advise(
            "do not let the source go on: the VM has run elsewhere, and its disks are no \
             longer those that the source knows",
        ),
    )
}
