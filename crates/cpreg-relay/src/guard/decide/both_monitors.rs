//! Decisions with both monitors, and the entry point for one monitor.

use super::cases::{
    conclude, decide_destination_stopped, decide_in_progress, decide_loaded, decide_source_stopped,
    resume_source_if_safe,
};
use super::observation::{
    GRACE_PERIOD, GuardAction, Observation, STALL_TIMEOUT, UNRESPONSIVE_TIMEOUT,
};
use super::single_monitor::{decide_from_destination, decide_from_source};
use crate::guard::machine::Command;
use crate::guard::states::{MigrationStatus, RunState, SideStatus};
use crate::guard::vm_location_report::{VmLocationReport, VmPlace};

/// Returns the next action.
pub(in crate::guard) fn decide(observation: &Observation) -> GuardAction {
    match decide_by_source(observation) {
        GuardAction::Wait
            if observation.state.has_relay_ended()
                && observation.unchanged_for >= STALL_TIMEOUT =>
        {
            let (source, destination) = (&observation.source, &observation.destination);
            GuardAction::Conclude(
                VmLocationReport::new(
                    VmPlace::UNKNOWN,
                    None,
                    format!(
                        "both sides have stopped changing; the source: {source}; the destination: \
                         {destination}"
                    ),
                )
                .with_advice("end one QEMU (`quit`) before you resume the other"),
            )
        }
        action => action,
    }
}

/// Decides by the status of the source, however long nothing has changed.
fn decide_by_source(observation: &Observation) -> GuardAction {
    // The relay may receive the stream before the source reports a migration.
    if !observation.state.has_started()
        || observation
            .source
            .has_migration_status(&MigrationStatus::NONE)
    {
        return decide_not_started(observation);
    }
    match &observation.source {
        SideStatus::NoMonitor => decide_from_destination(observation),
        SideStatus::Exited => decide_source_exited(observation),
        SideStatus::Unreachable => decide_source_unreachable(observation),
        SideStatus::Present { run, migration } => {
            if observation.destination == SideStatus::NoMonitor {
                return decide_from_source(observation, run, migration);
            }
            if *run == RunState::RUNNING {
                if observation.state.destination.has_run()
                    && observation.destination != SideStatus::Exited
                {
                    // QEMU 10.0 and later resume the source if postcopy fails at its very end. The
                    // newer state of the VM is at the destination.
                    return GuardAction::Execute(Command::StopSource);
                }
                // QEMU stops the guest before it reports `completed`. A guest that runs after that
                // was resumed by this guard or another client.
                let has_resumed = observation.state.source.is_resumed()
                    || observation.unchanged_for >= GRACE_PERIOD;
                if migration.is_settled()
                    && (*migration != MigrationStatus::COMPLETED || has_resumed)
                {
                    return decide_source_running(observation, migration);
                }
                return decide_in_progress(observation, run, migration);
            }
            if *migration == MigrationStatus::COMPLETED {
                return decide_source_completed(observation);
            }
            if migration.is_settled() {
                return decide_source_stopped(observation, run, migration);
            }
            decide_in_progress(observation, run, migration)
        }
    }
}

/// Decides before a migration has begun.
fn decide_not_started(observation: &Observation) -> GuardAction {
    if !(observation.state.has_relay_ended() || observation.state.transfer.is_rejected())
        || observation.unchanged_for < GRACE_PERIOD
    {
        return GuardAction::Wait;
    }
    let report = match &observation.source {
        SideStatus::Exited => VmLocationReport::new(
            VmPlace::LOST,
            None,
            "the source exited before any migration",
        ),
        SideStatus::NoMonitor | SideStatus::Unreachable => {
            VmLocationReport::new(VmPlace::SOURCE, None, "no migration has begun")
        }
        SideStatus::Present { run, .. } => VmLocationReport::new(
            VmPlace::SOURCE,
            Some(*run == RunState::RUNNING),
            "no migration has begun",
        ),
    };
    GuardAction::Conclude(
        if observation.state.is_autostart_blocked()
            && observation.destination.is_in_state(&RunState::INMIGRATE)
        {
            report.with_advice(
                "the destination still waits with its autostart blocked. QMP `cont` at the \
                 destination unblocks it; do that before you use it for another migration",
            )
        } else {
            report
        },
    )
}

/// Decides for a running source whose migration has failed or was cancelled. The VM's copy at the
/// destination must not be used.
fn decide_source_running(observation: &Observation, migration: &MigrationStatus) -> GuardAction {
    let reason = if observation.state.source.is_resumed() {
        "the guard resumed it".to_owned()
    } else {
        format!("its migration is `{migration}`, and it runs")
    };
    match &observation.destination {
        SideStatus::Exited => conclude(
            VmPlace::SOURCE,
            true,
            reason + "; the destination has exited",
        ),
        _ if observation.state.destination.is_quitting() => conclude(
            VmPlace::SOURCE,
            true,
            reason + "; the destination was told to quit",
        ),
        SideStatus::Present { .. } => GuardAction::Execute(Command::QuitDestination),
        SideStatus::Unreachable if observation.unchanged_for < UNRESPONSIVE_TIMEOUT => {
            GuardAction::Wait
        }
        SideStatus::Unreachable | SideStatus::NoMonitor => {
            let autostart = if observation.state.is_autostart_blocked() {
                "its autostart is blocked"
            } else {
                "it may have started"
            };
            GuardAction::Conclude(
                VmLocationReport::new(
                    if observation.state.is_autostart_blocked() {
                        VmPlace::SOURCE
                    } else {
                        VmPlace::UNKNOWN
                    },
                    Some(true),
                    format!("{reason}; the destination does not answer, and {autostart}"),
                )
                .with_advice(
                    "end the destination's QEMU (`quit`) and never resume it: the VM is at the \
                     source",
                ),
            )
        }
    }
}

