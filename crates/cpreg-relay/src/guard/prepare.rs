//! What the guard asks and changes before a migration: whether both sides can begin, what cannot pass a relay, the return path, the hold.
//!
//! | asked | refused if |
//! |---|---|
//! | `query-status` | the source neither runs nor is paused; the destination does not wait for a migration |
//! | `query-migrate-parameters` | `tls-creds` is set (encrypted: nothing can be read), `mode` is one of CPR (descriptors cannot pass) |
//! | `query-migrate-capabilities` | `x-colo` (never ends), `background-snapshot` (no migration) |
//!
//! Changed: `return-path` at the source, and `stop` at the destination: in `inmigrate` that does nothing but switch autostart off (tried with
//! 7.2, 10.0 and 11.1). All else stays as it is. `zero-copy-send` does no harm: only who sends has to do with it.

use serde_json::{Value, json};

use super::engine::Guard;
use super::machine::{GuardEvent, SourceGuestState};
use super::monitor::Monitor;
use super::protocol::QemuStatus;
use super::states::{MigrationStatus, RunState, SideStatus};
use crate::error::Error;

/// Capabilities that a stream must not have been made with.
const UNSUPPORTED_CAPABILITIES: [(&str, &str); 2] = [
    (
        "x-colo",
        "COLO goes on for ever and never hands the VM over",
    ),
    (
        "background-snapshot",
        "a background snapshot is for a file, and its VM stays where it is",
    ),
];

/// How both sides were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialStatus {
    /// The source, if asked.
    pub source: Option<QemuStatus>,
    /// The destination, if asked.
    pub destination: Option<QemuStatus>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// An earlier migration is over but for the last word: [`Guard::step`] says it.
    pub is_unfinished: bool,
}

