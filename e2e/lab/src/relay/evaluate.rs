//! [`evaluate`]: what became of a migration, by what both QEMUs, the guest and cpreg said.
//!
//! | file of an end | what |
//! |---|---|
//! | `NAME.log` | QEMU's output: its QMP, where each answer has the id `KIND-NUMBER` of the question, and its errors |
//! | `NAME.serial` | what the guest said, once it was asked where it ended up |
//! | `NAME.relay`, `.report`, `.relay-exit` | cpreg's log, its answer and its exit status; at the destination |
//!
//! The guest counts in its RAM all the time. What it had counted to when it was stopped at the source is read out of the stopped QEMU there, so a guest that says more
//! at the destination has run there, with the memory that it had.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::case::{MigrationCase, MigrationKind};
use super::expected::find_unknown;
use crate::matrix::outcome::GuestOutcome;
use e2e_framework::Result;

/// One end of a migration.
#[derive(Clone, Debug, Default)]
struct EndResult {
    /// Its QEMU and its guest.
    outcome: GuestOutcome,
    /// How far the guest says that it counted.
    reported_count: Option<u64>,
    /// The last answers of QMP, by the kind of question.
    migration: Value,
    vm_status: Value,
    memory_count: Option<u64>,
    postcopy: Value,
}

/// What cpreg left.
#[derive(Clone, Debug, Default)]
struct RelayOutput {
    exit: String,
    report: String,
}

/// How it went, in figures.
///
/// # Errors
/// What is not as it should be, or which file is missing.
pub(crate) fn evaluate(case: &MigrationCase, results: [&Path; 2]) -> Result<String> {
    let [source, destination] = results;
    let name = case.name();
    let there = format!("{name}-destination");
    let source = EndResult::read(source, &format!("{name}-source"))?;
    let relay = if case.kind == MigrationKind::Direct {
        None
    } else {
        Some(RelayOutput::read(destination, &there)?)
    };
    let destination = EndResult::read(destination, &there)?;
    let said = if case.kind.should_stay() {
        check_stayed(case, &source, &destination, relay.as_ref())
    } else {
        check_moved(case, &source, &destination, relay.as_ref())
    };
    said.map_err(|error| {
        let relay = relay.map(|relay| format!("\n  cpreg ({}): {}", relay.exit, relay.report));
        format!(
            "{error}\n  source: {}, then {}; QEMU: {}\n  destination: QEMU: {}{}",
            source.migration["status"],
            source.vm_status["status"],
            source.outcome.errors.join("; "),
            destination.outcome.errors.join("; "),
            relay.unwrap_or_default(),
        )
        .into()
    })
}

/// The guest goes on at the destination, as it was or as the matrix says.
fn check_moved(
    case: &MigrationCase,
    source: &EndResult,
    destination: &EndResult,
    relay: Option<&RelayOutput>,
) -> std::result::Result<String, String> {
    if relay.is_none_or(|relay| relay.exit != "0") {
        return Err("cpreg does not say that it was passed on".into());
    }
    if source.migration["status"] != "completed" || source.vm_status["running"] != false {
        return Err("the source is not done with it".into());
    }
    if !destination.outcome.is_running() {
        return Err("the guest does not run at the destination".into());
    }
    let (before, after) = source
        .memory_count
        .zip(destination.reported_count)
        .ok_or("nobody says how far the guest had counted")?;
    if after <= before {
        return Err(format!(
            "the guest counted to {before}, and to {after} there"
        ));
    }
    if !destination.outcome.counters.is_empty() {
        return Err(format!("time: {:?}", destination.outcome.counters));
    }
    let found = &destination.outcome.differences;
    // Some of what the matrix has depends on when the guest was stopped: it may find less.
    if let Some(lost) = find_unknown(found, &case.expected.differences) {
        return Err(format!(
            "the guest lost {lost}\n  the matrix has: {:?}\n  and it finds: {found:?}",
            case.expected.differences
        ));
    }
    // Those who asked for postcopy must have got it.
    let is_postcopy = source.migration["ram"]["postcopy-requests"]
        .as_u64()
        .is_some_and(|pages| pages > 0);
    if case.kind == MigrationKind::Postcopy && (source.postcopy["return"].is_null() || !is_postcopy)
    {
        return Err("it was no postcopy".into());
    }
    Ok(format!(
        "stood still for {} ms, {} ms in all, {} KiB; counted to {before}, and to {after} there; {} registers changed",
        source.migration["downtime"],
        source.migration["total-time"],
        source.migration["ram"]["transferred"].as_u64().unwrap_or(0) >> 10,
        found.len()
    ))
}

