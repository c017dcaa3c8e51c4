//! [`evaluate`]: determines the outcome of a migration from the output of both QEMUs, the guest and
//! cpreg.
//!
//! | file of a host | content |
//! |---|---|
//! | `NAME.log` | QEMU's errors and QMP replies, with the command's id `KIND-NUMBER` |
//! | `NAME.serial` | output of the guest, which reports after it receives a byte |
//! | `NAME.relay`, `.report`, `.relay-exit` | cpreg's log, report and exit status (destination) |
//!
//! The guest increments a counter in its RAM all the time. Its value when the guest was stopped
//! is read from the memory of the source QEMU. A guest that reports a higher value at the
//! destination has run there, with its memory.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::case::{MigrationCase, MigrationKind};
use super::expected::find_unknown;
use crate::matrix::outcome::GuestOutcome;
use e2e_framework::Result;

/// Result of one end of a migration.
#[derive(Clone, Debug, Default)]
struct EndResult {
    /// Outcome at this end, from the output of QEMU and of the guest.
    outcome: GuestOutcome,
    /// Counter value that the guest reports.
    reported_count: Option<u64>,
    /// Last reply to `query-migrate`.
    migration: Value,
    /// Last reply to `query-status`.
    vm_status: Value,
    /// Counter value in the memory of the stopped guest.
    memory_count: Option<u64>,
    /// Reply to `migrate-start-postcopy`.
    postcopy: Value,
}

/// Output of cpreg.
#[derive(Clone, Debug, Default)]
struct RelayOutput {
    /// Exit status.
    exit: String,
    report: String,
}

/// Evaluates a migration and returns its figures.
///
/// # Errors
/// Returns an error with the unexpected result, or the missing file.
pub(crate) fn evaluate(case: &MigrationCase, results: [&Path; 2]) -> Result<String> {
    let [source, destination] = results;
    let name = case.name();
    let destination_name = format!("{name}-destination");
    let source = EndResult::read(source, &format!("{name}-source"))?;
    let relay = if case.kind.is_served() {
        Some(RelayOutput::read_served(destination, &destination_name)?)
    } else if case.kind.uses_relay() {
        Some(RelayOutput::read(destination, &destination_name)?)
    } else {
        None
    };
    let destination = EndResult::read(destination, &destination_name)?;
    let result = if case.kind.should_stay() {
        check_stayed(case, &source, &destination, relay.as_ref())
    } else {
        check_moved(case, &source, &destination, relay.as_ref())
    };
    result.map_err(|error| {
        let relay = relay.map(|relay| format!("\n  cpreg ({}): {}", relay.exit, relay.report));
        format!(
            "{error}\n  source: {}, then {}; QEMU: {}\n  destination: QEMU: {}; cpreg run: {}{}",
            source.migration["status"],
            source.vm_status["status"],
            source.outcome.errors.join("; "),
            destination.outcome.errors.join("; "),
            destination.outcome.cpreg.join(" "),
            relay.unwrap_or_default(),
        )
        .into()
    })
}

/// Checks that the guest runs at the destination, with no other changes than the matrix lists.
fn check_moved(
    case: &MigrationCase,
    source: &EndResult,
    destination: &EndResult,
    relay: Option<&RelayOutput>,
) -> std::result::Result<String, String> {
    let is_relayed = relay.is_some_and(|relay| relay.exit == "0");
    if case.kind.uses_relay() && !is_relayed {
        return Err("cpreg does not report success".into());
    }
    let is_snapshot = case.kind == MigrationKind::RunSnapshot;
    let is_sent = is_snapshot || source.migration["status"] == "completed";
    if !is_sent || source.vm_status["running"] != false {
        return Err("the source has not completed the migration".into());
    }
    if !destination.outcome.is_running() {
        return Err("the guest does not run at the destination".into());
    }
    let (before, after) = source
        .memory_count
        .zip(destination.reported_count)
        .ok_or("a counter value of the guest is missing")?;
    if after <= before {
        return Err(format!(
            "the guest's counter was {before} at the source, and is {after} at the destination"
        ));
    }
    if !destination.outcome.counters.is_empty() {
        return Err(format!(
            "counters changed: {:?}",
            destination.outcome.counters
        ));
    }
    let differences = &destination.outcome.differences;
    // Some differences depend on the moment at which the guest was stopped. The guest may find
    // fewer than the matrix lists, or others of this kind.
    let known = [
        &*case.expected.differences,
        &case.expected.unstable_registers,
    ]
    .concat();
    if let Some(lost) = find_unknown(differences, &known) {
        return Err(format!(
            "the guest lost {lost}\n  the matrix lists: {:?}\n  the guest finds: {differences:?}",
            case.expected.differences
        ));
    }
    // The destination of a postcopy case must have requested pages.
    let has_requested_pages = source.migration["ram"]["postcopy-requests"]
        .as_u64()
        .is_some_and(|pages| pages > 0);
    if case.kind.is_postcopy() && (source.postcopy["return"].is_null() || !has_requested_pages) {
        return Err("the migration did not switch to postcopy".into());
    }
    if is_snapshot {
        return Ok(format!(
            "counter {before} in the snapshot, {after} at the destination; {} registers changed",
            differences.len()
        ));
    }
    Ok(format!(
        "downtime {} ms, total time {} ms, {} KiB; counter {before} at the source, {after} at the destination; {} registers changed",
        source.migration["downtime"],
        source.migration["total-time"],
        source.migration["ram"]["transferred"].as_u64().unwrap_or(0) >> 10,
        differences.len()
    ))
}

