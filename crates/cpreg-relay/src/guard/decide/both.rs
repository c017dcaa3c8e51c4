//! With both monitors, or the beginning of any: what is decided first.

use super::alone::{dest_alone, source_alone};
use super::situation::{Action, FOR_GOOD, LATE, SOON, Situation};
use super::ways::{back_to_source, conclude, in_progress, loaded, ran_and_stopped, source_stopped};
use crate::guard::machine::Command;
use crate::guard::states::{MigrationStatus, RunState, Side};
use crate::guard::whereabouts::{Place, Whereabouts};

/// Decides.
pub(in crate::guard) fn decide(it: &Situation) -> Action {
    match next(it) {
        Action::Wait if it.state.relay_has_ended() && it.unchanged >= FOR_GOOD => {
            let (source, dest) = (&it.source, &it.dest);
            Action::Conclude(
                Whereabouts::new(
                    Place::UNKNOWN,
                    None,
                    format!(
                        "nothing changes any more. The source: {source}. The destination: {dest}"
                    ),
                )
                .advise("let only one of them go on, and end the other (`quit`) before"),
            )
        }
        action => action,
    }
}

fn next(it: &Situation) -> Action {
    // A relay may know of the stream before the source says anything of a migration.
    if !it.state.has_begun() || it.source.migration_is(&MigrationStatus::NONE) {
        return not_begun(it);
    }
    match &it.source {
        Side::NotAsked => dest_alone(it),
        Side::Gone => source_gone(it),
        Side::Unreachable => source_silent(it),
        Side::Present { run, migration } => {
            if it.dest == Side::NotAsked {
                return source_alone(it, run, migration);
            }
            if *run == RunState::RUNNING {
                if it.state.dest.has_run() && it.dest != Side::Gone {
                    // A source of 10.0 and later goes on if postcopy breaks at its very end. What ran last is at the destination.
                    return Action::Tell(Command::StopSource);
                }
                // `completed` comes after the guest was stopped: one that runs was told to, by this guard or by somebody else.
                let is_back = it.state.source.was_let_go() || it.unchanged >= SOON;
                if migration.is_settled() && (*migration != MigrationStatus::COMPLETED || is_back) {
                    return source_runs(it, migration);
                }
                return in_progress(it, run, migration);
            }
            if *migration == MigrationStatus::COMPLETED {
                return source_completed(it);
            }
            if migration.is_settled() {
                return source_stopped(it, run, migration);
            }
            in_progress(it, run, migration)
        }
    }
}

/// Nobody has started a migration yet.
fn not_begun(it: &Situation) -> Action {
    if !(it.state.relay_has_ended() || it.state.device_state.is_refused()) || it.unchanged < SOON {
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
    Action::Conclude(if it.state.is_held() && it.dest.is(&RunState::INMIGRATE) {
        found.advise(
            "the destination still waits, and was told not to start by itself: QMP `cont` \
             there takes that back, before it is used otherwise",
        )
    } else {
        found
    })
}

/// The source runs, its migration has failed or was given up: the destination's copy must not be used.
fn source_runs(it: &Situation, migration: &MigrationStatus) -> Action {
    let why = if it.state.source.was_let_go() {
        "it was let go on there".to_owned()
    } else {
        format!("its migration is `{migration}`, and it runs")
    };
    match &it.dest {
        Side::Gone => conclude(Place::SOURCE, true, why + "; the destination has ended"),
        _ if it.state.dest.has_confirmed_to_quit() => {
            conclude(Place::SOURCE, true, why + "; the destination was ended")
        }
        Side::Present { .. } => Action::Tell(Command::QuitDest),
        Side::Unreachable if it.unchanged < LATE => Action::Wait,
        Side::Unreachable | Side::NotAsked => {
            let held = if it.state.is_held() {
                "was told not to start by itself"
            } else {
                "may have started"
            };
            Action::Conclude(
                Whereabouts::new(
                    if it.state.is_held() {
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
fn source_completed(it: &Situation) -> Action {
    if it.state.is_withheld() && !it.state.dest.has_run() {
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
                return if it.state.dest.has_run() {
                    ran_and_stopped(it)
                } else {
                    back_to_source(it, "the destination failed to load it")
                };
            }
            if *run == RunState::INMIGRATE {
                // Without a return path the source is ahead of the destination, as long as a socket is filled.
                if it.state.relay_has_ended() && it.unchanged >= LATE && !it.state.dest.has_run() {
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
            if it.state.dest.has_run() {
                return ran_and_stopped(it);
            }
            back_to_source(it, "the destination has ended before it ran it")
        }
    }
}

/// The source's process has ended.
fn source_gone(it: &Situation) -> Action {
    match &it.dest {
        Side::Present { run, migration } => {
            if *run == RunState::INMIGRATE {
                if it.unchanged < LATE && !it.state.is_withheld() {
                    return Action::Wait;
                }
                return Action::Conclude(lost(
                    "the source has ended before the destination had all \
                 of it",
                ));
            }
            if migration.is_postcopy() {
                return Action::Conclude(lost(
                    "the source has ended while the destination still \
                 fetched memory from it",
                ));
            }
            if *migration == MigrationStatus::FAILED {
                return Action::Conclude(lost(
                    "the source has ended, and the destination failed to \
                 load it",
                ));
            }
            if *run == RunState::RUNNING {
                return conclude(
                    Place::DESTINATION,
                    true,
                    "it is loaded there and runs; the source \
                 has ended",
                );
            }
            if *migration != MigrationStatus::COMPLETED {
                return if it.unchanged < LATE {
                    Action::Wait
                } else {
                    Action::Conclude(lost(
                        "the source has ended before the destination had all of \
                     it",
                    ))
                };
            }
            match loaded(it, run) {
                Action::Tell(Command::QuitDest | Command::RunSource) => Action::Conclude(
                    Whereabouts::new(
                        Place::DESTINATION,
                        Some(false),
                        "it is loaded there, the \
                     source has ended, and QEMU refused to let it go on",
                    )
                    .advise("QMP `cont` at the destination tells why"),
                ),
                other => other,
            }
        }
        Side::Gone if it.state.dest.has_run() => ran_and_stopped(it),
        Side::Gone => Action::Conclude(lost("both QEMUs have ended")),
        Side::Unreachable if it.unchanged < LATE => Action::Wait,
        Side::Unreachable | Side::NotAsked => Action::Conclude(
            Whereabouts::new(
                Place::UNKNOWN,
                None,
                "the source has ended, and the destination was \
             not or could not be asked",
            )
            .advise(
                "QMP `query-status` at the destination: `paused` with `query-migrate` \
                 `completed`: `cont` lets it go on; `inmigrate`: the VM is lost",
            ),
        ),
    }
}

fn lost(why: &str) -> Whereabouts {
    Whereabouts::new(Place::NOWHERE, Some(false), why)
        .advise("start it anew from its disks, at the source or at the destination")
}

/// The source is there, as far as is known, and does not answer.
fn source_silent(it: &Situation) -> Action {
    if it.dest.is(&RunState::RUNNING) && !it.state.is_held() {
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
            format!(
                "the source does not answer; the \
         destination: {dest}"
            ),
        )
        .advise(
            "make sure what the source does. If it has ended or its `query-migrate` is \
             `completed`: QMP `cont` at the destination. If it runs: `quit` at the \
             destination",
        ),
    )
}
