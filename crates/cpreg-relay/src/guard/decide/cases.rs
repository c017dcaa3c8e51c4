//! Where a migration that did not simply succeed can lead: decided alike with one monitor and with
//! two.

use super::observation::{GRACE_PERIOD, GuardAction, Observation, UNRESPONSIVE_TIMEOUT};
use crate::guard::machine::{Command, MigrationPhase};
use crate::guard::states::{MigrationStatus, RunState, SideStatus};
use crate::guard::vm_location_report::{VmLocationReport, VmPlace};

pub(super) fn conclude(place: VmPlace, running: bool, why: impl Into<String>) -> GuardAction {
    GuardAction::Conclude(VmLocationReport::new(place, Some(running), why))
}

/// The destination has all of it and stands still.
pub(super) fn decide_loaded(it: &Observation, run: &RunState) -> GuardAction {
    let waits = *run == RunState::PAUSED || *run == RunState::PRELAUNCH;
    if !waits {
        return conclude(
            VmPlace::DESTINATION,
            false,
            format!("it is loaded there; its guest is `{run}`, as it was at the source"),
        );
    }
    if it.state.destination.has_run() && it.unchanged_for < GRACE_PERIOD {
        return GuardAction::Wait;
    }
    if it.state.destination.has_run() {
        return conclude(
            VmPlace::DESTINATION,
            false,
            "it has run there, and was paused since",
        );
    }
    if !it.state.should_run_guest() {
        return conclude(
            VmPlace::DESTINATION,
            false,
            "it is loaded there, paused as it was at the source",
        );
    }
    if it.state.destination.has_refused() {
        return resume_source_if_safe(it, "the destination cannot run it");
    }
    GuardAction::Execute(Command::ResumeDestination)
}

/// Lets the source go on, once the destination cannot.
pub(super) fn resume_source_if_safe(it: &Observation, why: &str) -> GuardAction {
    if it.state.destination.has_run() {
        return decide_destination_stopped(it);
    }
    let safe = match &it.destination {
        SideStatus::Exited => true,
        _ if it.state.destination.is_quitting() => true,
        SideStatus::Present { .. } => return GuardAction::Execute(Command::QuitDestination),
        SideStatus::NoMonitor => it.state.is_device_state_withheld(),
        SideStatus::Unreachable if it.unchanged_for < UNRESPONSIVE_TIMEOUT => {
            return GuardAction::Wait;
        }
        // Nobody but this guard lets it run, and this guard has not.
        SideStatus::Unreachable => {
            it.state.is_autostart_blocked() || it.state.is_device_state_withheld()
        }
    };
    if !safe {
        return GuardAction::Conclude(
            VmLocationReport::new(
                VmPlace::UNKNOWN,
                None,
                "the source is stopped, and nobody knows what \
             the destination does",
            )
            .with_advice(
                "look at the destination. If its QEMU has ended, or is ended (`quit`): QMP \
                 `cont` at the source. If it has the VM: leave it there",
            ),
        );
    }
    if !it.state.should_run_guest() {
        return conclude(
            VmPlace::SOURCE,
            false,
            format!("{why}; it was paused there before"),
        );
    }
    if it.state.source.has_refused() {
        return GuardAction::Conclude(
            VmLocationReport::new(
                VmPlace::SOURCE,
                Some(false),
                format!("{why}; QEMU refused to let it go on at the source"),
            )
            .with_advice("QMP `cont` at the source tells why"),
        );
    }
    GuardAction::Execute(Command::ResumeSource)
}

/// The source's migration has failed and its guest is stopped. It usually goes on by itself, at once.
pub(super) fn decide_source_stopped(
    it: &Observation,
    run: &RunState,
    migration: &MigrationStatus,
) -> GuardAction {
    if it.state.destination.has_run() {
        return match &it.destination {
            SideStatus::Present { run, migration } => {
                GuardAction::Conclude(incomplete_postcopy(run, migration))
            }
            _ => decide_destination_stopped(it),
        };
    }
    if !it.state.should_run_guest() || !run.is_stopped_by_migration() {
        // Paused before, or stopped by somebody: it is not for the guard to let it run.
        return match &it.destination {
            SideStatus::Present { .. } if !it.state.destination.is_quitting() => {
                GuardAction::Execute(Command::QuitDestination)
            }
            SideStatus::Unreachable if it.unchanged_for < UNRESPONSIVE_TIMEOUT => GuardAction::Wait,
            _ => conclude(
                VmPlace::SOURCE,
                false,
                format!("its migration is `{migration}`, and it is `{run}` there as before"),
            ),
        };
    }
    if it.unchanged_for < GRACE_PERIOD && !it.state.destination.is_quitting() {
        return GuardAction::Wait;
    }
    resume_source_if_safe(it, "its migration failed")
}

/// A migration is under way.
pub(super) fn decide_in_progress(
    it: &Observation,
    run: &RunState,
    migration: &MigrationStatus,
) -> GuardAction {
    let is_stopped = run.is_stopped_by_migration();
    if migration.is_postcopy() {
        return decide_postcopy(it, is_stopped, migration);
    }
    if it.state.destination.has_run() {
        // It was told to run too early, or by somebody else; 10.2 and later can still fail here.
        return GuardAction::Wait;
    }
    let is_under_way = !migration.is_settled();
    let hopeless = it.state.has_relay_ended()
        || it.state.transfer.is_rejected()
        || it.destination == SideStatus::Exited;
    if is_under_way
        && hopeless
        && it.state.migration != MigrationPhase::Cancelled
        && it.unchanged_for >= GRACE_PERIOD
    {
        return GuardAction::Execute(Command::Cancel);
    }
    GuardAction::Wait
}

