//! [`Log`]: events of the relay as lines on standard error, and progress on a terminal.
//!
//! `tracing` does not write these lines. Its fields hold no arrays, nulls or objects, which the
//! JSON lines need. The layout of JSON in `tracing-subscriber` is fixed. Text and JSON would each
//! need their own `FormatEvent`, which is more code than [`Log::line`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cpreg::plan::Verdict;
use cpreg_relay::guard::VmLocationReport;
use cpreg_relay::{Address, Event, MigrationOutcome, MigrationResult, Observer};
use cpreg_stream::incremental::Phase;
use serde_json::{Map, Value, json};

use crate::arguments::Format;
use crate::printer::{Progress, log_line};

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

    pub(super) fn listening(&self, address: &Address, to: &Address) {
        self.line(
            "listening",
            format_args!("listening on {address}, relaying to {to}"),
            json!({ "listen": address.to_string(), "connect": to.to_string() }),
        );
    }

    /// Logs the verdict of the preflight check.
    pub(super) fn preflight(&self, verdict: Verdict) {
        self.line(
            "preflight",
            format_args!("preflight: {}", verdict.name()),
            json!({ "verdict": verdict.name() }),
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
            "rehearsed",
            format_args!("rehearsed: {result}"),
            json!({ "loads": has_loaded }),
        );
    }

    /// Logs the version and run state of one side's QEMU, as the guard queried them.
    pub(super) fn qemu_status(&self, side: &str, version: &str, run_state: &str) {
        self.line(
            "qemu-status",
            format_args!("guard: {side}: QEMU {version}, {run_state}"),
            json!({ "side": side, "version": version, "run_state": run_state }),
        );
    }

    /// Logs that the guard has prepared both sides.
    pub(super) fn guard_ready(&self, return_path_switched_on: bool, autostart_blocked: bool) {
        let text_if = |condition, text| if condition { text } else { "" };
        self.line(
            "guard-ready",
            format_args!(
                "guard: ready{}{}",
                text_if(return_path_switched_on, ", return-path switched on"),
                text_if(autostart_blocked, ", the destination does not start the VM"),
            ),
            json!({
                "return_path_switched_on": return_path_switched_on,
                "autostart_blocked": autostart_blocked,
            }),
        );
    }

    /// Logs the VM's location that the guard determined.
    pub(super) fn vm_location(&self, location: &VmLocationReport) {
        self.line(
            "vm-location",
            format_args!("guard: {location}"),
            json!({
                "vm_location": location.place.name(),
                "running": location.running,
                "reason": location.reason,
                "actions": location.actions,
                "advice": location.advice,
            }),
        );
    }

    /// Increments the number of the migration, when the relay begins to wait for its source.
    pub(super) fn begin_migration(&self) {
        self.migration.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_progress(&self) {
        self.lock_progress().line.end();
    }

    /// Logs the end of the migration, with `reasons` if the relay rejected the migration before any
    /// RAM was sent.
    pub(super) fn ended(&self, result: &MigrationResult, reasons: &[String]) {
        let outcome = match &result.outcome {
            MigrationOutcome::Completed => "completed",
            MigrationOutcome::Refused => "refused",
            MigrationOutcome::Recovered => "recovered",
            MigrationOutcome::Failed(_) => "failed",
            MigrationOutcome::Cancelled => "cancelled",
            _ => "other",
        };
        let mut members = json!({
            "outcome": outcome,
            "vm_location": result.vm_location.name(),
            "bytes": result.main_channel_bytes,
            "other_channel_bytes": result.other_channel_bytes,
        });
        if let (MigrationOutcome::Failed(error), Some(members)) =
            (&result.outcome, members.as_object_mut())
        {
            members.insert("error".to_owned(), error.to_string_with_hint().into());
        }
        if let (false, Some(members)) = (reasons.is_empty(), members.as_object_mut()) {
            members.insert("rejected_because".to_owned(), reasons.into());
        }
        self.line(
            "ended",
            format_args!(
                "ended: {outcome}; {} bytes, and {} on other channels; the VM is {}",
                result.main_channel_bytes, result.other_channel_bytes, result.vm_location
            ),
            members,
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

    /// Writes one line, as text or as a JSON object with `event` and `members`.
    fn line(&self, event: &str, text: std::fmt::Arguments<'_>, members: Value) {
        self.lock_progress().line.end();
        let migration = self.migration.load(Ordering::Relaxed);
        match self.format {
            Format::Text if migration == 0 => log_line(format_args!("relay: {text}")),
            Format::Text => log_line(format_args!("relay: migration {migration}: {text}")),
            Format::Json => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                let seconds = since.map_or(0.0, |since| since.as_secs_f64());
                let mut object = Map::new();
                object.insert("event".to_owned(), event.into());
                object.insert("time".to_owned(), ((seconds * 1e6).round() / 1e6).into());
                object.insert("migration".to_owned(), migration.into());
                if let Value::Object(members) = members {
                    object.extend(members);
                }
                log_line(Value::Object(object));
            }
        }
    }
}

impl Observer for Log {
    fn on_event(&self, event: &Event<'_>) {
        let name = event.name();
        match event {
            Event::Connected { channel, number } => self.line(
                name,
                format_args!("connection {number}: {}", channel.name()),
                json!({ "channel": channel.name(), "number": number }),
            ),
            Event::ConnectionRejected { channel, reason } => self.line(
                name,
                format_args!("connection rejected ({}): {reason}", channel.name()),
                json!({ "channel": channel.name(), "reason": reason }),
            ),
            Event::Setup(setup) => {
                let ram: u64 = setup.ram.iter().map(|block| block.length).sum();
                let text_if = |condition, text| if condition { text } else { "" };
                self.line(
                    name,
                    format_args!(
                        "{}, {} MiB of RAM{}{}",
                        setup.machine.as_deref().unwrap_or("machine unknown"),
                        ram >> 20,
                        text_if(setup.return_path, ", with return path"),
                        text_if(setup.postcopy, ", postcopy possible"),
                    ),
                    json!({
                        "machine": setup.machine,
                        "ram": ram,
                        "return_path": setup.return_path,
                        "postcopy": setup.postcopy,
                    }),
                );
            }
            Event::Phase { phase, bytes } => self.line(
                name,
                format_args!("phase {phase}, {bytes} bytes"),
                json!({ "phase": phase.name(), "bytes": bytes }),
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
                    name,
                    format_args!("{bytes} bytes of device state are buffered ({kind})"),
                    json!({ "bytes": bytes, "postcopy": is_package }),
                );
            }
            Event::DeviceStateSent {
                bytes,
                early_bytes,
                added_downtime_us,
            } => self.line(
                name,
                format_args!(
                    "{bytes} bytes of device state were sent; the first vCPU {added_downtime_us} \
                     us after the last was received"
                ),
                json!({
                    "bytes": bytes,
                    "early_bytes": early_bytes,
                    "added_downtime_us": added_downtime_us,
                }),
            ),
            Event::ReturnPathShut(value) => self.line(
                name,
                format_args!(
                    "the destination {}",
                    if *value == 0 {
                        "has loaded the VM"
                    } else {
                        "has failed to load the VM"
                    }
                ),
                json!({ "shut_value": value }),
            ),
            Event::Refused(location) => self.line(
                name,
                format_args!("refused; the VM is {location}"),
                json!({ "vm_location": location.name() }),
            ),
            _ => {}
        }
    }
}
