//! `cpreg relay` between two real QEMUs, with a guest that changes its RAM all the time.
//!
//! | module | content |
//! |---|---|
//! | [`cases`](mod@cases) | list of cases |
//! | [`endpoint`] | QEMU on either side |
//! | [`migration`] | one migration: two QEMUs, and the relay between them |
//! | [`process`] | process of the relay |
//! | [`lookalike_ram`] | RAM that looks like device state |
//! | [`guard`] | cases of the switchover guard, mostly with a killed process |
//!
//! This module has the steps of a case, and what must hold after each. No case depends on the speed
//! of this machine: an unreachable downtime limit, or little bandwidth, prevents a migration from
//! ending too early. Precopy ends only after pages have been sent more than once, and a postcopy
//! migration only after postcopy has begun.

mod cases;
mod endpoint;
mod guard;
mod lookalike_ram;
mod migration;
mod process;

use e2e_framework::Result;
use serde_json::Value;

use self::cases::{Mode, Scenario};
pub(super) use self::cases::{RelayCase, cases};
use self::migration::{Migration, RelayOption, assert_status};
use crate::steps::Fixture;

/// Runs one case and returns a summary.
///
/// # Errors
/// Returns an error if the case fails, with the output of all processes.
pub(crate) fn run(fixture: &Fixture, case: &RelayCase) -> Result<String> {
    match case.scenario {
        Scenario::Success => run_success(fixture, case),
        Scenario::WithoutRelay => run_without_relay(fixture, case),
        Scenario::EarlyRefusal => run_early_refusal(fixture, case),
        Scenario::LateRefusal => run_late_refusal(fixture, case),
        Scenario::LookalikeRam => lookalike_ram::run(fixture, case),
        Scenario::GuardedSuccess => guard::run_success(fixture, case),
        Scenario::GuardedRefusal => guard::run_refusal(fixture, case),
        Scenario::GuardedFailure => guard::run_failure(fixture, case),
        Scenario::Kill(victim, moment) => guard::run_kill(fixture, case, victim, moment),
    }
}

/// Runs [`Scenario::Success`].
fn run_success(fixture: &Fixture, case: &RelayCase) -> Result<String> {
    // Without a return path, the migration needs one of two options. The pairs use one each.
    let option = match (case.mode.has_return_path(), case.source < case.destination) {
        (true, _) => RelayOption::None,
        (false, true) => RelayOption::SourceStream,
        (false, false) => RelayOption::AllowNoReturnPath,
    };
    let vcpus = case.machine.vcpus;
    Migration::with_relay(fixture, case, vcpus, option, &[])?.run_with_output(|migration| {
        let status = migration.send()?;
        let arrived = migration.assert_arrived(&status)?;
        let vm = match case.mode {
            Mode::Plain => ["destination-unconfirmed"],
            _ => ["destination"],
        };
        migration.relay()?.assert_exit(0, &vm, "the VM is")?;
        assert_mode(case.mode, &migration.source.query_migrate()?)?;
        let events = migration.relay()?.events()?;
        let connections = events.iter().filter(|event| event["event"] == "connected");
        let expected = match case.mode {
            Mode::Multifd(channels) => channels as usize + 1,
            Mode::Preempt => 2,
            _ => 1,
        };
        let connections = connections.count();
        if connections != expected {
            return Err(format!("{connections} connections, expected {expected}").into());
        }
        let downtime = events
            .iter()
            .find(|event| event["event"] == "device-state-sent");
        let downtime = downtime.map_or(&Value::Null, |event| &event["added_downtime_us"]);
        Ok(format!("{arrived}; added downtime {downtime} us"))
    })
}

/// Runs [`Scenario::WithoutRelay`].
fn run_without_relay(fixture: &Fixture, case: &RelayCase) -> Result<String> {
    Migration::without_relay(fixture, case, &[])?.run_with_output(|migration| {
        let status = migration.send()?;
        assert_status(&status, &[("failed", "running")])?;
        migration.source.assert_counting()?;
        migration.destination.assert_not_running()?;
        let stderr = migration.destination.stderr();
        let last = stderr.lines().last().unwrap_or_default();
        let last = last.rsplit("qemu-system-aarch64: ").next();
        Ok(format!("as it is: {}", last.unwrap_or_default()))
    })
}

