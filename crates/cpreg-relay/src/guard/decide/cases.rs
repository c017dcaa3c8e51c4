//! Cases shared by the decisions with one and with two monitors.

use super::observation::{GRACE_PERIOD, GuardAction, Observation, UNRESPONSIVE_TIMEOUT};
use crate::guard::machine::{Command, MigrationPhase};
use crate::guard::states::{MigrationStatus, RunState, SideStatus};
use crate::guard::vm_location_report::{VmLocationReport, VmPlace};

pub(super) fn conclude(place: VmPlace, running: bool, reason: impl Into<String>) -> GuardAction {
    GuardAction::Conclude(VmLocationReport::new(place, Some(running), reason))
}

/// Decides for a destination that has loaded the whole VM and is stopped.
pub(super) fn decide_loaded(observation: &Observation, run: &RunState) -> GuardAction {
    let can_resume = *run == RunState::PAUSED || *run == RunState::PRELAUNCH;
    if !can_resume {
        return conclude(
            VmPlace::DESTINATION,
            false,
            format!("it is loaded there; its guest is `{run}`, as it was at the source"),
        );
    }
    if observation.state.destination.has_run() && observation.unchanged_for < GRACE_PERIOD {
        return GuardAction::Wait;
    }
    if observation.state.destination.has_run() {
        return conclude(
            VmPlace::DESTINATION,
            false,
            "it ran there and has been paused since",
        );
    }
    if !observation.state.should_run_guest() {
        return conclude(
            VmPlace::DESTINATION,
            false,
            "it is loaded there, paused as it was at the source",
        );
    }
    if observation.state.destination.has_refused() {
        return resume_source_if_safe(observation, "the destination cannot run it");
    }
    GuardAction::Execute(Command::ResumeDestination)
}

/// Resumes the source when the destination can no longer run.
pub(super) fn resume_source_if_safe(observation: &Observation, reason: &str) -> GuardAction {
    if observation.state.destination.has_run() {
        return decide_destination_stopped(observation);
    }
    let is_safe = match &observation.destination {
        SideStatus::Exited => true,
        _ if observation.state.destination.is_quitting() => true,
        SideStatus::Present { .. } => return GuardAction::Execute(Command::QuitDestination),
        SideStatus::NoMonitor => observation.state.is_device_state_withheld(),
        SideStatus::Unreachable if observation.unchanged_for < UNRESPONSIVE_TIMEOUT => {
            return GuardAction::Wait;
        }
        // Only this guard resumes the destination, and it has not done so.
        SideStatus::Unreachable => {
            observation.state.is_autostart_blocked() || observation.state.is_device_state_withheld()
        }
    };
    if !is_safe {
        return GuardAction::Conclude(
            VmLocationReport::new(
                VmPlace::UNKNOWN,
                None,
                "the source is stopped, and the state of the destination is not known",
            )
            .with_advice(
                "check the destination. If its QEMU has exited, or after you end it (`quit`): QMP \
                 `cont` at the source. If it has the VM: leave it there",
            ),
        );
    }
    if !observation.state.should_run_guest() {
        return conclude(
            VmPlace::SOURCE,
            false,
            format!("{reason}; it was paused there before"),
        );
    }
    if observation.state.source.has_refused() {
        return GuardAction::Conclude(
            VmLocationReport::new(
                VmPlace::SOURCE,
                Some(false),
                format!("{reason}; QEMU refused to resume it at the source"),
            )
            .with_advice("QMP `cont` at the source prints the reason"),
        );
    }
    GuardAction::Execute(Command::ResumeSource)
}

/// Decides for a source with a failed migration and a stopped guest. Such a source usually resumes
/// by itself at once.
pub(super) fn decide_source_stopped(
    observation: &Observation,
    run: &RunState,
    migration: &MigrationStatus,
) -> GuardAction {
    if observation.state.destination.has_run() {
        return match &observation.destination {
            SideStatus::Present { run, migration } => {
                GuardAction::Conclude(incomplete_postcopy(run, migration))
            }
            _ => decide_destination_stopped(observation),
        };
    }
    if !observation.state.should_run_guest() || !run.is_stopped_by_migration() {
        // The guest was paused before the migration, or another client stopped it. The guard must
        // not resume it.
        return match &observation.destination {
            SideStatus::Present { .. } if !observation.state.destination.is_quitting() => {
                GuardAction::Execute(Command::QuitDestination)
            }
            SideStatus::Unreachable if observation.unchanged_for < UNRESPONSIVE_TIMEOUT => {
                GuardAction::Wait
            }
            _ => conclude(
                VmPlace::SOURCE,
                false,
                format!("its migration is `{migration}`, and it is `{run}` there as before"),
            ),
        };
    }
    if observation.unchanged_for < GRACE_PERIOD && !observation.state.destination.is_quitting() {
        return GuardAction::Wait;
    }
    resume_source_if_safe(observation, "its migration failed")
}

/// Decides during a migration.
pub(super) fn decide_in_progress(
    observation: &Observation,
    run: &RunState,
    migration: &MigrationStatus,
) -> GuardAction {
    let is_stopped = run.is_stopped_by_migration();
    if migration.is_postcopy() {
        return decide_postcopy(observation, is_stopped, migration);
    }
    if observation.state.destination.has_run() {
        // The destination runs before the source has finished. Wait for the result: QEMU 10.2 and
        // later can still fail here.
        return GuardAction::Wait;
    }
    let is_in_progress = !migration.is_settled();
    let cannot_complete = observation.state.has_relay_ended()
        || observation.state.transfer.is_rejected()
        || observation.destination == SideStatus::Exited;
    if is_in_progress
        && cannot_complete
        && observation.state.migration != MigrationPhase::Cancelled
        && observation.unchanged_for >= GRACE_PERIOD
    {
        return GuardAction::Execute(Command::Cancel);
    }
    GuardAction::Wait
}

