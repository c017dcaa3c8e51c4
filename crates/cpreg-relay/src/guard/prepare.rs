//! Checks and changes before a migration: the state of both sides, features that cannot pass a
//! relay, the return path, and the autostart.
//!
//! | query | refused if |
//! |---|---|
//! | `query-status` | the source neither runs nor is paused; the destination is not `inmigrate` |
//! | `query-migrate-parameters` | `tls-creds` is set (encrypted), or `mode` is a CPR mode |
//! | `query-migrate-capabilities` | `x-colo` (endless), `background-snapshot` (not a migration) |
//!
//! The modes of CPR pass descriptors, which a relay cannot forward.
//!
//! The guard changes two things: it switches `return-path` on at the source, and sends `stop` to
//! the destination. In `inmigrate`, `stop` only blocks autostart (tested with 7.2, 10.0 and 11.1).
//! `zero-copy-send` is allowed, because it concerns the sender alone.

use serde_json::{Value, json};

use super::engine::Guard;
use super::machine::{GuardEvent, SourceGuestState};
use super::monitor::Monitor;
use super::protocol::{InitialStatus, Prepared};
use super::states::{MigrationStatus, RunState, SideStatus};
use crate::error::Error;

/// Capabilities that a relay does not support, with the reason for the user.
const UNSUPPORTED_CAPABILITIES: [(&str, &str); 2] = [
    ("x-colo", "COLO never ends and never hands the VM over"),
    (
        "background-snapshot",
        "a background snapshot is written to a file, and its VM stays at the source",
    ),
];

impl Guard {
    /// Queries both sides. Returns `None` if an earlier migration is unfinished because its guard
    /// was killed; [`Guard::step`] then finishes that migration.
    ///
    /// # Errors
    /// Returns an error if the state of one side does not allow a migration to begin.
    pub fn query_initial_status(&mut self) -> Result<Option<InitialStatus>, Error> {
        let source = poll_side(&mut self.source, "the source")?;
        let destination = poll_side(&mut self.destination, "the destination")?;
        let mut notes = Vec::new();
        if let (Some(source), Some(destination)) = (&self.source, &self.destination) {
            let (source, destination) = (source.version(), destination.version());
            if (destination.major, destination.minor) < (source.major, source.minor) {
                notes.push(format!(
                    "the destination's QEMU ({}) is older than the source's ({}): this direction \
                     is little tested, and needs a machine type that both have",
                    destination.number(),
                    source.number()
                ));
            }
        }
        let status = |monitor: &Option<Monitor>, states: &Option<(RunState, MigrationStatus)>| {
            let (run, _) = states.as_ref()?;
            Some(monitor.as_ref()?.status(run))
        };
        let initial_status = InitialStatus {
            source: status(&self.source, &source),
            destination: status(&self.destination, &destination),
            notes,
            vm_location: None,
        };
        if self.is_unfinished(source.as_ref(), destination.as_ref()) {
            // This event also records that the relay of that migration has ended.
            self.apply(&GuardEvent::UnfinishedMigrationFound);
            return Ok(None);
        }
        if let Some((run, migration)) = source {
            check_source(&run, &migration)?;
            self.apply(&GuardEvent::SourceGuestObserved(
                if run == RunState::RUNNING {
                    SourceGuestState::Running
                } else {
                    SourceGuestState::Paused
                },
            ));
        }
        if let Some((run, migration)) = destination
            && run != RunState::INMIGRATE
        {
            let failure = Error::guard(format!(
                "the destination is not waiting for an incoming migration: its run state is `{run}`"
            ));
            return Err(failure.with_hint(
                if run == RunState::PAUSED && migration != MigrationStatus::NONE {
                    "it holds a VM from an earlier migration. If the VM runs at the source: end \
                     this QEMU (`quit`), never resume it, and start a new one"
                } else {
                    "start its QEMU with `-incoming`, on the address that the relay connects to"
                },
            ));
        }
        Ok(Some(initial_status))
    }