/// Checks that the guest continues at the source, and never ran at the destination.
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
        return Err("the source did not resume the guest".into());
    }
    let (before, after) = source
        .memory_count
        .zip(source.reported_count)
        .ok_or("a counter value of the guest is missing")?;
    if after <= before || !source.outcome.guest_finished {
        return Err(format!("the guest's counter was {before}, and is {after}"));
    }
    let known = [
        &*case.expected.source_differences,
        &case.expected.unstable_registers,
    ]
    .concat();
    if let Some(lost) = find_unknown(&source.outcome.differences, &known) {
        return Err(format!("the guest lost something at the source: {lost}"));
    }
    if !source.outcome.counters.is_empty() {
        return Err(format!("counters changed: {:?}", source.outcome.counters));
    }
    let reason = match relay {
        None if case.kind.uses_run() => {
            let lines = &destination.outcome.cpreg;
            let names = &case.expected.blockers;
            let is_named = |name: &String| {
                let prefix = format!("  {name} (vCPU ");
                lines.iter().any(|line| line.starts_with(&prefix))
            };
            if let Some(missing) = names.iter().find(|name| !is_named(name)) {
                return Err(format!("cpreg does not name {missing}"));
            }
            format!("refused for {}", names.join(", "))
        }
        None => {
            let expected = case.expected.failure.clone().unwrap_or_default();
            let errors = &destination.outcome.errors;
            if let Some(missing) = expected.iter().find(|line| !errors.contains(line)) {
                return Err(format!("the destination's QEMU did not print: {missing}"));
            }
            errors.join("; ")
        }
        Some(relay) => {
            if relay.exit != "1" && relay.exit != "3" {
                return Err("cpreg does not report a refusal".into());
            }
            let names = &case.expected.blockers;
            if let Some(missing) = names.iter().find(|name| !relay.report.contains(*name)) {
                return Err(format!("cpreg does not name {missing}"));
            }
            format!("refused for {}", names.join(", "))
        }
    };
    Ok(format!(
        "{reason}; counter {before}, and {after} after resuming"
    ))
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
                    end.memory_count = answer["return"].as_str().and_then(parse_memory_word);
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

