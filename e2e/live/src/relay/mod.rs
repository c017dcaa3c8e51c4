//! `cpreg relay` between two real QEMUs, with a guest that changes its RAM all the time.
//!
//! | module | what lives there |
//! |---|---|
//! | [`cases`] | which cases there are |
//! | [`endpoint`] | the QEMU at either end |
//! | [`migration`] | one migration: two QEMUs, and the relay between them |
//! | [`process`] | the relay |
//! | [`lookalike_ram`] | RAM that looks like device state |
//! | [`guard`] | the drain guard, with somebody killed |
//!
//! What is here: what is done in a case, and what makes it fail. A migration is held in RAM (by a downtime that is never reached,
//! or by little bandwidth) until pages were sent again, or postcopy is under way; so nothing depends on how fast this machine is.

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

/// Runs one case. Gives a few words about how it went.
///
/// # Errors
/// If it fails; with what everybody said.
pub(crate) fn run(bench: &Fixture, case: &RelayCase) -> Result<String> {
    match case.scenario {
        Scenario::Success => run_success(bench, case),
        Scenario::WithoutRelay => run_without_relay(bench, case),
        Scenario::EarlyRefusal => run_early_refusal(bench, case),
        Scenario::LateRefusal => run_late_refusal(bench, case),
        Scenario::LookalikeRam => lookalike_ram::run(bench, case),
        Scenario::GuardedSuccess => guard::run_success(bench, case),
        Scenario::GuardedRefusal => guard::run_refusal(bench, case),
        Scenario::GuardedFailure => guard::run_failure(bench, case),
        Scenario::Kill(victim, moment) => guard::run_kill(bench, case, victim, moment),
    }
}

/// See [`Scenario::Success`].
fn run_success(bench: &Fixture, case: &RelayCase) -> Result<String> {
    // Both ways to say that it may begin have their turn.
    let consent = match (case.mode.has_return_path(), case.source < case.destination) {
        (true, _) => RelayOption::None,
        (false, true) => RelayOption::SourceStream,
        (false, false) => RelayOption::AllowNoReturnPath,
    };
    let vcpus = case.machine.vcpus;
    Migration::with_relay(bench, case, vcpus, consent, &[])?.run_with_output(|migration| {
        let status = migration.send()?;
        let arrived = migration.assert_arrived(&status)?;
        let vm = match case.mode {
            Mode::Plain => ["destination-unconfirmed"],
            _ => ["destination"],
        };
        migration.relay()?.assert_exit(0, &vm, "the VM is")?;
        assert_mode(case.mode, &migration.source.ram()?)?;
        let events = migration.relay()?.events()?;
        let connections = events.iter().filter(|it| it["event"] == "connected");
        let expected = match case.mode {
            Mode::Multifd(channels) => channels as usize + 1,
            Mode::Preempt => 2,
            _ => 1,
        };
        let connections = connections.count();
        if connections != expected {
            return Err(format!("{connections} connections, expected {expected}").into());
        }
        let pause = events.iter().find(|it| it["event"] == "device-state-sent");
        let pause = pause.map_or(&Value::Null, |event| &event["added_downtime_us"]);
        Ok(format!("{arrived}; held for {pause} us"))
    })
}

/// See [`Scenario::WithoutRelay`].
fn run_without_relay(bench: &Fixture, case: &RelayCase) -> Result<String> {
    Migration::without_relay(bench, case, &[])?.run_with_output(|migration| {
        let status = migration.send()?;
        assert_status(&status, &[("failed", "running")])?;
        migration.source.assert_counting()?;
        migration.destination.assert_not_running()?;
        let said = migration.destination.stderr();
        let last = said.lines().last().unwrap_or_default();
        let last = last.rsplit("qemu-system-aarch64: ").next();
        Ok(format!("as it is: {}", last.unwrap_or_default()))
    })
}

/// See [`Scenario::EarlyRefusal`].
fn run_early_refusal(bench: &Fixture, case: &RelayCase) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(bench, case, vcpus, RelayOption::None, &[])?.run_with_output(
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

/// See [`Scenario::LateRefusal`].
fn run_late_refusal(bench: &Fixture, case: &RelayCase) -> Result<String> {
    let consent = if case.mode.has_return_path() {
        RelayOption::None
    } else {
        RelayOption::AllowNoReturnPath
    };
    // As a QEMU with one vCPU more the destination refuses the VM, and nobody knows before all vCPUs have come.
    let vcpus = case.machine.vcpus + 1;
    Migration::with_relay(bench, case, vcpus, consent, &[])?.run_with_output(|migration| {
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
        let rescue = match status.vm.as_str() {
            "running" => {
                migration.source.assert_counting()?;
                "the guest goes on"
            }
            "postmigrate" => {
                migration.source.execute("cont", serde_json::json!({}))?;
                migration.source.assert_counting()?;
                "`cont` lets the guest go on"
            }
            _ => "the guest stands still",
        };
        Ok(format!(
            "the source is {}, {rescue}; {end}",
            status.migration
        ))
    })
}

/// How a source may be after a refusal of its device state: `query-migrate` and `query-status` (docs/facts.md).
fn expected_after_refusal(case: &RelayCase) -> &'static [(&'static str, &'static str)] {
    match (case.mode, case.source) {
        (Mode::Plain, _) => &[("completed", "postmigrate")],
        (Mode::ReturnPath | Mode::Multifd(_) | Mode::Xbzrle, _) => &[("failed", "running")],
        // Which of two threads comes first decides.
        (Mode::Postcopy | Mode::Preempt, "7.2") => &[
            ("postcopy-paused", "finish-migrate"),
            ("failed", "postmigrate"),
        ],
        (Mode::Postcopy | Mode::Preempt, _) => &[("failed", "running")],
    }
}

/// Whether the migration was what its mode says: QEMU falls back to less without a word.
fn assert_mode(mode: Mode, migration: &Value) -> Result<()> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let ram = &migration["ram"];
    let is_so = match mode {
        Mode::Plain | Mode::ReturnPath => number(&ram["dirty-sync-count"]) >= 2,
        Mode::Multifd(_) => number(&ram["multifd-bytes"]) > 1 << 20,
        Mode::Xbzrle => number(&migration["xbzrle-cache"]["pages"]) > 0,
        Mode::Postcopy | Mode::Preempt => number(&ram["postcopy-bytes"]) > 1 << 20,
    };
    if is_so {
        return Ok(());
    }
    Err(format!("this was no migration by {mode}: {migration}").into())
}