/// The source has given the VM away and sends its memory after it.
pub(super) fn decide_postcopy(
    it: &Observation,
    is_stopped: bool,
    migration: &MigrationStatus,
) -> GuardAction {
    let is_paused = *migration == MigrationStatus::POSTCOPY_PAUSED;
    match &it.destination {
        SideStatus::Present {
            run,
            migration: there,
        } => {
            let has_device_state = there.is_postcopy() || *there == MigrationStatus::COMPLETED;
            if *run == RunState::PAUSED
                && has_device_state
                && is_stopped
                && !it.state.destination.has_run()
            {
                if it.state.should_run_guest() {
                    return GuardAction::Execute(Command::ResumeDestination);
                }
                if *there == MigrationStatus::COMPLETED {
                    return GuardAction::Wait;
                }
            }
            if *run == RunState::INMIGRATE
                && it.state.is_device_state_withheld()
                && !it.state.destination.has_run()
            {
                return decide_postcopy_stuck(it);
            }
            if (is_paused || *there == MigrationStatus::POSTCOPY_PAUSED)
                && it.state.has_relay_ended()
                && it.unchanged_for >= GRACE_PERIOD
            {
                return GuardAction::Conclude(incomplete_postcopy(run, there));
            }
            GuardAction::Wait
        }
        SideStatus::Exited | SideStatus::Unreachable if it.state.destination.has_run() => {
            if it.destination == SideStatus::Unreachable && it.unchanged_for < UNRESPONSIVE_TIMEOUT
            {
                return GuardAction::Wait;
            }
            decide_destination_stopped(it)
        }
        SideStatus::Exited => decide_postcopy_stuck(it),
        SideStatus::Unreachable | SideStatus::NoMonitor
            if it.unchanged_for < UNRESPONSIVE_TIMEOUT =>
        {
            GuardAction::Wait
        }
        SideStatus::Unreachable | SideStatus::NoMonitor => GuardAction::Conclude(
            VmLocationReport::new(
                VmPlace::UNKNOWN,
                None,
                format!(
                    "postcopy was entered (`{migration}`), \
             and the destination does not answer"
                ),
            )
            .with_advice(
                "nothing was ended: the VM's memory may be on both sides. Look at the \
                 destination, and recover (`migrate-recover` there, `migrate` with `resume` \
                 at the source)",
            ),
        ),
    }
}

/// Postcopy was entered, and the destination never ran and never will: only the source has the VM, and it waits for a recovery.
pub(super) fn decide_postcopy_stuck(it: &Observation) -> GuardAction {
    if it.unchanged_for < GRACE_PERIOD {
        return GuardAction::Wait;
    }
    if matches!(it.destination, SideStatus::Present { .. }) && !it.state.destination.is_quitting() {
        return GuardAction::Execute(Command::QuitDestination);
    }
    // 7.2 hangs in `cancelling` if told to give up here, 10.0 refuses; both refuse `cont`.
    GuardAction::Conclude(
        VmLocationReport::new(
            VmPlace::SOURCE,
            Some(false),
            "postcopy was entered, and the destination cannot run it: the source holds \
             all of the VM and does not let it go on",
        )
        .with_advice(
            "QEMU up to 10.1 cannot go back from postcopy (`cont`: Migration is not \
         finalized yet): the guest can only be started anew. 10.2 and later can",
        ),
    )
}

/// The destination has the VM, and the source has not ended well.
pub(super) fn incomplete_postcopy(run: &RunState, migration: &MigrationStatus) -> VmLocationReport {
    let runs = Some(*run == RunState::RUNNING);
    if *migration == MigrationStatus::COMPLETED {
        return VmLocationReport::new(
            VmPlace::DESTINATION,
            runs,
            "it has run there and has all its memory; the source was not told, and holds \
             an old copy",
        )
        .with_advice("end the source's QEMU (`quit`), and never let it go on");
    }
    VmLocationReport::new(
        VmPlace::DESTINATION,
        runs,
        format!(
            "postcopy was entered, and the connection is lost before all memory was there \
         (`{migration}`)"
        ),
    )
    .with_advice(
        "end neither QEMU. If the source is `postcopy-paused`: QMP `migrate-recover` \
         at the destination with a new address, then `migrate` with `resume` to it at \
         the source. If not, the guest runs on until it needs what is missing",
    )
}

/// The destination has run the VM and does not any more.
pub(super) fn decide_destination_stopped(it: &Observation) -> GuardAction {
    if it.destination == SideStatus::Unreachable && it.unchanged_for < UNRESPONSIVE_TIMEOUT {
        return GuardAction::Wait;
    }
    let how = if it.destination == SideStatus::Exited {
        "has ended since"
    } else {
        "does not answer since"
    };
    GuardAction::Conclude(
        VmLocationReport::new(
            VmPlace::DESTINATION,
            None,
            format!(
                "the destination was told to run it, \
         and {how}"
            ),
        )
        .with_advice(
            "do not let the source go on: the VM has run elsewhere, and its disks are no \
             longer those that the source knows",
        ),
    )
}