/// Parses the doubleword in the output of `xp /1gx`: `0000000041000000: 0x000000000000002a`.
fn parse_memory_word(output: &str) -> Option<u64> {
    let (_, value) = output.trim().split_once(": 0x")?;
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

    /// Reads the log of a relay that serves many migrations. The exit status is that of a relay for
    /// one migration.
    fn read_served(results: &Path, name: &str) -> Result<Self> {
        let log = text(results, name, "relay")?;
        let events = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let served: Vec<Value> = events
            .filter(|event: &Value| event["event"] == "served")
            .collect();
        let [served] = served.as_slice() else {
            return Err(format!("not one migration was served: {log}").into());
        };
        let exit = match (served["outcome"].as_str(), served["verdict"].is_null()) {
            (Some("completed"), false) => "0",
            (Some("refused"), false) => "1",
            _ => "2",
        };
        Ok(Self {
            exit: exit.to_owned(),
            report: served["reasons"].to_string(),
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
                unstable_registers: Vec::new(),
                failure: Some(vec![
                    "load of migration failed: Invalid argument".to_owned(),
                ]),
                consent: Vec::new(),
                differences: vec!["X7 1 2".to_owned()],
                source_differences: Vec::new(),
                blockers: Vec::new(),
            },
        }
    }

    fn successful_relay() -> RelayOutput {
        RelayOutput {
            exit: "0".to_owned(),
            report: String::new(),
        }
    }

    #[test]
    fn a_moved_guest_continues_its_counter() {
        let source = end(SOURCE, "READY 1 GICv3\n");
        let serial = |count: &str| format!("DIFF 0 X7 1 2\nCOUNT 0 {count}\nDONE 1\n");
        let destination = |count| end(RESUMED, &serial(count));
        let (case, relay) = (case(MigrationKind::Precopy), successful_relay());
        let figures = check_moved(
            &case,
            &source,
            &destination("000000000000002b"),
            Some(&relay),
        )
        .unwrap();
        assert!(
            figures.contains("counter 42 at the source, 43"),
            "{figures}"
        );
        // The counter has not increased, so the guest does not run with its memory.
        assert!(
            check_moved(
                &case,
                &source,
                &destination("000000000000002a"),
                Some(&relay)
            )
            .is_err()
        );
        // A guest may lose less than the matrix lists, but not more.
        let intact = end(RESUMED, "COUNT 0 000000000000002b\nDONE 0\n");
        assert!(check_moved(&case, &source, &intact, Some(&relay)).is_ok());
        let serial = "DIFF 0 X8 1 2\nCOUNT 0 000000000000002b\nDONE 1\n";
        assert!(check_moved(&case, &source, &end(RESUMED, serial), Some(&relay)).is_err());
        // The destination resumed the guest, which does not respond.
        assert!(check_moved(&case, &source, &end(RESUMED, ""), Some(&relay)).is_err());
        // Postcopy was not requested.
        let postcopy = super::MigrationCase {
            kind: MigrationKind::Postcopy,
            ..case
        };
        assert!(
            check_moved(
                &postcopy,
                &source,
                &destination("000000000000002b"),
                Some(&relay)
            )
            .is_err()
        );
    }

    #[test]
    fn cpreg_run_names_the_blockers() {
        let log = SOURCE
            .replace("completed", "failed")
            .replace("false", "true");
        let source = end(&log, "COUNT 0 000000000000002b\nDONE 0\n");
        let mut case = case(MigrationKind::RunRefused);
        case.expected.blockers = vec!["PSCI_VERSION".to_owned()];
        let refusal = end(
            "cpreg: refused: 1\n  PSCI_VERSION (vCPU 0): the VM has\n",
            "",
        );
        assert!(check_stayed(&case, &source, &refusal, None).is_ok());
        assert!(check_stayed(&case, &source, &end("", ""), None).is_err());
    }

    #[test]
    fn a_snapshot_needs_no_migration() {
        let source = end(&SOURCE.replace("completed", "none"), "READY 1 GICv3\n");
        let destination = end(RESUMED, "COUNT 0 000000000000002b\nDONE 0\n");
        let snapshot = case(MigrationKind::RunSnapshot);
        assert!(check_moved(&snapshot, &source, &destination, None).is_ok());
        let precopy = case(MigrationKind::RunPrecopy);
        assert!(check_moved(&precopy, &source, &destination, None).is_err());
    }

    #[test]
    fn a_refused_guest_continues_its_counter_at_the_source() {
        let log = SOURCE
            .replace("completed", "failed")
            .replace("false", "true");
        let source = end(&log, "COUNT 0 000000000000002b\nDONE 0\n");
        let stderr = "qemu-system-aarch64: load of migration failed: Invalid argument\n";
        let case = case(MigrationKind::Direct);
        assert!(check_stayed(&case, &source, &end(stderr, ""), None).is_ok());
        // The destination must fail with the known reason, and not run the guest.
        assert!(check_stayed(&case, &source, &end("", ""), None).is_err());
        let both = format!("{stderr}{RESUMED}");
        assert!(check_stayed(&case, &source, &end(&both, ""), None).is_err());
        // The guest makes no progress, or is lost.
        let stalled = end(&log, "COUNT 0 000000000000002a\nDONE 0\n");
        assert!(check_stayed(&case, &stalled, &end(stderr, ""), None).is_err());
        let lost = end(SOURCE, "COUNT 0 000000000000002b\nDONE 0\n");
        assert!(check_stayed(&case, &lost, &end(stderr, ""), None).is_err());
        assert_eq!(json!("failed"), source.migration["status"]);
    }
}