/// Runs [`Scenario::EarlyRefusal`].
fn run_early_refusal(fixture: &Fixture, case: &RelayCase) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(fixture, case, vcpus, RelayOption::None, &[])?.run_with_output(
        |migration| {
            migration.source.send(case.mode, &migration.address)?;
            let status = migration.source.wait_until_ended()?;
            assert_status(&status, &[("failed", "running")])?;
            if migration.source.stop_count() > 0 {
                return Err("the guest was stopped".into());
            }
            migration.source.assert_counting()?;
            let end = migration.destination.assert_not_running()?;
            let relay = migration.relay()?;
            relay.assert_exit(1, &["source"], "the VM is: at the source")?;
            Ok(format!("the guest was never stopped; {end}"))
        },
    )
}

/// Runs [`Scenario::LateRefusal`].
fn run_late_refusal(fixture: &Fixture, case: &RelayCase) -> Result<String> {
    let option = if case.mode.has_return_path() {
        RelayOption::None
    } else {
        RelayOption::AllowNoReturnPath
    };
    // The profile has one vCPU more, so the relay refuses the VM, but only after it has received
    // all vCPUs.
    let vcpus = case.machine.vcpus + 1;
    Migration::with_relay(fixture, case, vcpus, option, &[])?.run_with_output(|migration| {
        let status = migration.send()?;
        assert_status(&status, expected_after_refusal(case))?;
        let end = migration.destination.assert_not_running()?;
        let vm: &[&str] = match case.mode {
            Mode::Plain => &["source-stopped"],
            Mode::Postcopy | Mode::Preempt => &["source-postcopy-paused"],
            _ => &["source"],
        };
        let relay = migration.relay()?;
        relay.assert_exit(1, vm, "the VM is: at the source")?;
        let guest = match status.vm.as_str() {
            "running" => {
                migration.source.assert_counting()?;
                "the guest continues"
            }
            "postmigrate" => {
                migration.source.execute("cont", serde_json::json!({}))?;
                migration.source.assert_counting()?;
                "`cont` resumes the guest"
            }
            _ => "the guest is stopped",
        };
        Ok(format!(
            "the source is {}, {guest}; {end}",
            status.migration
        ))
    })
}

/// Returns the possible states of a source after a refusal of its device state, from
/// `query-migrate` and `query-status` (docs/facts.md).
fn expected_after_refusal(case: &RelayCase) -> &'static [(&'static str, &'static str)] {
    match (case.mode, case.source) {
        (Mode::Plain, _) => &[("completed", "postmigrate")],
        (Mode::ReturnPath | Mode::Multifd(_) | Mode::Xbzrle, _) => &[("failed", "running")],
        // The result depends on which of two threads of QEMU is first.
        (Mode::Postcopy | Mode::Preempt, "7.2") => &[
            ("postcopy-paused", "finish-migrate"),
            ("failed", "postmigrate"),
        ],
        (Mode::Postcopy | Mode::Preempt, _) => &[("failed", "running")],
    }
}

/// Checks that the migration used the mode. QEMU may fall back to another without an error.
fn assert_mode(mode: Mode, migration: &Value) -> Result<()> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let ram = &migration["ram"];
    let is_used = match mode {
        Mode::Plain | Mode::ReturnPath => number(&ram["dirty-sync-count"]) >= 2,
        Mode::Multifd(_) => number(&ram["multifd-bytes"]) > 1 << 20,
        Mode::Xbzrle => number(&migration["xbzrle-cache"]["pages"]) > 0,
        Mode::Postcopy | Mode::Preempt => number(&ram["postcopy-bytes"]) > 1 << 20,
    };
    if is_used {
        return Ok(());
    }
    Err(format!("the migration did not use {mode}: {migration}").into())
}
