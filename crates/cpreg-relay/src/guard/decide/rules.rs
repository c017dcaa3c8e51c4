//! The rules that [`super::decide`] applies: what follows from each state of the two QEMUs.

use super::situation::{Action, LATE, SOON, Situation};
use crate::guard::states::{MigrationStatus, RunState, Side};
use crate::guard::whereabouts::{Place, Whereabouts};

pub(super) fn conclude(place: Place, running: bool, why: impl Into<String>) -> Action {
    Action::Conclude(Whereabouts::new(place, Some(running), why))
}

/// Nobody has started a migration yet.
pub(super) fn not_begun(it: &Situation) -> Action {
    if !(it.relay.ended || it.relay.refused) || it.unchanged < SOON {
        return Action::Wait;
    }
    let found = match &it.source {
        Side::Gone => Whereabouts::new(
            Place::NOWHERE,
            None,
            "the source has ended, before any migration",
        ),
        Side::NotAsked | Side::Unreachable => {
            Whereabouts::new(Place::SOURCE, None, "no migration has begun")
        }
        Side::Present { run, .. } => Whereabouts::new(
            Place::SOURCE,
            Some(*run == RunState::RUNNING),
            "no migration has begun",
        ),
    };
    Action::Conclude(if it.memory.held && it.dest.is(&RunState::INMIGRATE) {
        found.advise(
            "the destination still waits, and was told not to start by itself: QMP `cont` there \
             takes that back, before it is used otherwise",
        )
    } else {
        found
    })
}

/// The source runs, its migration has failed or was given up: the destination's copy must not be used.
pub(super) fn source_runs(it: &Situation, migration: &MigrationStatus) -> Action {
    let why = if it.memory.source_told {
        "it was let go on there".to_owned()
    } else {
        format!("its migration is `{migration}`, and it runs")
    };
    match &it.dest {
        Side::Gone => conclude(Place::SOURCE, true, why + "; the destination has ended"),
        _ if it.memory.dest_quits => {
            conclude(Place::SOURCE, true, why + "; the destination was ended")
        }
        Side::Present { .. } => Action::QuitDest,
        Side::Unreachable if it.unchanged < LATE => Action::Wait,
        Side::Unreachable | Side::NotAsked => {
            let held = if it.memory.held {
                "was told not to start by itself"
            } else {
                "may have started"
            };
            Action::Conclude(
                Whereabouts::new(
                    if it.memory.held {
                        Place::SOURCE
                    } else {
                        Place::UNKNOWN
                    },
                    Some(true),
                    format!("{why}; the destination does not answer, and {held}"),
                )
                .advise(
                    "end the destination's QEMU (`quit`), and never let it go on: the VM is at \
                     the source",
                ),
            )
        }
    }
}

/// The source is stopped for good and says that all is written; with a return path, also that all is loaded.
pub(super) fn source_completed(it: &Situation) -> Action {
    if it.relay.has_withheld() && !it.memory.dest_ran {
        return back_to_source(it, "the device state was not passed on");
    }
    match &it.dest {
        Side::Present { run, migration } => {
            if *run == RunState::RUNNING {
                return conclude(
                    Place::DESTINATION,
                    true,
                    "its migration is `completed` at the source, and it runs at the destination",
                );
            }
            if *migration == MigrationStatus::FAILED {
                return if it.memory.dest_ran {
                    ran_and_stopped(it)
                } else {
                    back_to_source(it, "the destination failed to load it")
                };
            }
            if *run == RunState::INMIGRATE {
                // Without a return path the source is ahead of the destination, as long as a socket is filled.
                if it.relay.ended && it.unchanged >= LATE && !it.memory.dest_ran {
                    return back_to_source(
                        it,
                        "the destination has not loaded it, and nothing more comes",
                    );
                }
                return Action::Wait;
            }
            loaded(it, run)
        }
        Side::Gone | Side::Unreachable | Side::NotAsked => {
            if it.memory.dest_ran {
                return ran_and_stopped(it);
            }
            back_to_source(it, "the destination has ended before it ran it")
        }
    }
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
    if it.memory.dest_ran && it.unchanged < SOON {
        return Action::Wait;
    }
    if it.memory.dest_ran {
        return conclude(
            Place::DESTINATION,
            false,
            "it has run there, and was paused since",
        );
    }
    if !it.memory.was_running {
        return conclude(
            Place::DESTINATION,
            false,
            "it is loaded there, paused as it was at the source",
        );
    }
    if it.memory.dest_cannot {
        return back_to_source(it, "the destination cannot run it");
    }
    Action::RunDest
}

