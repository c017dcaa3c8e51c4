//! [`Log`]: events of the relay as lines on standard error, and progress on a terminal.
//!
//! `tracing` does not write these lines. Its fields hold no arrays, nulls or objects, which the JSON
//! lines have, and the layout of `tracing-subscriber`'s JSON is fixed. Both formats would need a
//! `FormatEvent` of their own, which is more code than [`Log::line`].

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

/// Writes log lines.
pub(super) struct Log {
    format: Format,
    /// Which migration this is, from 1 on.
    migration: AtomicUsize,
    progress: Mutex<ProgressState>,
}

struct ProgressState {
    line: Progress,
    /// When something was told, and how much had passed then.
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
            format_args!("listening on {address}, for {to}"),
            json!({ "listen": address.to_string(), "connect": to.to_string() }),
        );
    }

    /// What is certain of the source that was named.
    pub(super) fn preflight(&self, verdict: Verdict) {
        self.line(
            "preflight",
            format_args!("preflight: {}", verdict.name()),
            json!({ "verdict": verdict.name() }),
        );
    }

    /// A copy of the destination's QEMU was asked.
    pub(super) fn rehearsed(&self, has_loaded: bool) {
        let word = if has_loaded {
            "loads it"
        } else {
            "cannot tell"
        };
        self.line(
            "rehearsed",
            format_args!("rehearsed: a copy of the destination's QEMU {word}"),
            json!({ "loads": has_loaded }),
        );
    }

    /// The guard looked at one side.
    pub(super) fn qemu_status(&self, side: &str, version: &str, run_state: &str) {
        self.line(
            "qemu-status",
            format_args!("guard: {side}: QEMU {version}, {run_state}"),
            json!({ "side": side, "version": version, "run_state": run_state }),
        );
    }

    /// The guard made both sides ready.
    pub(super) fn guard_ready(&self, return_path: bool, held: bool) {
        let word = |yes, word| if yes { word } else { "" };
        self.line(
            "guard-ready",
            format_args!(
                "guard: ready{}{}",
                word(return_path, ", return-path switched on"),
                word(held, ", the destination is held"),
            ),
            json!({ "return_path_switched_on": return_path, "autostart_blocked": held }),
        );
    }

    /// The guard has settled where the VM is.
    pub(super) fn vm_location(&self, whereabouts: &VmLocationReport) {
        self.line(
            "vm-location",
            format_args!("guard: {whereabouts}"),
            json!({
                "vm_location": whereabouts.place.name(),
                "running": whereabouts.running,
                "reason": whereabouts.reason,
                "actions": whereabouts.actions,
                "advice": whereabouts.advice,
            }),
        );
    }

    /// The next migration is waited for.
    pub(super) fn begin_migration(&self) {
        self.migration.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_progress(&self) {
        self.lock_progress().line.end();
    }

    /// It has ended; `reasons`: why it was not begun.
    pub(super) fn ended(&self, ended: &MigrationResult, reasons: &[String]) {
        let outcome = match &ended.outcome {
            MigrationOutcome::Completed => "completed",
            MigrationOutcome::Refused => "refused",
            MigrationOutcome::Recovered => "recovered",
            MigrationOutcome::Failed(_) => "failed",
            MigrationOutcome::Cancelled => "cancelled",
            _ => "other",
        };
        let mut members = json!({
            "outcome": outcome,
            "vm_location": ended.vm_location.name(),
            "bytes": ended.main_channel_bytes,
            "other_channel_bytes": ended.other_channel_bytes,
        });
        if let (MigrationOutcome::Failed(error), Some(members)) =
            (&ended.outcome, members.as_object_mut())
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
                ended.main_channel_bytes, ended.other_channel_bytes, ended.vm_location
            ),
            members,
        );
    }

    fn lock_progress(&self) -> std::sync::MutexGuard<'_, ProgressState> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update_progress(&self, phase: Phase, bytes: u64) {
        let mut moving = self.lock_progress();
        let now = Instant::now();
        let (since, before) = *moving.last_sample.get_or_insert((now, bytes));
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds >= 0.5 {
            #[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
            let rate = (bytes.saturating_sub(before)) as f64 / seconds / f64::from(1 << 20);
            moving.last_sample = Some((now, bytes));
            moving.line.show_rate(phase, bytes, rate);
        }
    }

    /// One line: text for people, or an object.
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
            Event::ConnectionRejected {
                channel,
                reason: why,
            } => self.line(
                name,
                format_args!("a connection was turned away ({}): {why}", channel.name()),
                json!({ "channel": channel.name(), "reason": why }),
            ),
            Event::Setup(outline) => {
                let ram: u64 = outline.ram.iter().map(|block| block.length).sum();
                let word = |yes, word| if yes { word } else { "" };
                self.line(
                    name,
                    format_args!(
                        "{}, {} MiB of RAM{}{}",
                        outline.machine.as_deref().unwrap_or("machine unknown"),
                        ram >> 20,
                        word(outline.return_path, ", with return path"),
                        word(outline.postcopy, ", postcopy possible"),
                    ),
                    json!({
                        "machine": outline.machine,
                        "ram": ram,
                        "return_path": outline.return_path,
                        "postcopy": outline.postcopy,
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
                other_channel_bytes: beside,
            } => self.update_progress(*phase, bytes + beside),
            Event::DeviceStateReceived { bytes, is_package } => {
                let what = if *is_package {
                    "postcopy, a package"
                } else {
                    "precopy"
                };
                self.line(
                    name,
                    format_args!("{bytes} bytes of device state are held ({what})"),
                    json!({ "bytes": bytes, "postcopy": is_package }),
                );
            }
            Event::DeviceStateSent {
                bytes,
                early_bytes: early,
                added_downtime_us: microseconds,
            } => self.line(
                name,
                format_args!(
                    "{bytes} bytes of device state went on; the first vCPU {microseconds} us \
                     after the last had come"
                ),
                json!({ "bytes": bytes, "early_bytes": early, "added_downtime_us": microseconds }),
            ),
            Event::ReturnPathShut(value) => self.line(
                name,
                format_args!(
                    "the destination says that it {}",
                    if *value == 0 {
                        "has loaded the VM"
                    } else {
                        "has failed"
                    }
                ),
                json!({ "shut_value": value }),
            ),
            Event::Refused(whereabouts) => self.line(
                name,
                format_args!("refused; the VM is {whereabouts}"),
                json!({ "vm_location": whereabouts.name() }),
            ),
            _ => {}
        }
    }
}
