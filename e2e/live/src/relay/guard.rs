//! Cases of the switchover guard with real QEMUs. Most kill one of the processes at a certain
//! moment. Afterwards the VM must run on exactly one side, if a side still can run it.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::cases::{Mode, Moment, RelayCase, Victim};
use super::endpoint::STEP_TIMEOUT;
use super::migration::{Migration, RelayOption, assert_status};
use crate::steps::Fixture;
use e2e_framework::Result;

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Timeout until the device state is sent to a stopped destination, if the socket has room for it.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs [`super::cases::Scenario::GuardedSuccess`].
pub(crate) fn run_success(fixture: &Fixture, case: &RelayCase) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(fixture, case, vcpus, RelayOption::Guard, &[])?.run_with_output(
        |migration| {
            migration.source.wait_until_ram_sent(case.mode)?;
            migration.source.begin_switchover(case.mode)?;
            let status = migration.source.wait_until_ended()?;
            let arrived = migration.assert_arrived(&status)?;
            let relay = migration.relay()?;
            relay.assert_exit(0, &["destination"], "the VM is")?;
            let location = relay.wait_for_event("vm-location")?;
            if location["vm_location"] != "destination" || location["running"] != true {
                return Err(format!("the guard reports: {location}").into());
            }
            Ok(arrived)
        },
    )
}

/// Runs [`super::cases::Scenario::GuardedRefusal`].
pub(crate) fn run_refusal(fixture: &Fixture, case: &RelayCase) -> Result<String> {
    // The relay's profile has one vCPU more. The relay sees that from the device state of the
    // running source, before RAM is sent.
    let vcpus = case.machine.vcpus + 1;
    let migration = Migration::without_relay(fixture, case, &[])?;
    migration.run_with_output(|migration| {
        let mut relay = migration.start_relay(vcpus, RelayOption::Guard)?;
        let status = relay.wait()?;
        if status.code() != Some(1) {
            return Err(format!("the relay ended with {status}\n{}", relay.output()).into());
        }
        assert_status(&migration.source.status()?, &[("none", "running")])?;
        migration.source.assert_counting()?;
        let end = migration.destination.assert_not_running()?;
        Ok(format!("the guest runs at the source; {end}"))
    })
}

/// Runs [`super::cases::Scenario::GuardedFailure`].
pub(crate) fn run_failure(fixture: &Fixture, case: &RelayCase) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(fixture, case, vcpus, RelayOption::Guard, &[])?.run_with_output(
        |migration| {
            migration.source.wait_until_ram_sent(case.mode)?;
            migration.source.begin_switchover(case.mode)?;
            let relay = migration.relay()?;
            let status = relay.wait()?;
            let location = relay.wait_for_event("vm-location")?;
            if status.success()
                || location["vm_location"] != "source"
                || location["running"] != true
            {
                return Err(format!(
                    "the relay ended with {status}; the guard reports: {location}"
                )
                .into());
            }
            let events = relay.events()?;
            if !events
                .iter()
                .any(|event| event["event"] == "device-state-received")
            {
                return Err("the relay received no device state".into());
            }
            assert_status(&migration.source.status()?, &[("failed", "running")])?;
            migration.source.assert_counting()?;
            let end = migration.destination.assert_not_running()?;
            Ok(format!("the guest continues at the source; {end}"))
        },
    )
}

/// Runs [`super::cases::Scenario::Kill`].
pub(crate) fn run_kill(
    fixture: &Fixture,
    case: &RelayCase,
    victim: Victim,
    moment: Moment,
) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(fixture, case, vcpus, RelayOption::Guard, &[])?.run_with_output(
        |migration| {
            let guard = migration.relay()?.guard()?;
            advance_to(migration, moment)?;
            let id = match victim {
                Victim::Source => migration.source.id(),
                Victim::Destination => migration.destination.id(),
                Victim::Relay => migration.relay()?.id(),
            };
            signal(id, Signal::KILL)?;
            if moment == Moment::DeviceStateSent && victim != Victim::Destination {
                signal(migration.destination.id(), Signal::CONT)?;
            }
            wait_until_exited(guard)?;
            if victim != Victim::Relay {
                migration.relay()?.wait()?;
            }
            let (source, destination) = (
                victim != Victim::Source && migration.source.is_running()?,
                victim != Victim::Destination && migration.destination.is_running()?,
            );
            if source && destination {
                return Err("the guest runs on both sides".into());
            }
            let events = migration.relay()?.events()?;
            let is_sent = events
                .iter()
                .any(|event| event["event"] == "device-state-sent");
            let location = events.iter().find(|event| event["event"] == "vm-location");
            // The guard may resume the guest at the destination milliseconds after the device state
            // was sent, and thus before the kill. Then only the destination's VM is valid, and the
            // source is not resumed. The guard reports its actions as long as the relay exists.
            let was_resumed_at_destination = location
                .is_some_and(|event| event["actions"].to_string().contains("destination: cont"));
            let is_right = match victim {
                // Either the destination has received all of the VM, or no side has all of it.
                Victim::Source => destination == is_sent,
                Victim::Destination => source != was_resumed_at_destination,
                Victim::Relay if matches!(moment, Moment::Setup | Moment::Ram) => source,
                Victim::Relay => source || destination,
            };
            let text = match (source, destination) {
                (true, _) => "the guest runs at the source",
                (_, true) => "the guest runs at the destination",
                _ if was_resumed_at_destination => {
                    "the guest ran at the destination, which was killed"
                }
                _ => "the guest is lost",
            };
            if is_right {
                Ok(format!("{text}; device state sent: {is_sent}"))
            } else {
                Err(format!("{text}; device state sent: {is_sent}; the guard: {location:?}").into())
            }
        },
    )
}

/// Advances the migration to the moment of the kill.
fn advance_to(migration: &mut Migration<'_>, moment: Moment) -> Result<()> {
    let mode = migration.case.mode;
    if moment == Moment::Setup {
        migration.relay()?.wait_for_event("connected")?;
        return Ok(());
    }
    migration.source.wait_until_ram_sent(mode)?;
    if moment == Moment::Ram {
        return Ok(());
    }
    if moment == Moment::DeviceStateReceived {
        migration.source.begin_switchover(mode)?;
        migration.relay()?.wait_for_event("device-state-received")?;
        return Ok(());
    }
    // A stopped destination process accepts only the bytes that fit into the socket, and sends no
    // reply. So its state is known.
    migration.source.begin_switchover(mode)?;
    migration.relay()?.wait_for_event("device-state-received")?;
    signal(migration.destination.id(), Signal::STOP)?;
    // If the last pages of RAM left no room in the socket, only part of the device state can be
    // sent.
    let _ = migration
        .relay()?
        .wait_for_event_timeout("device-state-sent", SEND_TIMEOUT);
    Ok(())
}

fn signal(id: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    kill_process(id.ok_or("no process id")?, signal)?;
    Ok(())
}

/// Waits until the guard has exited.
fn wait_until_exited(guard: u32) -> Result<()> {
    let deadline = Instant::now() + 2 * STEP_TIMEOUT;
    while Instant::now() < deadline {
        let stat = fs::read_to_string(format!("/proc/{guard}/stat"));
        // A zombie has exited, too.
        if stat.map_or(true, |stat| stat.contains(") Z ")) {
            return Ok(());
        }
        thread::sleep(POLL_INTERVAL);
    }
    Err("the guard does not exit".into())
}

impl RelayCase {
    /// Modes of the cases with a guard. The last one has multifd channels.
    pub(crate) const GUARDED_MODES: [Mode; 2] = [Mode::Plain, Mode::Multifd(2)];
}