/// The guest goes on at the source, and never ran elsewhere.
fn check_stayed(
    case: &MigrationCase,
    source: &EndResult,
    destination: &EndResult,
    relay: Option<&RelayOutput>,
) -> std::result::Result<String, String> {
    if destination.outcome.resumed || destination.reported_count.is_some() {
        return Err("the guest ran at the destination".into());
    }
    if source.migration["status"] != "failed" || source.vm_status["running"] != true {
        return Err("the source does not go on with it".into());
    }
    let (before, after) = source
        .memory_count
        .zip(source.reported_count)
        .ok_or("nobody says how far the guest had counted")?;
    if after <= before || !source.outcome.guest_finished {
        return Err(format!(
            "the guest counted to {before}, and then to {after}"
        ));
    }
    if let Some(lost) = find_unknown(
        &source.outcome.differences,
        &case.expected.source_differences,
    ) {
        return Err(format!("the guest lost something at the source: {lost}"));
    }
    if !source.outcome.counters.is_empty() {
        return Err(format!("time: {:?}", source.outcome.counters));
    }
    let why = match relay {
        None => {
            let wanted = case.expected.failure.clone().unwrap_or_default();
            let said = &destination.outcome.errors;
            if let Some(missing) = wanted.iter().find(|line| !said.contains(line)) {
                return Err(format!("the destination's QEMU should say: {missing}"));
            }
            said.join("; ")
        }
        Some(relay) => {
            if relay.exit != "1" && relay.exit != "3" {
                return Err("cpreg does not say that it refused".into());
            }
            let names = &case.expected.blockers;
            if let Some(missing) = names.iter().find(|name| !relay.report.contains(*name)) {
                return Err(format!("cpreg does not name {missing}"));
            }
            format!("refused for {}", names.join(", "))
        }
    };
    Ok(format!("{why}; counted to {before}, and on to {after}"))
}

impl EndResult {
    fn read(results: &Path, name: &str) -> Result<Self> {
        let outcome = GuestOutcome::read(results, name)?;
        let log = text(results, name, "log")?;
        let serial = text(results, name, "serial")?;
        Ok(Self {
            outcome,
            ..Self::from_logs(&log, &serial)
        })
    }

    fn from_logs(log: &str, serial: &str) -> Self {
        let mut end = Self::default();
        for line in log.lines() {
            let Ok(answer) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let id = answer["id"].as_str().unwrap_or_default();
            match id.split('-').next().unwrap_or_default() {
                "migration" => end.migration = answer["return"].clone(),
                "run" => end.vm_status = answer["return"].clone(),
                "counted" => {
                    end.memory_count = answer["return"].as_str().and_then(parse_memory_word)
                }
                "postcopy" => end.postcopy = answer.clone(),
                _ => {}
            }
        }
        // COUNT 0 000000000000002a
        end.reported_count = serial.lines().find_map(|line| {
            let count = line.strip_prefix("COUNT 0 ")?;
            u64::from_str_radix(count.trim(), 16).ok()
        });
        end
    }
}

/// The one doubleword of `xp /1gx`: `0000000041000000: 0x000000000000002a`.
fn parse_memory_word(said: &str) -> Option<u64> {
    let (_, value) = said.trim().split_once(": 0x")?;
    u64::from_str_radix(value, 16).ok()
}

impl RelayOutput {
    fn read(results: &Path, name: &str) -> Result<Self> {
        let log = text(results, name, "relay")?;
        Ok(Self {
            exit: text(results, name, "relay-exit")?.trim().to_owned(),
            report: text(results, name, "report")? + &log,
        })
    }
}

