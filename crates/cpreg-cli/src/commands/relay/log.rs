//! [`Log`]: events of the relay as lines on standard error, and progress on a terminal.
//!
//! `tracing` does not write these lines. Its fields hold no arrays, nulls or objects, which the
//! JSON lines need. The layout of JSON in `tracing-subscriber` is fixed. Text and JSON would each
//! need their own `FormatEvent`, which is more code than [`Log::line`].

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cpreg::plan::Verdict;
use cpreg_relay::guard::VmLocationReport;
use cpreg_relay::{Address, Event, MigrationOutcome, MigrationResult, Observer};
use cpreg_report::names::RelayOutcome;
use cpreg_report::relay::event::{EventDetails, RelayEvent, SCHEMA};
use cpreg_stream::incremental::Phase;

use crate::arguments::Format;
use crate::journal::{Field, Journal, Priority};
use crate::printer::log_line;
use crate::progress::Progress;

/// Writer of log lines.
pub(super) struct Log {
    format: Format,
    /// Number of the current migration, counted from 1; 0 before the first migration.
    migration: AtomicUsize,
    progress: Mutex<ProgressState>,
}

struct ProgressState {
    line: Progress,
    /// Time of the last progress line, and the number of bytes forwarded at that time.
    last_sample: Option<(Instant, u64)>,
}

impl Log {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            migration: AtomicUsize::new(0),
            progress: Mutex::new(ProgressState {
                line: Progress::default(),
                last_sample: None,
            }),
        }
    }

    /// Creates the log of one of several migrations that run at the same time.
    pub(super) fn for_migration(format: Format, number: usize) -> Self {
        let log = Self::new(format);
        log.migration.store(number, Ordering::Relaxed);
        log
    }

    pub(super) fn listening(&self, address: &Address, to: &dyn Display) {
        self.line(
            format_args!("listening on {address}, relaying to {to}"),
            EventDetails::Listening {
                listen: address.to_string(),
                connect: to.to_string(),
            },
        );
    }

    /// Logs the verdict of the preflight check.
    pub(super) fn preflight(&self, verdict: Verdict) {
        self.line(
            format_args!("preflight: {}", verdict.name()),
            EventDetails::Preflight {
                verdict: verdict.into(),
            },
        );
    }

    /// Logs the result of the rehearsal in a copy of the destination's QEMU; `has_loaded` is the
    /// result.
    pub(super) fn rehearsed(&self, has_loaded: bool) {
        let result = if has_loaded {
            "a copy of the destination's QEMU loads the VM"
        } else {
            "not enough information to decide"
        };
        self.line(
            format_args!("rehearsed: {result}"),
            EventDetails::Rehearsed { loads: has_loaded },
        );
    }

    /// Logs the version and run state of one side's QEMU, as the guard queried them.
    pub(super) fn qemu_status(&self, side: &str, version: &str, run_state: &str) {
        self.line(
            format_args!("guard: {side}: QEMU {version}, {run_state}"),
            EventDetails::QemuStatus {
                side: side.to_owned(),
                version: version.to_owned(),
                run_state: run_state.to_owned(),
            },
        );
    }

    /// Logs that the guard has prepared both sides.
    pub(super) fn guard_ready(&self, return_path_switched_on: bool, autostart_blocked: bool) {
        let text_if = |condition, text| if condition { text } else { "" };
        self.line(
            format_args!(
                "guard: ready{}{}",
                text_if(return_path_switched_on, ", return-path switched on"),
                text_if(autostart_blocked, ", the destination does not start the VM"),
            ),
            EventDetails::GuardReady {
                return_path_switched_on,
                autostart_blocked,
            },
        );
    }

    /// Logs the VM's location that the guard determined.
    pub(super) fn vm_location(&self, location: &VmLocationReport) {
        self.line(
            format_args!("guard: {location}"),
            EventDetails::VmLocation {
                vm_location: location.place.name().to_owned(),
                running: location.running,
                reason: location.reason.clone(),
                actions: location.actions.clone(),
                advice: location.advice.clone(),
            },
        );
    }

    /// Increments the number of the migration, when the relay begins to wait for its source.
    pub(super) fn begin_migration(&self) {
        self.migration.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of the current migration.
    pub(super) fn migration(&self) -> usize {
        self.migration.load(Ordering::Relaxed)
    }

    pub(super) fn end_progress(&self) {
        self.lock_progress().line.end();
    }

    /// Logs the end of the migration, with `reasons` if the relay rejected the migration before any
    /// RAM was sent.
    pub(super) fn ended(&self, result: &MigrationResult, reasons: &[String]) {
        let outcome = outcome_name(&result.outcome);
        let error = match &result.outcome {
            MigrationOutcome::Failed(error) => Some(error.to_string_with_hint()),
            _ => None,
        };
        self.line(
            format_args!(
                "ended: {outcome}; {} bytes, and {} on other channels; the VM is {}",
                result.main_channel_bytes, result.other_channel_bytes, result.vm_location
            ),
            EventDetails::Ended {
                outcome: outcome.clone(),
                vm_location: result.vm_location.name().to_owned(),
                bytes: result.main_channel_bytes,
                other_channel_bytes: result.other_channel_bytes,
                error,
                rejected_because: reasons.to_vec(),
            },
        );
    }

    fn lock_progress(&self) -> std::sync::MutexGuard<'_, ProgressState> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update_progress(&self, phase: Phase, bytes: u64) {
        let mut progress = self.lock_progress();
        let now = Instant::now();
        let (last_time, last_bytes) = *progress.last_sample.get_or_insert((now, bytes));
        let seconds = now.duration_since(last_time).as_secs_f64();
        if seconds >= 0.5 {
            #[expect(
                clippy::cast_precision_loss,
                reason = "the rate is shown with one decimal"
            )]
            let rate = (bytes.saturating_sub(last_bytes)) as f64 / seconds / f64::from(1 << 20);
            progress.last_sample = Some((now, bytes));
            progress.line.show_rate(phase, bytes, rate);
        }
    }

    /// Writes one line to standard error, as text or as JSON.
    pub(super) fn line(&self, text: std::fmt::Arguments<'_>, event: EventDetails) {
        self.entry(None, text, event);
    }

    /// Writes one line, as text or as JSON: as an entry of the journal with fields, or to standard
    /// error without a journal.
    pub(super) fn entry(
        &self,
        journal: Option<&Journal>,
        text: std::fmt::Arguments<'_>,
        event: EventDetails,
    ) {
        self.lock_progress().line.end();
        let (priority, fields) = journal_fields(&event);
        let Some(line) = self.format_line(text, event) else {
            return;
        };
        let sent = journal.map(|journal| journal.send(priority, &line, &fields));
        if !matches!(sent, Some(Ok(()))) {
            log_line(line);
        }
    }

    /// Returns a line; `None` if the event has no JSON form.
    fn format_line(&self, text: std::fmt::Arguments<'_>, event: EventDetails) -> Option<String> {
        let migration = self.migration();
        match self.format {
            Format::Text if migration == 0 => Some(format!("relay: {text}")),
            Format::Text => Some(format!("relay: migration {migration}: {text}")),
            Format::Json => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                let seconds = since.map_or(0.0, |since| since.as_secs_f64());
                let line = RelayEvent {
                    schema: SCHEMA.to_owned(),
                    time: (seconds * 1e6).round() / 1e6,
                    migration,
                    event,
                };
                // The types of an event always have a JSON form.
                serde_json::to_string(&line).ok()
            }
        }
    }
}