/// Decides for a stopped source that has written everything. With a return path, the destination
/// has also loaded everything.
fn decide_source_completed(observation: &Observation) -> GuardAction {
    if observation.state.is_device_state_withheld() && !observation.state.destination.has_run() {
        return resume_source_if_safe(observation, "the device state was not sent");
    }
    match &observation.destination {
        SideStatus::Present { run, migration } => {
            if *run == RunState::RUNNING {
                return conclude(
                    VmPlace::DESTINATION,
                    true,
                    "its migration is `completed` at the source, and it runs at the destination",
                );
            }
            if *migration == MigrationStatus::FAILED {
                return if observation.state.destination.has_run() {
                    decide_destination_stopped(observation)
                } else {
                    resume_source_if_safe(observation, "the destination failed to load it")
                };
            }
            if *run == RunState::INMIGRATE {
                // Without a return path, the source may be `completed` while a socket still holds
                // data for the destination.
                if observation.state.has_relay_ended()
                    && observation.unchanged_for >= UNRESPONSIVE_TIMEOUT
                    && !observation.state.destination.has_run()
                {
                    return resume_source_if_safe(
                        observation,
                        "the destination has not loaded it, and no more data follows",
                    );
                }
                return GuardAction::Wait;
            }
            decide_loaded(observation, run)
        }
        SideStatus::Exited | SideStatus::Unreachable | SideStatus::NoMonitor => {
            if observation.state.destination.has_run() {
                return decide_destination_stopped(observation);
            }
            resume_source_if_safe(observation, "the destination exited before it ran it")
        }
    }
}

/// Decides for a source whose process has exited.
fn decide_source_exited(observation: &Observation) -> GuardAction {
    match &observation.destination {
        SideStatus::Present { run, migration } => {
            if *run == RunState::INMIGRATE {
                if observation.unchanged_for < UNRESPONSIVE_TIMEOUT
                    && !observation.state.is_device_state_withheld()
                {
                    return GuardAction::Wait;
                }
                return GuardAction::Conclude(lost_vm(
                    "the source exited before the destination had received all of it",
                ));
            }
            if migration.is_postcopy() {
                return GuardAction::Conclude(lost_vm(
                    "the source exited while the destination still fetched memory from it",
                ));
            }
            if *migration == MigrationStatus::FAILED {
                return GuardAction::Conclude(lost_vm(
                    "the source exited, and the destination failed to load it",
                ));
            }
            if *run == RunState::RUNNING {
                return conclude(
                    VmPlace::DESTINATION,
                    true,
                    "it is loaded and runs there; the source has exited",
                );
            }
            if *migration != MigrationStatus::COMPLETED {
                return if observation.unchanged_for < UNRESPONSIVE_TIMEOUT {
                    GuardAction::Wait
                } else {
                    GuardAction::Conclude(lost_vm(
                        "the source exited before the destination had received all of it",
                    ))
                };
            }
            match decide_loaded(observation, run) {
                // The destination refused `cont`, and the source cannot take the VM back.
                GuardAction::Execute(Command::QuitDestination | Command::ResumeSource) => {
                    GuardAction::Conclude(
                        VmLocationReport::new(
                            VmPlace::DESTINATION,
                            Some(false),
                            "it is loaded there, the source has exited, and QEMU refused to \
                             resume it",
                        )
                        .with_advice("QMP `cont` at the destination prints the reason"),
                    )
                }
                other => other,
            }
        }
        SideStatus::Exited if observation.state.destination.has_run() => {
            decide_destination_stopped(observation)
        }
        SideStatus::Exited => GuardAction::Conclude(lost_vm("both QEMUs have exited")),
        SideStatus::Unreachable if observation.unchanged_for < UNRESPONSIVE_TIMEOUT => {
            GuardAction::Wait
        }
        SideStatus::Unreachable | SideStatus::NoMonitor => GuardAction::Conclude(
            VmLocationReport::new(
                VmPlace::UNKNOWN,
                None,
                "the source has exited, and the destination was not or could not be queried",
            )
            .with_advice(
                "run QMP `query-status` at the destination. If it is `paused` and `query-migrate` \
                 is `completed`, resume it with `cont`. If it is `inmigrate`, the VM is lost",
            ),
        ),
    }
}

fn lost_vm(reason: &str) -> VmLocationReport {
    VmLocationReport::new(VmPlace::LOST, Some(false), reason)
        .with_advice("restart it from its disks, at the source or at the destination")
}

/// Decides for a source that does not answer, but may not have exited.
fn decide_source_unreachable(observation: &Observation) -> GuardAction {
    if observation.destination.is_in_state(&RunState::RUNNING)
        && !observation.state.is_autostart_blocked()
    {
        return conclude(
            VmPlace::DESTINATION,
            true,
            "it runs there; the source does not answer",
        );
    }
    if observation.unchanged_for < UNRESPONSIVE_TIMEOUT {
        return GuardAction::Wait;
    }
    let destination = &observation.destination;
    GuardAction::Conclude(
        VmLocationReport::new(
            VmPlace::UNKNOWN,
            None,
            format!("the source does not answer; the destination: {destination}"),
        )
        .with_advice(
            "find out the state of the source. If it has exited, or its `query-migrate` is \
             `completed`: QMP `cont` at the destination. If it runs: `quit` at the destination",
        ),
    )
}
