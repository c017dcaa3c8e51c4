//! What the guard does next: a function of what is seen, and nothing else.
//!
//! It reads no clock, talks to nobody and remembers nothing: [`super::engine`] does that. What it rests on (tried with QEMU 7.2, 10.0
//! and 11.1, see docs/facts.md):
//!
//! | rule | because |
//! |---|---|
//! | the destination is held, so it runs only when told to | QMP `stop` in `inmigrate` switches its autostart off |
//! | it is told to only when the source is `completed` and stopped | a source that is `completed` never goes on by itself |
//! | in postcopy: when it has the device state, and the source is then `postcopy-active` and stopped | it has to fetch its memory while it runs |
//! | a destination that was told to run bars the source for good | what it did to disks and networks cannot be undone |
//! | a source that is stopped is told to run only when the destination cannot | it has ended, was told to quit, or is held and does not answer |
//! | a source that runs ends the destination, if that was never told to run | its copy must not be used |

mod alone;

use std::time::Duration;

use super::states::{MigrationStatus, RunState, Side};
use super::whereabouts::{Place, Whereabouts};

/// How long a QEMU gets to do by itself what it usually does at once: to notice that a connection is gone, to let its guest go on.
pub(super) const SOON: Duration = Duration::from_secs(2);

/// How long one that hangs or does not answer gets.
pub(super) const LATE: Duration = Duration::from_secs(30);

/// How long is waited in vain, before the user has to look.
pub(super) const FOR_GOOD: Duration = Duration::from_secs(120);

/// What the relay has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each was said or was not")]
pub(super) struct Relay {
    /// Device state may have gone on.
    pub(super) passing: bool,
    /// None went on and none will.
    pub(super) refused: bool,
    /// All of the stream went on, and the success back.
    pub(super) delivered: bool,
    /// It carries nothing any more: it said so, or is gone.
    pub(super) ended: bool,
}

impl Relay {
    /// Whether the destination cannot have the device state, now or later.
    fn has_withheld(self) -> bool {
        !self.passing && (self.refused || self.ended)
    }
}

/// What the guard has done and seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each has happened or has not"
)]
pub(super) struct Memory {
    /// The guest ran at the source when its migration last left it to itself.
    pub(super) was_running: bool,
    /// The migration has begun; before that, what `query-migrate` says is about an earlier one.
    pub(super) begun: bool,
    /// The destination has confirmed that it will not start by itself.
    pub(super) held: bool,
    /// The destination was told to run, or was seen running. Never taken back, but for a `cont` that it refused.
    pub(super) dest_ran: bool,
    /// It refused to run when told to, for long enough.
    pub(super) dest_cannot: bool,
    /// It has confirmed that it quits.
    pub(super) dest_quits: bool,
    /// The source was told to give its migration up.
    pub(super) cancelled: bool,
    /// The source was told to run.
    pub(super) source_told: bool,
    /// The source refused to run when told to, for long enough.
    pub(super) source_cannot: bool,
    /// There is a return path: `completed` at the source means loaded at the destination.
    pub(super) return_path: bool,
}

/// All that a decision looks at.
#[derive(Clone, Debug)]
pub(super) struct Situation {
    pub(super) source: Side,
    pub(super) dest: Side,
    pub(super) relay: Relay,
    pub(super) memory: Memory,
    /// How long nothing of the above has changed.
    pub(super) unchanged: Duration,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Look again.
    Wait,
    /// `migrate_cancel` at the source.
    Cancel,
    /// `cont` at the source.
    RunSource,
    /// `stop` at the source, which runs although the destination does.
    StopSource,
    /// `cont` at the destination.
    RunDest,
    /// `quit` at the destination.
    QuitDest,
    /// It is over.
    Conclude(Whereabouts),
}

/// Decides.
pub(super) fn decide(it: &Situation) -> Action {
    match next(it) {
        Action::Wait if it.relay.ended && it.unchanged >= FOR_GOOD => {
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
    if !it.memory.begun || it.source.migration_is(&MigrationStatus::NONE) {
        return not_begun(it);
    }
    match &it.source {
        Side::NotAsked => alone::dest_alone(it),
        Side::Gone => source_gone(it),
        Side::Unreachable => source_silent(it),
        Side::Present { run, migration } => {
            if it.dest == Side::NotAsked {
                return alone::source_alone(it, run, migration);
            }
            if *run == RunState::RUNNING {
                if it.memory.dest_ran && it.dest != Side::Gone {
                    // A source of 10.0 and later goes on if postcopy breaks at its very end. What ran last is at the destination.
                    return Action::StopSource;
                }
                // `completed` comes after the guest was stopped: one that runs was told to, by this guard or by somebody else.
                let is_back = it.memory.source_told || it.unchanged >= SOON;
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

fn conclude(place: Place, running: bool, why: impl Into<String>) -> Action {
    Action::Conclude(Whereabouts::new(place, Some(running), why))
}

/// Nobody has started a migration yet.
fn not_begun(it: &Situation) -> Action {
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
            "the destination still waits, and was told not to start by itself: QMP `cont` there takes that back, before it is used otherwise",
        )
    } else {
        found
    })
}

/// The source runs, its migration has failed or was given up: the destination's copy must not be used.
fn source_runs(it: &Situation, migration: &MigrationStatus) -> Action {
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
                    if it.memory.held { Place::SOURCE } else { Place::UNKNOWN },
                    Some(true),
                    format!("{why}; the destination does not answer, and {held}"),
                )
                .advise("end the destination's QEMU (`quit`), and never let it go on: the VM is at the source"),
            )
        }
    }
}

