//! `cpreg relay` between two real QEMUs, with a guest that changes its RAM all the time.
//!
//! | module | what lives there |
//! |---|---|
//! | [`cases`] | which cases there are |
//! | [`end`] | the QEMU at either end |
//! | [`migration`] | one migration: two QEMUs, and the relay between them |
//! | [`process`] | the relay |
//! | [`imitations`] | RAM that looks like device state |
//! | [`killed`] | the drain guard, with somebody killed |
//!
//! What is here: what is done in a case, and what makes it fail. A migration is held in RAM (by a downtime that is never reached,
//! or by little bandwidth) until pages were sent again, or postcopy is under way; so nothing depends on how fast this machine is.

mod cases;
mod end;
mod imitations;
mod killed;
mod migration;
mod process;

use e2e_framework::Result;
use serde_json::Value;

pub(super) use self::cases::{Case, cases};
use self::cases::{Mode, Trial};
use self::migration::{Consent, Migration, must_be};
use crate::steps::Bench;

/// Runs one case. Gives a few words about how it went.
///
/// # Errors
/// If it fails; with what everybody said.
pub(crate) fn run(bench: &Bench, case: &Case) -> Result<String> {
    match case.trial {
        Trial::Through => through(bench, case),
        Trial::Today => today(bench, case),
        Trial::Early => early(bench, case),
        Trial::Late => late(bench, case),
        Trial::Imitations => imitations::run(bench, case),
        Trial::Guarded => killed::through(bench, case),
        Trial::GuardedRefusal => killed::refused(bench, case),
        Trial::GuardedFailure => killed::failed(bench, case),
        Trial::Killed(victim, moment) => killed::killed(bench, case, victim, moment),
    }
}

/// See [`Trial::Through`].
fn through(bench: &Bench, case: &Case) -> Result<String> {
    // Both ways to say that it may begin have their turn.
    let consent = match (case.mode.has_way_back(), case.from < case.to) {
        (true, _) => Consent::None,
        (false, true) => Consent::From,
        (false, false) => Consent::NoWayBack,
    };
    let vcpus = case.machine.vcpus;
    Migration::with_relay(bench, case, vcpus, consent, &[])?.explained(|migration| {
        let status = migration.send()?;
        let arrived = migration.must_have_arrived(&status)?;
        let vm = match case.mode {
            Mode::Plain => ["probably-destination"],
            _ => ["destination"],
        };
        migration.relay()?.must_end(0, &vm, "the VM is")?;
        must_be_in_mode(case.mode, &migration.source.ram()?)?;
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
        let pause = events.iter().find(|it| it["event"] == "went-on");
        let pause = pause.map_or(&Value::Null, |event| &event["microseconds"]);
        Ok(format!("{arrived}; held for {pause} us"))
    })
}

/// See [`Trial::Today`].
fn today(bench: &Bench, case: &Case) -> Result<String> {
    Migration::without(bench, case, &[])?.explained(|migration| {
        let status = migration.send()?;
        must_be(&status, &[("failed", "running")])?;
        migration.source.must_count()?;
        migration.destination.must_not_run()?;
        let said = migration.destination.said();
        let last = said.lines().last().unwrap_or_default();
        let last = last.rsplit("qemu-system-aarch64: ").next();
        Ok(format!("as it is: {}", last.unwrap_or_default()))
    })
}

/// See [`Trial::Early`].
fn early(bench: &Bench, case: &Case) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(bench, case, vcpus, Consent::None, &[])?.explained(|migration| {
        migration.source.send(case.mode, &migration.address)?;
        let status = migration.source.wait_until_ended()?;
        must_be(&status, &[("failed", "running")])?;
        if migration.source.stops() > 0 {
            return Err("the guest was stopped".into());
        }
        migration.source.must_count()?;
        let end = migration.destination.must_not_run()?;
        let relay = migration.relay()?;
        relay.must_end(1, &["source"], "the VM is: at the source")?;
        Ok(format!("the guest was never stopped; {end}"))
    })
}

/// See [`Trial::Late`].
fn late(bench: &Bench, case: &Case) -> Result<String> {
    let consent = if case.mode.has_way_back() {
        Consent::None
    } else {
        Consent::NoWayBack
    };
    // As a QEMU with one vCPU more the destination refuses the VM, and nobody knows before all vCPUs have come.
    let vcpus = case.machine.vcpus + 1;
    Migration::with_relay(bench, case, vcpus, consent, &[])?.explained(|migration| {
        let status = migration.send()?;
        must_be(&status, after_refusal(case))?;
        let end = migration.destination.must_not_run()?;
        let vm: &[&str] = match case.mode {
            Mode::Plain => &["source-stopped"],
            Mode::Postcopy | Mode::Preempt => &["source-postcopy-paused"],
            _ => &["source"],
        };
        let relay = migration.relay()?;
        relay.must_end(1, vm, "the VM is: at the source")?;
        let rescue = match status.vm.as_str() {
            "running" => {
                migration.source.must_count()?;
                "the guest goes on"
            }
            "postmigrate" => {
                migration.source.execute("cont", serde_json::json!({}))?;
                migration.source.must_count()?;
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
fn after_refusal(case: &Case) -> &'static [(&'static str, &'static str)] {
    match (case.mode, case.from) {
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
fn must_be_in_mode(mode: Mode, migration: &Value) -> Result<()> {
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
