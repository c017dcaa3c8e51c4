//! The same with one monitor: what can be told from one side, and what cannot.

use super::situation::{Action, LATE, SOON, Situation};
use super::ways::{back_to_source, conclude, in_progress, loaded, postcopy, source_stopped};
use crate::guard::machine::{Command, DeviceState};
use crate::guard::states::{MigrationStatus, RunState, Side};
use crate::guard::whereabouts::{Place, Whereabouts};

/// Only the source's monitor was given.
pub(super) fn source_alone(it: &Situation, run: &RunState, migration: &MigrationStatus) -> Action {
    let runs = *run == RunState::RUNNING;
    if *migration == MigrationStatus::COMPLETED && !runs {
        if it.state.is_withheld() {
            return back_to_source(it, "the device state was not passed on");
        }
        if it.state.has_return_path {
            return Action::Conclude(Whereabouts::new(
                Place::DESTINATION,
                None,
                "the destination has told the source that it loaded all of it; whether it \
                 runs there was not asked",
            ));
        }
        if !it.state.relay_has_ended() {
            return Action::Wait;
        }
        return back_to_source(it, "its migration is over");
    }
    if !migration.is_settled() {
        if migration.is_postcopy() {
            return if it.state.relay_has_ended() {
                postcopy(it, !runs, migration)
            } else {
                Action::Wait
            };
        }
        return in_progress(it, run, migration);
    }
    if runs {
        let why = format!("its migration is `{migration}`, and it runs");
        if it.state.device_state.may_have_gone_on() {
            return Action::Conclude(
                Whereabouts::new(
                    Place::UNKNOWN,
                    Some(true),
                    format!(
                        "at the source {why}. Device state went on: the destination may run it \
                     as well, if it loaded all and its answer was lost"
                    ),
                )
                .advise("look at the destination at once: if its QEMU is there, end it (`quit`)"),
            );
        }
        return conclude(Place::SOURCE, true, why);
    }
    source_stopped(it, run, migration)
}

/// Only the destination's monitor was given.
pub(super) fn dest_alone(it: &Situation) -> Action {
    let unknown = |why: &str| {
        Action::Conclude(Whereabouts::new(Place::UNKNOWN, None, why).advise(
            "QMP `query-migrate` at the source: `completed`: `cont` at the destination. \
             Anything else: `quit` at the destination, and see that the source runs",
        ))
    };
    match &it.dest {
        Side::Gone => Action::Conclude(
            Whereabouts::new(
                Place::SOURCE,
                None,
                "the destination has ended; the source was not asked",
            )
            .advise("QMP `query-status` at the source; if it is `postmigrate`: `cont`"),
        ),
        _ if it.state.dest.has_confirmed_to_quit() => Action::Conclude(
            Whereabouts::new(
                Place::SOURCE,
                None,
                "the destination was ended, and has not run it; the source was not asked",
            )
            .advise("QMP `query-status` at the source; if it is `postmigrate`: `cont`"),
        ),
        Side::Present { run, migration } => {
            if *run == RunState::RUNNING {
                return conclude(Place::DESTINATION, true, "it runs there");
            }
            if it.state.is_withheld() && !it.state.dest.has_run() {
                return Action::Tell(Command::QuitDest);
            }
            if migration.is_postcopy() && *run == RunState::PAUSED && !it.state.dest.has_run() {
                // The relay has passed on the command to run, and the source cannot be asked.
                return Action::Tell(Command::RunDest);
            }
            if *migration == MigrationStatus::COMPLETED && *run != RunState::INMIGRATE {
                return if it.state.device_state == DeviceState::Delivered {
                    loaded(it, run)
                } else if it.state.relay_has_ended() && it.unchanged >= SOON {
                    unknown(
                        "the destination has loaded all of it and stands still; whether the source \
                         knows was not seen",
                    )
                } else {
                    Action::Wait
                };
            }
            if it.state.relay_has_ended() && it.unchanged >= LATE {
                return unknown("the destination has not loaded all of it");
            }
            Action::Wait
        }
        Side::Unreachable if it.unchanged < LATE => Action::Wait,
        Side::Unreachable | Side::NotAsked => unknown("the destination does not answer"),
    }
}
