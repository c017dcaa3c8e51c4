//! With both monitors, or the beginning of any: what is decided first.

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

/// Decides.
pub(in crate::guard) fn decide(it: &Observation) -> GuardAction {
    match decide_unless_stalled(it) {
        GuardAction::Wait if it.state.has_relay_ended() && it.unchanged_for >= STALL_TIMEOUT => {
            let (source, dest) = (&it.source, &it.destination);
            GuardAction::Conclude(
                VmLocationReport::new(
                    VmPlace::UNKNOWN,
                    None,
                    format!(
                        "nothing changes any more. The source: {source}. The destination: {dest}"
                    ),
                )
                .with_advice("let only one of them go on, and end the other (`quit`) before"),
            )
        }
        action => action,
    }
}

fn decide_unless_stalled(it: &Observation) -> GuardAction {
    // A relay may know of the stream before the source says anything of a migration.
    if !it.state.has_started() || it.source.has_migration_status(&MigrationStatus::NONE) {
        return decide_not_started(it);
    }
    match &it.source {
        SideStatus::NoMonitor => decide_from_destination(it),
        SideStatus::Exited => decide_source_exited(it),
        SideStatus::Unreachable => decide_source_unreachable(it),
        SideStatus::Present { run, migration } => {
            if it.destination == SideStatus::NoMonitor {
                return decide_from_source(it, run, migration);
            }
            if *run == RunState::RUNNING {
                if it.state.destination.has_run() && it.destination != SideStatus::Exited {
                    // A source of 10.0 and later goes on if postcopy breaks at its very end. What ran last is at the destination.
                    return GuardAction::Execute(Command::StopSource);
                }
                // `completed` comes after the guest was stopped: one that runs was told to, by this guard or by somebody else.
                let is_back = it.state.source.is_resumed() || it.unchanged_for >= GRACE_PERIOD;
                if migration.is_settled() && (*migration != MigrationStatus::COMPLETED || is_back) {
                    return decide_source_running(it, migration);
                }
                return decide_in_progress(it, run, migration);
            }
            if *migration == MigrationStatus::COMPLETED {
                return decide_source_completed(it);
            }
            if migration.is_settled() {
                return decide_source_stopped(it, run, migration);
            }
            decide_in_progress(it, run, migration)
        }
    }
}