/// The source is stopped for good and says that all is written; with a return path, also that all is loaded.
fn source_completed(it: &Situation) -> Action {
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
fn loaded(it: &Situation, run: &RunState) -> Action {
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
fn back_to_source(it: &Situation, why: &str) -> Action {
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
            Whereabouts::new(Place::UNKNOWN, None, "the source is stopped, and nobody knows what the destination does").advise(
                "look at the destination. If its QEMU has ended, or is ended (`quit`): QMP `cont` at the source. If it has the VM: leave it there",
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
fn source_stopped(it: &Situation, run: &RunState, migration: &MigrationStatus) -> Action {
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
fn in_progress(it: &Situation, run: &RunState, migration: &MigrationStatus) -> Action {
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
fn postcopy(it: &Situation, is_stopped: bool, migration: &MigrationStatus) -> Action {
    let is_paused = *migration == MigrationStatus::POSTCOPY_PAUSED;
    match &it.dest {
        Side::Present { run, migration: there } => {
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
            if (is_paused || *there == MigrationStatus::POSTCOPY_PAUSED) && it.relay.ended && it.unchanged >= SOON {
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
            Whereabouts::new(Place::UNKNOWN, None, format!("postcopy was entered (`{migration}`), and the destination does not answer"))
                .advise("nothing was ended: the VM's memory may be on both sides. Look at the destination, and recover (`migrate-recover` there, `migrate` with `resume` at the source)"),
        ),
    }
}

/// Postcopy was entered, and the destination never ran and never will: only the source has the VM, and it waits for a recovery.
fn stuck(it: &Situation) -> Action {
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
            "postcopy was entered, and the destination cannot run it: the source holds all of the VM and does not let it go on",
        )
        .advise("QEMU up to 10.1 cannot go back from postcopy (`cont`: Migration is not finalized yet): the guest can only be started anew. 10.2 and later can"),
    )
}

/// The destination has the VM, and the source has not ended well.
fn incomplete(run: &RunState, migration: &MigrationStatus) -> Whereabouts {
    let runs = Some(*run == RunState::RUNNING);
    if *migration == MigrationStatus::COMPLETED {
        return Whereabouts::new(
            Place::DESTINATION,
            runs,
            "it has run there and has all its memory; the source was not told, and holds an old copy",
        )
        .advise("end the source's QEMU (`quit`), and never let it go on");
    }
    Whereabouts::new(
        Place::DESTINATION,
        runs,
        format!("postcopy was entered, and the connection is lost before all memory was there (`{migration}`)"),
    )
    .advise(
        "end neither QEMU. If the source is `postcopy-paused`: QMP `migrate-recover` at the destination with a new address, then `migrate` with `resume` \
         to it at the source. If not, the guest runs on until it needs what is missing",
    )
}

/// The destination has run the VM and does not any more.
fn ran_and_stopped(it: &Situation) -> Action {
    if it.dest == Side::Unreachable && it.unchanged < LATE {
        return Action::Wait;
    }
    let how = if it.dest == Side::Gone {
        "has ended since"
    } else {
        "does not answer since"
    };
    Action::Conclude(
        Whereabouts::new(Place::DESTINATION, None, format!("the destination was told to run it, and {how}"))
            .advise("do not let the source go on: the VM has run elsewhere, and its disks are no longer those that the source knows"),
    )
}

/// The source's process has ended.
fn source_gone(it: &Situation) -> Action {
    match &it.dest {
        Side::Present { run, migration } => {
            if *run == RunState::INMIGRATE {
                if it.unchanged < LATE && !it.relay.has_withheld() {
                    return Action::Wait;
                }
                return Action::Conclude(lost("the source has ended before the destination had all of it"));
            }
            if migration.is_postcopy() {
                return Action::Conclude(lost("the source has ended while the destination still fetched memory from it"));
            }
            if *migration == MigrationStatus::FAILED {
                return Action::Conclude(lost("the source has ended, and the destination failed to load it"));
            }
            if *run == RunState::RUNNING {
                return conclude(Place::DESTINATION, true, "it is loaded there and runs; the source has ended");
            }
            if *migration != MigrationStatus::COMPLETED {
                return if it.unchanged < LATE {
                    Action::Wait
                } else {
                    Action::Conclude(lost("the source has ended before the destination had all of it"))
                };
            }
            match loaded(it, run) {
                Action::QuitDest | Action::RunSource => Action::Conclude(
                    Whereabouts::new(Place::DESTINATION, Some(false), "it is loaded there, the source has ended, and QEMU refused to let it go on")
                        .advise("QMP `cont` at the destination tells why"),
                ),
                other => other,
            }
        }
        Side::Gone if it.memory.dest_ran => ran_and_stopped(it),
        Side::Gone => Action::Conclude(lost("both QEMUs have ended")),
        Side::Unreachable if it.unchanged < LATE => Action::Wait,
        Side::Unreachable | Side::NotAsked => Action::Conclude(
            Whereabouts::new(Place::UNKNOWN, None, "the source has ended, and the destination was not or could not be asked")
                .advise("QMP `query-status` at the destination: `paused` with `query-migrate` `completed`: `cont` lets it go on; `inmigrate`: the VM is lost"),
        ),
    }
}

fn lost(why: &str) -> Whereabouts {
    Whereabouts::new(Place::NOWHERE, Some(false), why)
        .advise("start it anew from its disks, at the source or at the destination")
}

/// The source is there, as far as is known, and does not answer.
fn source_silent(it: &Situation) -> Action {
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
        Whereabouts::new(Place::UNKNOWN, None, format!("the source does not answer; the destination: {dest}")).advise(
            "make sure what the source does. If it has ended or its `query-migrate` is `completed`: QMP `cont` at the destination. If it runs: `quit` at the destination",
        ),
    )
}

#[cfg(test)]
mod tests;
