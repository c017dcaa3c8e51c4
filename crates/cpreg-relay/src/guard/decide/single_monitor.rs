//! Decisions with one monitor. Cases that depend on the other side end as `unknown`.

use super::cases::{
    conclude, decide_in_progress, decide_loaded, decide_postcopy, decide_source_stopped,
    resume_source_if_safe,
};
use super::observation::{GRACE_PERIOD, GuardAction, Observation, UNRESPONSIVE_TIMEOUT};
use crate::guard::machine::{Command, DeviceStateTransfer};
use crate::guard::states::{MigrationStatus, RunState, SideStatus};
use crate::guard::vm_location_report::{VmLocationReport, VmPlace};

/// Decides with the source's monitor only.
pub(super) fn decide_from_source(
    observation: &Observation,
    run: &RunState,
    migration: &MigrationStatus,
) -> GuardAction {
    let is_running = *run == RunState::RUNNING;
    if *migration == MigrationStatus::COMPLETED && !is_running {
        if observation.state.is_device_state_withheld() {
            return resume_source_if_safe(observation, "the device state was not sent");
        }
        if observation.state.has_return_path {
            return GuardAction::Conclude(VmLocationReport::new(
                VmPlace::DESTINATION,
                None,
                "the destination has confirmed to the source that it loaded all of it; its run \
                 state was not queried",
            ));
        }
        if !observation.state.has_relay_ended() {
            return GuardAction::Wait;
        }
        return resume_source_if_safe(observation, "its migration is over");
    }
    if !migration.is_settled() {
        if migration.is_postcopy() {
            return if observation.state.has_relay_ended() {
                decide_postcopy(observation, !is_running, migration)
            } else {
                GuardAction::Wait
            };
        }
        return decide_in_progress(observation, run, migration);
    }
    if is_running {
        let reason = format!("its migration is `{migration}`, and it runs");
        if observation.state.transfer.may_be_sent() {
            return GuardAction::Conclude(
                VmLocationReport::new(
                    VmPlace::UNKNOWN,
                    Some(true),
                    format!(
                        "at the source, {reason}. Device state was sent: the destination may run \
                         it as well, if it loaded all of it and its answer was lost"
                    ),
                )
                .with_advice(
                    "check the destination at once: if its QEMU still runs, end it (`quit`)",
                ),
            );
        }
        return conclude(VmPlace::SOURCE, true, reason);
    }
    decide_source_stopped(observation, run, migration)
}

/// Decides with the destination's monitor only.
pub(super) fn decide_from_destination(observation: &Observation) -> GuardAction {
    let unknown = |reason: &str| {
        GuardAction::Conclude(
            VmLocationReport::new(VmPlace::UNKNOWN, None, reason).with_advice(
                "run QMP `query-migrate` at the source. If it is `completed`: `cont` at the \
                 destination. Otherwise: `quit` at the destination, and check that the source runs",
            ),
        )
    };
    match &observation.destination {
        SideStatus::Exited => GuardAction::Conclude(
            VmLocationReport::new(
                VmPlace::SOURCE,
                None,
                "the destination has exited; the source was not queried",
            )
            .with_advice("run QMP `query-status` at the source; if it is `postmigrate`: `cont`"),
        ),
        _ if observation.state.destination.is_quitting() => GuardAction::Conclude(
            VmLocationReport::new(
                VmPlace::SOURCE,
                None,
                "the destination was told to quit and has not run it; the source was not queried",
            )
            .with_advice("run QMP `query-status` at the source; if it is `postmigrate`: `cont`"),
        ),
        SideStatus::Present { run, migration } => {
            if *run == RunState::RUNNING {
                return conclude(VmPlace::DESTINATION, true, "it runs there");
            }
            if observation.state.is_device_state_withheld()
                && !observation.state.destination.has_run()
            {
                return GuardAction::Execute(Command::QuitDestination);
            }
            if migration.is_postcopy()
                && *run == RunState::PAUSED
                && !observation.state.destination.has_run()
            {
                // The relay has forwarded the run command, and the source cannot be queried.
                return GuardAction::Execute(Command::ResumeDestination);
            }
            if *migration == MigrationStatus::COMPLETED && *run != RunState::INMIGRATE {
                return if observation.state.transfer == DeviceStateTransfer::Delivered {
                    decide_loaded(observation, run)
                } else if observation.state.has_relay_ended()
                    && observation.unchanged_for >= GRACE_PERIOD
                {
                    unknown(
                        "the destination has loaded all of it and is stopped; it was not observed \
                         whether the source knows",
                    )
                } else {
                    GuardAction::Wait
                };
            }
            if observation.state.has_relay_ended()
                && observation.unchanged_for >= UNRESPONSIVE_TIMEOUT
            {
                return unknown("the destination has not loaded all of it");
            }
            GuardAction::Wait
        }
        SideStatus::Unreachable if observation.unchanged_for < UNRESPONSIVE_TIMEOUT => {
            GuardAction::Wait
        }
        SideStatus::Unreachable | SideStatus::NoMonitor => {
            unknown("the destination does not answer")
        }
    }
}