/// Returns the priority and the fields of an event in the journal.
fn journal_fields(event: &EventDetails) -> (Priority, Vec<Field>) {
    let EventDetails::Served {
        vm,
        source,
        destination,
        verdict,
        outcome,
        vm_location,
        reasons,
        ..
    } = event
    else {
        return (Priority::Info, Vec::new());
    };
    let is_success = [RelayOutcome::COMPLETED, RelayOutcome::RECOVERED].contains(outcome);
    let priority = if is_success && reasons.is_empty() {
        Priority::Info
    } else {
        Priority::Warning
    };
    let optional = [
        ("CPREG_DOMAIN", vm.clone()),
        ("CPREG_SOURCE", source.clone()),
        ("CPREG_VERDICT", verdict.as_ref().map(ToString::to_string)),
    ];
    let known = optional
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let always = [
        ("CPREG_DESTINATION", destination.clone()),
        ("CPREG_OUTCOME", outcome.to_string()),
        ("CPREG_VM_LOCATION", vm_location.clone()),
    ];
    // An entry can have a field several times.
    let reasons = reasons.iter().map(|it| ("CPREG_REASON", it.clone()));
    (priority, known.chain(always).chain(reasons).collect())
}

/// Returns the name of an outcome in JSON.
pub(super) fn outcome_name(outcome: &MigrationOutcome) -> RelayOutcome {
    match outcome {
        MigrationOutcome::Completed => RelayOutcome::COMPLETED,
        MigrationOutcome::Refused => RelayOutcome::REFUSED,
        MigrationOutcome::Recovered => RelayOutcome::RECOVERED,
        MigrationOutcome::Failed(_) => RelayOutcome::FAILED,
        MigrationOutcome::Cancelled => RelayOutcome::CANCELLED,
        _ => RelayOutcome::OTHER,
    }
}