/// What was made ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Whether the return path was switched on.
    pub return_path_switched_on: bool,
    /// Whether the destination is held.
    pub autostart_blocked: bool,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl Guard {
    /// Looks at both sides.
    ///
    /// # Errors
    /// If one is in no state to begin a migration, and they are not left over from one that an earlier guard did not finish either.
    pub fn query_initial_status(&mut self) -> Result<InitialStatus, Error> {
        let source = poll_side(&mut self.source, "the source")?;
        let dest = poll_side(&mut self.destination, "the destination")?;
        let mut notes = Vec::new();
        if let (Some(from), Some(to)) = (&self.source, &self.destination) {
            let (from, to) = (from.version(), to.version());
            if (to.major, to.minor) < (from.major, from.minor) {
                notes.push(format!(
                    "the destination's QEMU ({}) is older than the source's ({}): that is tried \
                     by few, and needs a machine type that both have",
                    to.number(),
                    from.number()
                ));
            }
        }
        let found = |monitor: &Option<Monitor>, seen: &Option<(RunState, MigrationStatus)>| {
            let (run, _) = seen.as_ref()?;
            Some(monitor.as_ref()?.status(run))
        };
        let mut survey = InitialStatus {
            source: found(&self.source, &source),
            destination: found(&self.destination, &dest),
            notes,
            is_unfinished: false,
        };
        if self.is_unfinished(source.as_ref(), dest.as_ref()) {
            // Whatever carried it is gone.
            self.apply(&GuardEvent::UnfinishedMigrationFound);
            survey.is_unfinished = true;
            return Ok(survey);
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
        if let Some((run, loaded)) = dest
            && run != RunState::INMIGRATE
        {
            let failure = Error::guard(format!(
                "the destination does not wait for a migration: its guest is `{run}`"
            ));
            return Err(failure.with_hint(
                if run == RunState::PAUSED && loaded != MigrationStatus::NONE {
                    "it holds what an earlier migration brought. If the VM runs at the source: end \
                     this QEMU (`quit`), never let it go on, and start a new one"
                } else {
                    "start its QEMU with `-incoming`, on the address that the relay connects to"
                },
            ));
        }
        Ok(survey)
    }

    /// Whether a migration is over, or in postcopy with the destination never told to run: the guard of that time was killed.
    fn is_unfinished(
        &mut self,
        source: Option<&(RunState, MigrationStatus)>,
        dest: Option<&(RunState, MigrationStatus)>,
    ) -> bool {
        let (Some((from, sent)), Some((to, loaded))) = (source, dest) else {
            return false;
        };
        let is_precopy =
            *sent == MigrationStatus::COMPLETED && *loaded == MigrationStatus::COMPLETED;
        let is_postcopy = sent.is_postcopy() && loaded.is_postcopy();
        let is_loaded = *to == RunState::PAUSED || is_precopy && *to == RunState::RUNNING;
        let is_left = from.is_stopped_by_migration() && is_loaded && (is_precopy || is_postcopy);
        // They have to be the same VM, as far as that can be told.
        is_left && self.answers_match("query-uuid") && self.answers_match("query-name")
    }

    /// Whether both answer the same.
    fn answers_match(&mut self, question: &str) -> bool {
        let (Some(source), Some(dest)) = (&mut self.source, &mut self.destination) else {
            return false;
        };
        match (
            source.execute_or_fail(question, json!({})),
            dest.execute_or_fail(question, json!({})),
        ) {
            (Ok(there), Ok(here)) => there == here,
            _ => false,
        }
    }

    /// Checks what cannot pass a relay, switches the return path on, and holds the destination.
    ///
    /// # Errors
    /// If something is set that cannot pass, or a QEMU refuses. The destination may be held by then.
    pub fn prepare(&mut self) -> Result<Prepared, Error> {
        let mut ready = Prepared {
            return_path_switched_on: false,
            autostart_blocked: false,
            notes: Vec::new(),
        };
        if let Some(source) = &mut self.source {
            let parameters = source.execute_or_fail("query-migrate-parameters", json!({}))?;
            check_parameters(&parameters)?;
            let capabilities = source.execute_or_fail("query-migrate-capabilities", json!({}))?;
            for (name, why) in UNSUPPORTED_CAPABILITIES {
                if is_on(&capabilities, name) {
                    return Err(Error::guard(format!(
                        "the source has the capability `{name}`: {why}"
                    ))
                    .with_hint(format!(
                        "switch it off: `migrate-set-capabilities` with `{name}` false"
                    )));
                }
            }
            if !is_on(&capabilities, "return-path") {
                let list = json!([{"capability": "return-path", "state": true}]);
                source
                    .execute_or_fail("migrate-set-capabilities", json!({"capabilities": list}))?;
                ready.return_path_switched_on = true;
            }
            self.apply(&GuardEvent::ReturnPathEnabled);
        }
        if ready.return_path_switched_on {
            self.record_action("the source: return-path switched on");
        }
        if let Some(dest) = &mut self.destination {
            dest.execute_or_fail("stop", json!({}))?;
            if !dest.poll().is_in_state(&RunState::INMIGRATE) {
                return Err(
                    Error::guard("the destination began its migration before it was held")
                        .with_hint("start the relay before the migration"),
                );
            }
            self.apply(&GuardEvent::AutostartBlocked);
            ready.autostart_blocked = true;
            self.record_action("the destination: stop (it will not start on its own)");
        }
        if self.destination.is_none() {
            ready.notes.push(
                "the destination's monitor is not known: it starts by itself when it has loaded \
                 all, before it says so. If the connection breaks just then the VM runs on both \
                 sides. --destination-qmp prevents that"
                    .to_owned(),
            );
        }
        if self.source.is_none() {
            ready.notes.push(
                "the source's monitor is not known: a VM that stopped there and was refused is \
                 not started again. --source-qmp does that"
                    .to_owned(),
            );
        }
        Ok(ready)
    }
}

fn poll_side(
    monitor: &mut Option<Monitor>,
    who: &str,
) -> Result<Option<(RunState, MigrationStatus)>, Error> {
    let Some(monitor) = monitor else {
        return Ok(None);
    };
    match monitor.poll() {
        SideStatus::Present { run, migration } => Ok(Some((run, migration))),
        side => Err(Error::guard(format!("{who}: {side}"))),
    }
}

fn check_source(run: &RunState, migration: &MigrationStatus) -> Result<(), Error> {
    if !migration.is_settled() {
        return Err(
            Error::guard(format!("the source migrates already (`{migration}`)")).with_hint(
                "let it end, or give it up (QMP `migrate_cancel`), and start the relay first",
            ),
        );
    }
    if *run == RunState::RUNNING || *run == RunState::PAUSED {
        return Ok(());
    }
    let failure = Error::guard(format!(
        "the source's guest neither runs nor is paused: it is `{run}`"
    ));
    Err(if run.is_stopped_by_migration() {
        failure.with_hint(
            "it was migrated away, or saved. Only if no other QEMU has it: QMP `cont` lets it go \
             on",
        )
    } else {
        failure
    })
}

fn check_parameters(parameters: &Value) -> Result<(), Error> {
    let text = |name| {
        let text = parameters.get(name).and_then(Value::as_str);
        text.unwrap_or("")
    };
    if !text("tls-creds").is_empty() {
        return Err(Error::guard(
            "the source encrypts its migration (`tls-creds` is set): nothing can be read or \
             changed on the way",
        )
        .with_hint(
            "`migrate-set-parameters` with `tls-creds` \"\" on both sides, and a tunnel (ssh, \
             stunnel, WireGuard) between the relay and the other host",
        ));
    }
    let mode = text("mode");
    if mode.starts_with("cpr-") {
        return Err(Error::guard(format!(
            "the source's migration mode is `{mode}`: it hands descriptors over within one host, \
             and no relay can carry them"
        ))
        .with_hint("`migrate-set-parameters` with `mode` \"normal\""));
    }
    Ok(())
}

fn is_on(capabilities: &Value, name: &str) -> bool {
    let mut all = capabilities.as_array().into_iter().flatten();
    all.any(|it| {
        it.get("capability") == Some(&json!(name)) && it.get("state") == Some(&json!(true))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_pass() {
        let check = |value| check_parameters(&value).map_err(|error| error.to_string());
        assert_eq!(check(json!({"tls-creds": "", "mode": "normal"})), Ok(()));
        assert_eq!(check(json!({})), Ok(()));
        let tls = check(json!({"tls-creds": "tls0"})).unwrap_err();
        assert!(tls.contains("encrypts"), "{tls}");
        let cpr = check(json!({"mode": "cpr-transfer"})).unwrap_err();
        assert!(cpr.contains("`cpr-transfer`"), "{cpr}");
    }

    #[test]
    fn a_source_that_cannot_begin() {
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
    fn capabilities_that_are_on() {
        let list = json!([{"capability": "xbzrle", "state": false}, {"capability": "return-path", "state": true}]);
        assert!(is_on(&list, "return-path"));
        assert!(!is_on(&list, "xbzrle"));
        assert!(!is_on(&list, "x-colo"));
        assert!(!is_on(&Value::Null, "x-colo"));
    }
}