    /// Returns `true` if a migration has completed or is in postcopy, but the destination was never
    /// resumed. The guard of that migration was killed.
    fn is_unfinished(
        &mut self,
        source: Option<&(RunState, MigrationStatus)>,
        destination: Option<&(RunState, MigrationStatus)>,
    ) -> bool {
        let (Some((source_run, source_migration)), Some((destination_run, destination_migration))) =
            (source, destination)
        else {
            return false;
        };
        let is_completed = *source_migration == MigrationStatus::COMPLETED
            && *destination_migration == MigrationStatus::COMPLETED;
        let is_in_postcopy = source_migration.is_postcopy() && destination_migration.is_postcopy();
        let is_loaded = *destination_run == RunState::PAUSED
            || is_completed && *destination_run == RunState::RUNNING;
        let is_interrupted =
            source_run.is_stopped_by_migration() && is_loaded && (is_completed || is_in_postcopy);
        // Both sides must have the same VM, as far as QMP can show.
        is_interrupted && self.both_sides_agree("query-uuid") && self.both_sides_agree("query-name")
    }

    /// Returns `true` if both sides give the same answer to a query.
    fn both_sides_agree(&mut self, query: &str) -> bool {
        let (Some(source), Some(destination)) = (&mut self.source, &mut self.destination) else {
            return false;
        };
        match (
            source.execute_or_fail(query, json!({})),
            destination.execute_or_fail(query, json!({})),
        ) {
            (Ok(source), Ok(destination)) => source == destination,
            _ => false,
        }
    }

    /// Checks for features that cannot pass a relay, switches the return path on, and blocks the
    /// destination's autostart.
    ///
    /// # Errors
    /// Returns an error if such a feature is switched on, or a QEMU refuses a command. After an
    /// error, the guard may already have blocked the autostart.
    pub fn prepare(&mut self) -> Result<Prepared, Error> {
        let mut prepared = Prepared {
            return_path_switched_on: false,
            autostart_blocked: false,
            notes: Vec::new(),
        };
        if let Some(source) = &mut self.source {
            let parameters = source.execute_or_fail("query-migrate-parameters", json!({}))?;
            check_parameters(&parameters)?;
            let capabilities = source.execute_or_fail("query-migrate-capabilities", json!({}))?;
            for (name, reason) in UNSUPPORTED_CAPABILITIES {
                if is_enabled(&capabilities, name) {
                    return Err(Error::guard(format!(
                        "the source has the capability `{name}`: {reason}"
                    ))
                    .with_hint(format!(
                        "switch it off: `migrate-set-capabilities` with `{name}` false"
                    )));
                }
            }
            if !is_enabled(&capabilities, "return-path") {
                let list = json!([{"capability": "return-path", "state": true}]);
                source
                    .execute_or_fail("migrate-set-capabilities", json!({"capabilities": list}))?;
                prepared.return_path_switched_on = true;
            }
            self.apply(&GuardEvent::ReturnPathEnabled);
        }
        if prepared.return_path_switched_on {
            self.record_action("the source: return-path switched on");
        }
        if let Some(destination) = &mut self.destination {
            destination.execute_or_fail("stop", json!({}))?;
            if !destination.poll().is_in_state(&RunState::INMIGRATE) {
                return Err(Error::guard(
                    "the destination began its migration before its autostart was blocked",
                )
                .with_hint("start the relay before the migration"));
            }
            self.apply(&GuardEvent::AutostartBlocked);
            prepared.autostart_blocked = true;
            self.record_action("the destination: stop (blocks its autostart)");
        }
        if self.destination.is_none() {
            prepared.notes.push(
                "the destination's monitor is not known: QEMU starts the guest before it \
                 confirms the load. If the connection breaks in between, the VM runs on both \
                 sides. --destination-qmp prevents that"
                    .to_owned(),
            );
        }
        if self.source.is_none() {
            prepared.notes.push(
                "the source's monitor is not known: after a rejection, the VM stays stopped \
                 at the source. With --source-qmp, cpreg resumes it"
                    .to_owned(),
            );
        }
        Ok(prepared)
    }
}