/// Decides in postcopy: the source has handed the VM over, and its memory follows. `is_stopped` is
/// `true` if the migration has stopped the source's guest.
pub(super) fn decide_postcopy(
    observation: &Observation,
    is_stopped: bool,
    migration: &MigrationStatus,
) -> GuardAction {
    let is_source_interrupted = *migration == MigrationStatus::POSTCOPY_PAUSED;
    match &observation.destination {
        SideStatus::Present {
            run,
            migration: destination_migration,
        } => {
            let has_device_state = destination_migration.is_postcopy()
                || *destination_migration == MigrationStatus::COMPLETED;
            if *run == RunState::PAUSED
                && has_device_state
                && is_stopped
                && !observation.state.destination.has_run()
            {
                if observation.state.should_run_guest() {
                    return GuardAction::Execute(Command::ResumeDestination);
                }
                if *destination_migration == MigrationStatus::COMPLETED {
                    return GuardAction::Wait;
                }
            }
            if *run == RunState::INMIGRATE
                && observation.state.is_device_state_withheld()
                && !observation.state.destination.has_run()
            {
                return decide_postcopy_stuck(observation);
            }
            if (is_source_interrupted || *destination_migration == MigrationStatus::POSTCOPY_PAUSED)
                && observation.state.has_relay_ended()
                && observation.unchanged_for >= GRACE_PERIOD
            {
                return GuardAction::Conclude(incomplete_postcopy(run, destination_migration));
            }
            GuardAction::Wait
        }
        SideStatus::Exited | SideStatus::Unreachable if observation.state.destination.has_run() => {
            if observation.destination == SideStatus::Unreachable
                && observation.unchanged_for < UNRESPONSIVE_TIMEOUT
            {
                return GuardAction::Wait;
            }
            decide_destination_stopped(observation)
        }
        SideStatus::Exited => decide_postcopy_stuck(observation),
        SideStatus::Unreachable | SideStatus::NoMonitor
            if observation.unchanged_for < UNRESPONSIVE_TIMEOUT =>
        {
            GuardAction::Wait
        }
        SideStatus::Unreachable | SideStatus::NoMonitor => GuardAction::Conclude(
            VmLocationReport::new(
                VmPlace::UNKNOWN,
                None,
                format!("postcopy has begun (`{migration}`), and the destination does not answer"),
            )
            .with_advice(
                "the guard ended neither QEMU: the VM's memory may be on both sides. Check the \
                 destination, and recover (`migrate-recover` there, `migrate` with `resume` at \
                 the source)",
            ),
        ),
    }
}

/// Decides in postcopy for a destination that never ran and cannot run any more. Only the source
/// has the VM, and it waits for a recovery.
pub(super) fn decide_postcopy_stuck(observation: &Observation) -> GuardAction {
    if observation.unchanged_for < GRACE_PERIOD {
        return GuardAction::Wait;
    }
    if matches!(observation.destination, SideStatus::Present { .. })
        && !observation.state.destination.is_quitting()
    {
        return GuardAction::Execute(Command::QuitDestination);
    }
    // A cancel does not help here: QEMU 7.2 then hangs in `cancelling`, and 10.0 refuses it. Both
    // refuse `cont`.
    GuardAction::Conclude(
        VmLocationReport::new(
            VmPlace::SOURCE,
            Some(false),
            "postcopy has begun, and the destination cannot run it: the source has all of the VM \
             and does not resume it",
        )
        .with_advice(
            "QEMU up to 10.1 cannot return from postcopy (`cont`: Migration is not finalized \
             yet): the guest can only be restarted. 10.2 and later can",
        ),
    )
}

/// Returns the report for a VM at the destination whose source did not complete.
pub(super) fn incomplete_postcopy(run: &RunState, migration: &MigrationStatus) -> VmLocationReport {
    let running = Some(*run == RunState::RUNNING);
    if *migration == MigrationStatus::COMPLETED {
        return VmLocationReport::new(
            VmPlace::DESTINATION,
            running,
            "it has run there and has all its memory; the source was not notified and has an old \
             copy",
        )
        .with_advice("end the source's QEMU (`quit`) and never resume it");
    }
    VmLocationReport::new(
        VmPlace::DESTINATION,
        running,
        format!(
            "postcopy has begun, and the connection broke before all memory had arrived \
             (`{migration}`)",
        ),
    )
    .with_advice(
        "end neither QEMU. If the source is `postcopy-paused`: QMP `migrate-recover` at the \
         destination with a new address, then `migrate` with `resume` to it at the source. \
         Otherwise, the guest runs until it needs missing memory",
    )
}

/// Decides for a destination that ran the VM and does not run it any more.
pub(super) fn decide_destination_stopped(observation: &Observation) -> GuardAction {
    if observation.destination == SideStatus::Unreachable
        && observation.unchanged_for < UNRESPONSIVE_TIMEOUT
    {
        return GuardAction::Wait;
    }
    let end = if observation.destination == SideStatus::Exited {
        "has exited since"
    } else {
        "has not answered since"
    };
    GuardAction::Conclude(
        VmLocationReport::new(
            VmPlace::DESTINATION,
            None,
            format!("the destination was told to run it, and {end}"),
        )
        .with_advice(
            "do not resume the source: the VM has run elsewhere, and its disks are no longer in \
             the state that the source knows",
        ),
    )
}