/// Lets the source go on, once the destination cannot.
pub(super) fn back_to_source(it: &Situation, why: &str) -> Action {
    if it.memory.dest_ran {
        return ran_and_stopped(it);
    }
    let safe = match &it.dest {
        Side::Gone => true,
        _ if it.memory.dest_quits => true,
        Side::Present { .. } => return Action::QuitDest,
        Side::NotAsked => it.relay.has_withheld(),
        Side::Unreachable if it.unchanged < LATE => return Action::Wait,
        // Nobody but this guard lets it run, and this guard has not.
        Side::Unreachable => it.memory.held || it.relay.has_withheld(),
    };
    if !safe {
        return Action::Conclude(
            Whereabouts::new(
                Place::UNKNOWN,
                None,
                "the source is stopped, and nobody knows what the destination does",
            )
            .advise(
                "look at the destination. If its QEMU has ended, or is ended (`quit`): QMP `cont` \
                 at the source. If it has the VM: leave it there",
            ),
        );
    }
    if !it.memory.was_running {
        return conclude(
            Place::SOURCE,
            false,
            format!("{why}; it was paused there before"),
        );
    }
    if it.memory.source_cannot {
        return Action::Conclude(
            Whereabouts::new(
                Place::SOURCE,
                Some(false),
                format!("{why}; QEMU refused to let it go on at the source"),
            )
            .advise("QMP `cont` at the source tells why"),
        );
    }
    Action::RunSource
}

/// The source's migration has failed and its guest is stopped. It usually goes on by itself, at once.
pub(super) fn source_stopped(
    it: &Situation,
    run: &RunState,
    migration: &MigrationStatus,
) -> Action {
    if it.memory.dest_ran {
        return match &it.dest {
            Side::Present { run, migration } => Action::Conclude(incomplete(run, migration)),
            _ => ran_and_stopped(it),
        };
    }
    if !it.memory.was_running || !run.is_migrated() {
        // Paused before, or stopped by somebody: it is not for the guard to let it run.
        return match &it.dest {
            Side::Present { .. } if !it.memory.dest_quits => Action::QuitDest,
            Side::Unreachable if it.unchanged < LATE => Action::Wait,
            _ => conclude(
                Place::SOURCE,
                false,
                format!("its migration is `{migration}`, and it is `{run}` there as before"),
            ),
        };
    }
    if it.unchanged < SOON && !it.memory.dest_quits {
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
    if it.memory.dest_ran {
        // It was told to run too early, or by somebody else; 10.2 and later can still fail here.
        return Action::Wait;
    }
    let is_under_way = !migration.is_settled();
    let hopeless = it.relay.ended || it.relay.refused || it.dest == Side::Gone;
    if is_under_way && hopeless && !it.memory.cancelled && it.unchanged >= SOON {
        return Action::Cancel;
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
            if *run == RunState::PAUSED && has_device_state && is_stopped && !it.memory.dest_ran {
                if it.memory.was_running {
                    return Action::RunDest;
                }
                if *there == MigrationStatus::COMPLETED {
                    return Action::Wait;
                }
            }
            if *run == RunState::INMIGRATE && it.relay.has_withheld() && !it.memory.dest_ran {
                return stuck(it);
            }
            if (is_paused || *there == MigrationStatus::POSTCOPY_PAUSED)
                && it.relay.ended
                && it.unchanged >= SOON
            {
                return Action::Conclude(incomplete(run, there));
            }
            Action::Wait
        }
        Side::Gone | Side::Unreachable if it.memory.dest_ran => {
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
                    "postcopy was entered (`{migration}`), and the destination does not answer"
                ),
            )
            .advise(
                "nothing was ended: the VM's memory may be on both sides. Look at the \
                 destination, and recover (`migrate-recover` there, `migrate` with `resume` at \
                 the source)",
            ),
        ),
    }
}

