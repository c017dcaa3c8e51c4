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
mod rules;
mod situation;

use super::states::{MigrationStatus, RunState, Side};
use super::whereabouts::{Place, Whereabouts};
use rules::{
    in_progress, not_begun, source_completed, source_gone, source_runs, source_silent,
    source_stopped,
};
pub(super) use situation::{Action, FOR_GOOD, LATE, Memory, Relay, SOON, Situation};

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

#[cfg(test)]
mod tests;