fn poll_side(
    monitor: &mut Option<Monitor>,
    role: &str,
) -> Result<Option<(RunState, MigrationStatus)>, Error> {
    let Some(monitor) = monitor else {
        return Ok(None);
    };
    match monitor.poll() {
        SideStatus::Present { run, migration } => Ok(Some((run, migration))),
        side => Err(Error::guard(format!("{role}: {side}"))),
    }
}

fn check_source(run: &RunState, migration: &MigrationStatus) -> Result<(), Error> {
    if !migration.is_settled() {
        return Err(
            Error::guard(format!("the source is already migrating (`{migration}`)")).with_hint(
                "wait for its end or cancel it (QMP `migrate_cancel`), and start the relay first",
            ),
        );
    }
    if *run == RunState::RUNNING || *run == RunState::PAUSED {
        return Ok(());
    }
    let error = Error::guard(format!(
        "the source's guest neither runs nor is paused: it is `{run}`"
    ));
    Err(if run.is_stopped_by_migration() {
        error.with_hint(
            "it was migrated or saved. If no other QEMU has it, resume it with QMP `cont`",
        )
    } else {
        error
    })
}

fn check_parameters(parameters: &Value) -> Result<(), Error> {
    let text = |name| {
        let text = parameters.get(name).and_then(Value::as_str);
        text.unwrap_or("")
    };
    if !text("tls-creds").is_empty() {
        return Err(Error::guard(
            "the source encrypts its migration (`tls-creds` is set): the relay can neither read \
             nor edit the stream",
        )
        .with_hint(
            "use `migrate-set-parameters` with `tls-creds` \"\" on both sides, and a tunnel (ssh, \
             stunnel, WireGuard) between the relay and the other host",
        ));
    }
    let mode = text("mode");
    if mode.starts_with("cpr-") {
        return Err(Error::guard(format!(
            "the source's migration mode is `{mode}`: it passes descriptors within one host, and \
             no relay can forward them"
        ))
        .with_hint("use `migrate-set-parameters` with `mode` \"normal\""));
    }
    Ok(())
}

fn is_enabled(capabilities: &Value, name: &str) -> bool {
    let mut capabilities = capabilities.as_array().into_iter().flatten();
    capabilities.any(|capability| {
        capability.get("capability") == Some(&json!(name))
            && capability.get("state") == Some(&json!(true))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_parameters() {
        let check = |value| check_parameters(&value).map_err(|error| error.to_string());
        assert_eq!(check(json!({"tls-creds": "", "mode": "normal"})), Ok(()));
        assert_eq!(check(json!({})), Ok(()));
        let tls = check(json!({"tls-creds": "tls0"})).unwrap_err();
        assert!(tls.contains("encrypts"), "{tls}");
        let cpr = check(json!({"mode": "cpr-transfer"})).unwrap_err();
        assert!(cpr.contains("`cpr-transfer`"), "{cpr}");
    }

    #[test]
    fn source_states() {
        let check = |run: &'static str, migration: &'static str| {
            check_source(&RunState::new(run), &MigrationStatus::new(migration)).err()
        };
        assert!(check("running", "none").is_none());
        assert!(check("paused", "failed").is_none());
        let migrated = check("postmigrate", "completed").unwrap();
        assert!(migrated.hint().unwrap().contains("no other QEMU"));
        assert!(check("running", "active").is_some());
        assert!(check("shutdown", "none").is_some());
    }

    #[test]
    fn enabled_capabilities() {
        let list = json!([{"capability": "xbzrle", "state": false}, {"capability": "return-path", "state": true}]);
        assert!(is_enabled(&list, "return-path"));
        assert!(!is_enabled(&list, "xbzrle"));
        assert!(!is_enabled(&list, "x-colo"));
        assert!(!is_enabled(&Value::Null, "x-colo"));
    }
}