/// Postcopy was entered, and the destination never ran and never will: only the source has the VM, and it waits for a recovery.
pub(super) fn stuck(it: &Situation) -> Action {
    if it.unchanged < SOON {
        return Action::Wait;
    }
    if matches!(it.dest, Side::Present { .. }) && !it.memory.dest_quits {
        return Action::QuitDest;
    }
    // 7.2 hangs in `cancelling` if told to give up here, 10.0 refuses; both refuse `cont`.
    Action::Conclude(
        Whereabouts::new(
            Place::SOURCE,
            Some(false),
            "postcopy was entered, and the destination cannot run it: the source holds all of the \
             VM and does not let it go on",
        )
        .advise(
            "QEMU up to 10.1 cannot go back from postcopy (`cont`: Migration is not finalized \
             yet): the guest can only be started anew. 10.2 and later can",
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
            "it has run there and has all its memory; the source was not told, and holds an old \
             copy",
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
        "end neither QEMU. If the source is `postcopy-paused`: QMP `migrate-recover` at the \
         destination with a new address, then `migrate` with `resume` to it at the source. If \
         not, the guest runs on until it needs what is missing",
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
            format!("the destination was told to run it, and {how}"),
        )
        .advise(
            "do not let the source go on: the VM has run elsewhere, and its disks are no longer \
             those that the source knows",
        ),
    )
}

/// The source's process has ended.
pub(super) fn source_gone(it: &Situation) -> Action {
    match &it.dest {
        Side::Present { run, migration } => {
            if *run == RunState::INMIGRATE {
                if it.unchanged < LATE && !it.relay.has_withheld() {
                    return Action::Wait;
                }
                return Action::Conclude(lost(
                    "the source has ended before the destination had all of it",
                ));
            }
            if migration.is_postcopy() {
                return Action::Conclude(lost(
                    "the source has ended while the destination still fetched memory from it",
                ));
            }
            if *migration == MigrationStatus::FAILED {
                return Action::Conclude(lost(
                    "the source has ended, and the destination failed to load it",
                ));
            }
            if *run == RunState::RUNNING {
                return conclude(
                    Place::DESTINATION,
                    true,
                    "it is loaded there and runs; the source has ended",
                );
            }
            if *migration != MigrationStatus::COMPLETED {
                return if it.unchanged < LATE {
                    Action::Wait
                } else {
                    Action::Conclude(lost(
                        "the source has ended before the destination had all of it",
                    ))
                };
            }
            match loaded(it, run) {
                Action::QuitDest | Action::RunSource => Action::Conclude(
                    Whereabouts::new(
                        Place::DESTINATION,
                        Some(false),
                        "it is loaded there, the source has ended, and QEMU refused to let it go \
                         on",
                    )
                    .advise("QMP `cont` at the destination tells why"),
                ),
                other => other,
            }
        }
        Side::Gone if it.memory.dest_ran => ran_and_stopped(it),
        Side::Gone => Action::Conclude(lost("both QEMUs have ended")),
        Side::Unreachable if it.unchanged < LATE => Action::Wait,
        Side::Unreachable | Side::NotAsked => Action::Conclude(
            Whereabouts::new(
                Place::UNKNOWN,
                None,
                "the source has ended, and the destination was not or could not be asked",
            )
            .advise(
                "QMP `query-status` at the destination: `paused` with `query-migrate` \
                 `completed`: `cont` lets it go on; `inmigrate`: the VM is lost",
            ),
        ),
    }
}

pub(super) fn lost(why: &str) -> Whereabouts {
    Whereabouts::new(Place::NOWHERE, Some(false), why)
        .advise("start it anew from its disks, at the source or at the destination")
}

/// The source is there, as far as is known, and does not answer.
pub(super) fn source_silent(it: &Situation) -> Action {
    if it.dest.is(&RunState::RUNNING) && !it.memory.held {
        return conclude(
            Place::DESTINATION,
            true,
            "it runs there; the source does not answer",
        );
    }
    if it.unchanged < LATE {
        return Action::Wait;
    }
    let dest = &it.dest;
    Action::Conclude(
        Whereabouts::new(
            Place::UNKNOWN,
            None,
            format!("the source does not answer; the destination: {dest}"),
        )
        .advise(
            "make sure what the source does. If it has ended or its `query-migrate` is \
             `completed`: QMP `cont` at the destination. If it runs: `quit` at the destination",
        ),
    )
}