fn text(results: &Path, name: &str, kind: &str) -> Result<String> {
    let path = results.join(format!("{name}.{kind}"));
    let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::expected::Expected;
    use super::*;

    const SOURCE: &str = r#"{"QMP": {}}
{"return": {"status": "active"}, "id": "migration-4"}
{"return": {"status": "completed", "downtime": 5, "total-time": 60, "ram": {"transferred": 2048}}, "id": "migration-5"}
{"return": "0000000041000000: 0x000000000000002a\r\n", "id": "counted-6"}
{"return": {"status": "postmigrate", "running": false}, "id": "run-7"}
"#;
    const RESUMED: &str = "{\"event\": \"RESUME\"}\n";

    fn end(log: &str, serial: &str) -> EndResult {
        EndResult {
            outcome: GuestOutcome::from_logs(log, serial),
            ..EndResult::from_logs(log, serial)
        }
    }

    fn case(kind: MigrationKind) -> MigrationCase {
        MigrationCase {
            kind,
            source_host: 0,
            port: 4000,
            expected: Expected {
                failure: Some(vec![
                    "load of migration failed: Invalid argument".to_owned(),
                ]),
                consent: None,
                differences: vec!["X7 1 2".to_owned()],
                source_differences: Vec::new(),
                blockers: Vec::new(),
            },
        }
    }

    fn passed() -> RelayOutput {
        RelayOutput {
            exit: "0".to_owned(),
            report: String::new(),
        }
    }

    #[test]
    fn a_guest_that_counts_on_has_moved() {
        let source = end(SOURCE, "READY 1 GICv3\n");
        let serial = |count: &str| format!("DIFF 0 X7 1 2\nCOUNT 0 {count}\nDONE 1\n");
        let there = |count| end(RESUMED, &serial(count));
        let (case, relay) = (case(MigrationKind::Precopy), passed());
        let said = check_moved(&case, &source, &there("000000000000002b"), Some(&relay)).unwrap();
        assert!(said.contains("counted to 42, and to 43"), "{said}");
        // One that was there all the time, or started anew.
        assert!(check_moved(&case, &source, &there("000000000000002a"), Some(&relay)).is_err());
        // One that lost more than the matrix says; one that lost less is fine.
        let intact = end(RESUMED, "COUNT 0 000000000000002b\nDONE 0\n");
        assert!(check_moved(&case, &source, &intact, Some(&relay)).is_ok());
        let serial = "DIFF 0 X8 1 2\nCOUNT 0 000000000000002b\nDONE 1\n";
        assert!(check_moved(&case, &source, &end(RESUMED, serial), Some(&relay)).is_err());
        // One that the destination let go on, and that does not.
        assert!(check_moved(&case, &source, &end(RESUMED, ""), Some(&relay)).is_err());
        // No postcopy was asked for.
        let postcopy = super::MigrationCase {
            kind: MigrationKind::Postcopy,
            ..case
        };
        assert!(check_moved(&postcopy, &source, &there("000000000000002b"), Some(&relay)).is_err());
    }

    #[test]
    fn a_guest_that_stays_counts_on_at_the_source() {
        let log = SOURCE
            .replace("completed", "failed")
            .replace("false", "true");
        let source = end(&log, "COUNT 0 000000000000002b\nDONE 0\n");
        let words = "qemu-system-aarch64: load of migration failed: Invalid argument\n";
        let case = case(MigrationKind::Direct);
        assert!(check_stayed(&case, &source, &end(words, ""), None).is_ok());
        // It must fail for the reason that is known, and not run there.
        assert!(check_stayed(&case, &source, &end("", ""), None).is_err());
        let both = format!("{words}{RESUMED}");
        assert!(check_stayed(&case, &source, &end(&both, ""), None).is_err());
        // It stands still, or is lost.
        let still = end(&log, "COUNT 0 000000000000002a\nDONE 0\n");
        assert!(check_stayed(&case, &still, &end(words, ""), None).is_err());
        let lost = end(SOURCE, "COUNT 0 000000000000002b\nDONE 0\n");
        assert!(check_stayed(&case, &lost, &end(words, ""), None).is_err());
        assert_eq!(json!("failed"), source.migration["status"]);
    }
}
