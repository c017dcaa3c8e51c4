//! The same with one monitor: what can be told from one side, and what cannot.

use super::cases::{
    conclude, decide_in_progress, decide_loaded, decide_postcopy, decide_source_stopped,
    resume_source_if_safe,
};
use super::observation::{GRACE_PERIOD, GuardAction, Observation, UNRESPONSIVE_TIMEOUT};
use crate::guard::machine::{Command, DeviceStateTransfer};
use crate::guard::states::{MigrationStatus, RunState, SideStatus};
use crate::guard::vm_location_report::{VmLocationReport, VmPlace};

/// Only the source's monitor was given.
pub(super) fn decide_from_source(
    it: &Observation,
    run: &RunState,
    migration: &MigrationStatus,
) -> GuardAction {
    let runs = *run == RunState::RUNNING;
    if *migration == MigrationStatus::COMPLETED && !runs {
        if it.state.is_device_state_withheld() {
            return resume_source_if_safe(it, "the device state was not passed on");
        }
        if it.state.has_return_path {
            return GuardAction::Conclude(VmLocationReport::new(
                VmPlace::DESTINATION,
                None,
                "the destination has told the source that it loaded all of it; whether it \
                 runs there was not asked",
            ));
        }
        if !it.state.has_relay_ended() {
            return GuardAction::Wait;
        }
        return resume_source_if_safe(it, "its migration is over");
    }
    if !migration.is_settled() {
        if migration.is_postcopy() {
            return if it.state.has_relay_ended() {
                decide_postcopy(it, !runs, migration)
            } else {
                GuardAction::Wait
            };
        }
        return decide_in_progress(it, run, migration);
    }
    if runs {
        let why = format!("its migration is `{migration}`, and it runs");
        if it.state.transfer.may_be_sent() {
            return GuardAction::Conclude(
                VmLocationReport::new(
                    VmPlace::UNKNOWN,
                    Some(true),
                    format!(
                        "at the source {why}. Device state went on: the destination may run it \
                     as well, if it loaded all and its answer was lost"
                    ),
                )
                .with_advice(
                    "look at the destination at once: if its QEMU is there, end it (`quit`)",
                ),
            );
        }
        return conclude(VmPlace::SOURCE, true, why);
    }
    decide_source_stopped(it, run, migration)
}

/// Only the destination's monitor was given.
pub(super) fn decide_from_destination(it: &Observation) -> GuardAction {
    let unknown = |why: &str| {
        GuardAction::Conclude(
            VmLocationReport::new(VmPlace::UNKNOWN, None, why).with_advice(
                "QMP `query-migrate` at the source: `completed`: `cont` at the destination. \
             Anything else: `quit` at the destination, and see that the source runs",
            ),
        )
    };
    match &it.destination {
        SideStatus::Exited => GuardAction::Conclude(
            VmLocationReport::new(
                VmPlace::SOURCE,
                None,
                "the destination has ended; the source was not asked",
            )
            .with_advice("QMP `query-status` at the source; if it is `postmigrate`: `cont`"),
        ),
        _ if it.state.destination.is_quitting() => GuardAction::Conclude(
            VmLocationReport::new(
                VmPlace::SOURCE,
                None,
                "the destination was ended, and has not run it; the source was not asked",
            )
            .with_advice("QMP `query-status` at the source; if it is `postmigrate`: `cont`"),
        ),
        SideStatus::Present { run, migration } => {
            if *run == RunState::RUNNING {
                return conclude(VmPlace::DESTINATION, true, "it runs there");
            }
            if it.state.is_device_state_withheld() && !it.state.destination.has_run() {
                return GuardAction::Execute(Command::QuitDestination);
            }
            if migration.is_postcopy()
                && *run == RunState::PAUSED
                && !it.state.destination.has_run()
            {
                // The relay has passed on the command to run, and the source cannot be asked.
                return GuardAction::Execute(Command::ResumeDestination);
            }
            if *migration == MigrationStatus::COMPLETED && *run != RunState::INMIGRATE {
                return if it.state.transfer == DeviceStateTransfer::Delivered {
                    decide_loaded(it, run)
                } else if it.state.has_relay_ended() && it.unchanged_for >= GRACE_PERIOD {
                    unknown(
                        "the destination has loaded all of it and stands still; whether the source \
                         knows was not seen",
                    )
                } else {
                    GuardAction::Wait
                };
            }
            if it.state.has_relay_ended() && it.unchanged_for >= UNRESPONSIVE_TIMEOUT {
                return unknown("the destination has not loaded all of it");
            }
            GuardAction::Wait
        }
        SideStatus::Unreachable if it.unchanged_for < UNRESPONSIVE_TIMEOUT => GuardAction::Wait,
        SideStatus::Unreachable | SideStatus::NoMonitor => {
            unknown("the destination does not answer")
        }
    }
}