/// Nobody has started a migration yet.
fn decide_not_started(it: &Observation) -> GuardAction {
    if !(it.state.has_relay_ended() || it.state.transfer.is_rejected())
        || it.unchanged_for < GRACE_PERIOD
    {
        return GuardAction::Wait;
    }
    let found = match &it.source {
        SideStatus::Exited => VmLocationReport::new(
            VmPlace::LOST,
            None,
            "the source has ended, before any migration",
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
        if it.state.is_autostart_blocked() && it.destination.is_in_state(&RunState::INMIGRATE) {
            found.with_advice(
                "the destination still waits, and was told not to start by itself: QMP `cont` \
             there takes that back, before it is used otherwise",
            )
        } else {
            found
        },
    )
}

/// The source runs, its migration has failed or was given up: the destination's copy must not be used.
fn decide_source_running(it: &Observation, migration: &MigrationStatus) -> GuardAction {
    let why = if it.state.source.is_resumed() {
        "it was let go on there".to_owned()
    } else {
        format!("its migration is `{migration}`, and it runs")
    };
    match &it.destination {
        SideStatus::Exited => conclude(VmPlace::SOURCE, true, why + "; the destination has ended"),
        _ if it.state.destination.is_quitting() => {
            conclude(VmPlace::SOURCE, true, why + "; the destination was ended")
        }
        SideStatus::Present { .. } => GuardAction::Execute(Command::QuitDestination),
        SideStatus::Unreachable if it.unchanged_for < UNRESPONSIVE_TIMEOUT => GuardAction::Wait,
        SideStatus::Unreachable | SideStatus::NoMonitor => {
            let held = if it.state.is_autostart_blocked() {
                "was told not to start by itself"
            } else {
                "may have started"
            };
            GuardAction::Conclude(
                VmLocationReport::new(
                    if it.state.is_autostart_blocked() {
                        VmPlace::SOURCE
                    } else {
                        VmPlace::UNKNOWN
                    },
                    Some(true),
                    format!("{why}; the destination does not answer, and {held}"),
                )
                .with_advice(
                    "end the destination's QEMU (`quit`), and never let it go on: the VM is at \
                 the source",
                ),
            )
        }
    }
}

/// The source is stopped for good and says that all is written; with a return path, also that all is loaded.
fn decide_source_completed(it: &Observation) -> GuardAction {
    if it.state.is_device_state_withheld() && !it.state.destination.has_run() {
        return resume_source_if_safe(it, "the device state was not passed on");
    }
    match &it.destination {
        SideStatus::Present { run, migration } => {
            if *run == RunState::RUNNING {
                return conclude(
                    VmPlace::DESTINATION,
                    true,
                    "its migration is `completed` at the source, and it runs at the destination",
                );
            }
            if *migration == MigrationStatus::FAILED {
                return if it.state.destination.has_run() {
                    decide_destination_stopped(it)
                } else {
                    resume_source_if_safe(it, "the destination failed to load it")
                };
            }
            if *run == RunState::INMIGRATE {
                // Without a return path the source is ahead of the destination, as long as a socket is filled.
                if it.state.has_relay_ended()
                    && it.unchanged_for >= UNRESPONSIVE_TIMEOUT
                    && !it.state.destination.has_run()
                {
                    return resume_source_if_safe(
                        it,
                        "the destination has not loaded it, and nothing more comes",
                    );
                }
                return GuardAction::Wait;
            }
            decide_loaded(it, run)
        }
        SideStatus::Exited | SideStatus::Unreachable | SideStatus::NoMonitor => {
            if it.state.destination.has_run() {
                return decide_destination_stopped(it);
            }
            resume_source_if_safe(it, "the destination has ended before it ran it")
        }
    }
}

/// The source's process has ended.
fn decide_source_exited(it: &Observation) -> GuardAction {
    match &it.destination {
        SideStatus::Present { run, migration } => {
            if *run == RunState::INMIGRATE {
                if it.unchanged_for < UNRESPONSIVE_TIMEOUT && !it.state.is_device_state_withheld() {
                    return GuardAction::Wait;
                }
                return GuardAction::Conclude(lost_vm(
                    "the source has ended before the destination had all \
                 of it",
                ));
            }
            if migration.is_postcopy() {
                return GuardAction::Conclude(lost_vm(
                    "the source has ended while the destination still \
                 fetched memory from it",
                ));
            }
            if *migration == MigrationStatus::FAILED {
                return GuardAction::Conclude(lost_vm(
                    "the source has ended, and the destination failed to \
                 load it",
                ));
            }
            if *run == RunState::RUNNING {
                return conclude(
                    VmPlace::DESTINATION,
                    true,
                    "it is loaded there and runs; the source \
                 has ended",
                );
            }
            if *migration != MigrationStatus::COMPLETED {
                return if it.unchanged_for < UNRESPONSIVE_TIMEOUT {
                    GuardAction::Wait
                } else {
                    GuardAction::Conclude(lost_vm(
                        "the source has ended before the destination had all of \
                     it",
                    ))
                };
            }
            match decide_loaded(it, run) {
                GuardAction::Execute(Command::QuitDestination | Command::ResumeSource) => {
                    GuardAction::Conclude(
                        VmLocationReport::new(
                            VmPlace::DESTINATION,
                            Some(false),
                            "it is loaded there, the \
                     source has ended, and QEMU refused to let it go on",
                        )
                        .with_advice("QMP `cont` at the destination tells why"),
                    )
                }
                other => other,
            }
        }
        SideStatus::Exited if it.state.destination.has_run() => decide_destination_stopped(it),
        SideStatus::Exited => GuardAction::Conclude(lost_vm("both QEMUs have ended")),
        SideStatus::Unreachable if it.unchanged_for < UNRESPONSIVE_TIMEOUT => GuardAction::Wait,
        SideStatus::Unreachable | SideStatus::NoMonitor => GuardAction::Conclude(
            VmLocationReport::new(
                VmPlace::UNKNOWN,
                None,
                "the source has ended, and the destination was \
             not or could not be asked",
            )
            .with_advice(
                "QMP `query-status` at the destination: `paused` with `query-migrate` \
                 `completed`: `cont` lets it go on; `inmigrate`: the VM is lost",
            ),
        ),
    }
}

fn lost_vm(why: &str) -> VmLocationReport {
    VmLocationReport::new(VmPlace::LOST, Some(false), why)
        .with_advice("start it anew from its disks, at the source or at the destination")
}

/// The source is there, as far as is known, and does not answer.
fn decide_source_unreachable(it: &Observation) -> GuardAction {
    if it.destination.is_in_state(&RunState::RUNNING) && !it.state.is_autostart_blocked() {
        return conclude(
            VmPlace::DESTINATION,
            true,
            "it runs there; the source does not answer",
        );
    }
    if it.unchanged_for < UNRESPONSIVE_TIMEOUT {
        return GuardAction::Wait;
    }
    let dest = &it.destination;
    GuardAction::Conclude(
        VmLocationReport::new(
            VmPlace::UNKNOWN,
            None,
            format!(
                "the source does not answer; the \
         destination: {dest}"
            ),
        )
        .with_advice(
            "make sure what the source does. If it has ended or its `query-migrate` is \
             `completed`: QMP `cont` at the destination. If it runs: `quit` at the \
             destination",
        ),
    )
}