impl Observer for Log {
    fn on_event(&self, event: &Event<'_>) {
        match event {
            Event::Connected { channel, number } => self.line(
                format_args!("connection {number}: {}", channel.name()),
                EventDetails::Connected {
                    channel: channel.name().to_owned(),
                    number: *number,
                },
            ),
            Event::ConnectionRejected { channel, reason } => self.line(
                format_args!("connection rejected ({}): {reason}", channel.name()),
                EventDetails::ConnectionRejected {
                    channel: channel.name().to_owned(),
                    reason: (*reason).to_owned(),
                },
            ),
            Event::Setup(setup) => {
                let ram: u64 = setup.ram.iter().map(|block| block.length).sum();
                let text_if = |condition, text| if condition { text } else { "" };
                self.line(
                    format_args!(
                        "{}, {} MiB of RAM{}{}",
                        setup.machine.as_deref().unwrap_or("machine unknown"),
                        ram >> 20,
                        text_if(setup.return_path, ", with return path"),
                        text_if(setup.postcopy, ", postcopy possible"),
                    ),
                    EventDetails::Setup {
                        machine: setup.machine.clone(),
                        ram,
                        return_path: setup.return_path,
                        postcopy: setup.postcopy,
                    },
                );
            }
            Event::Phase { phase, bytes } => self.line(
                format_args!("phase {phase}, {bytes} bytes"),
                EventDetails::Phase {
                    phase: phase.name().to_owned(),
                    bytes: *bytes,
                },
            ),
            Event::Progress {
                phase,
                bytes,
                other_channel_bytes,
            } => self.update_progress(*phase, bytes + other_channel_bytes),
            Event::DeviceStateReceived { bytes, is_package } => {
                let kind = if *is_package {
                    "postcopy, a package"
                } else {
                    "precopy"
                };
                self.line(
                    format_args!("{bytes} bytes of device state are buffered ({kind})"),
                    EventDetails::DeviceStateReceived {
                        bytes: *bytes,
                        postcopy: *is_package,
                    },
                );
            }
            Event::DeviceStateSent {
                bytes,
                early_bytes,
                added_downtime_us,
            } => self.line(
                format_args!(
                    "{bytes} bytes of device state were sent; the first vCPU {added_downtime_us} \
                     us after the last was received"
                ),
                EventDetails::DeviceStateSent {
                    bytes: *bytes,
                    early_bytes: *early_bytes,
                    added_downtime_us: *added_downtime_us,
                },
            ),
            Event::ReturnPathShut(value) => self.line(
                format_args!(
                    "the destination {}",
                    if *value == 0 {
                        "has loaded the VM"
                    } else {
                        "has failed to load the VM"
                    }
                ),
                EventDetails::ReturnPathShut { shut_value: *value },
            ),
            Event::Refused(location) => self.line(
                format_args!("refused; the VM is {location}"),
                EventDetails::Refused {
                    vm_location: location.name().to_owned(),
                },
            ),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(outcome: RelayOutcome, reasons: &[&str]) -> EventDetails {
        EventDetails::Served {
            vm: Some("web".to_owned()),
            source: None,
            destination: "192.0.2.7:49152".to_owned(),
            verdict: Some(Verdict::Refused.into()),
            outcome,
            vm_location: "source".to_owned(),
            bytes: 1,
            other_channel_bytes: 0,
            reasons: reasons.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    #[test]
    fn the_end_of_a_migration_has_fields() {
        let (priority, fields) =
            journal_fields(&served(RelayOutcome::REFUSED, &["one register", "another"]));
        assert_eq!(priority, Priority::Warning);
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            fields,
            [
                "CPREG_DOMAIN=web",
                "CPREG_VERDICT=refused",
                "CPREG_DESTINATION=192.0.2.7:49152",
                "CPREG_OUTCOME=refused",
                "CPREG_VM_LOCATION=source",
                "CPREG_REASON=one register",
                "CPREG_REASON=another",
            ]
        );
    }

    #[test]
    fn a_success_without_reasons_is_no_warning() {
        for (outcome, reasons, expected) in [
            (RelayOutcome::COMPLETED, &[][..], Priority::Info),
            (RelayOutcome::RECOVERED, &[], Priority::Info),
            (RelayOutcome::COMPLETED, &["not checked"], Priority::Warning),
            (RelayOutcome::FAILED, &[], Priority::Warning),
        ] {
            assert_eq!(journal_fields(&served(outcome, reasons)).0, expected);
        }
    }
}
