//! [`Log`]: events of the relay as lines on standard error, and progress on a terminal.
//!
//! `tracing` does not write these lines. Its fields hold no arrays, nulls or objects, which the JSON
//! lines have, and the layout of `tracing-subscriber`'s JSON is fixed. Both formats would need a
//! `FormatEvent` of their own, which is more code than [`Log::line`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cpreg::plan::Verdict;
use cpreg_relay::guard::Whereabouts;
use cpreg_relay::{Address, Ended, Event, Observer, Outcome};
use cpreg_stream::incremental::Phase;
use serde_json::{Map, Value, json};

use crate::arguments::Format;
use crate::printer::{Progress, log_line};

/// Writes log lines.
pub(super) struct Log {
    format: Format,
    /// Which migration this is, from 1 on.
    migration: AtomicUsize,
    progress: Mutex<Moving>,
}

struct Moving {
    line: Progress,
    /// When something was told, and how much had passed then.
    told: Option<(Instant, u64)>,
}

impl Log {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            migration: AtomicUsize::new(0),
            progress: Mutex::new(Moving {
                line: Progress::default(),
                told: None,
            }),
        }
    }

    pub(super) fn listens(&self, address: &Address, to: &Address) {
        self.line(
            "listening",
            format_args!("listening on {address}, for {to}"),
            json!({ "listen": address.to_string(), "connect": to.to_string() }),
        );
    }

    /// What is certain of the source that was named.
    pub(super) fn foretold(&self, verdict: Verdict) {
        self.line(
            "foretold",
            format_args!("foretold: {}", verdict.name()),
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
    pub(super) fn found(&self, side: &str, version: &str, run_state: &str) {
        self.line(
            "found",
            format_args!("guard: {side}: QEMU {version}, {run_state}"),
            json!({ "side": side, "version": version, "run_state": run_state }),
        );
    }

    /// The guard made both sides ready.
    pub(super) fn prepared(&self, return_path: bool, held: bool) {
        let word = |yes, word| if yes { word } else { "" };
        self.line(
            "prepared",
            format_args!(
                "guard: ready{}{}",
                word(return_path, ", return-path switched on"),
                word(held, ", the destination is held"),
            ),
            json!({ "return_path_switched_on": return_path, "held": held }),
        );
    }

    /// The guard has settled where the VM is.
    pub(super) fn concluded(&self, whereabouts: &Whereabouts) {
        self.line(
            "concluded",
            format_args!("guard: {whereabouts}"),
            json!({
                "place": whereabouts.place.name(),
                "running": whereabouts.running,
                "why": whereabouts.why,
                "done": whereabouts.done,
                "advice": whereabouts.advice,
            }),
        );
    }

    /// The next migration is waited for.
    pub(super) fn waits(&self) {
        self.migration.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_progress(&self) {
        self.moving().line.end();
    }

    /// It has ended; `reasons`: why it was not begun.
    pub(super) fn ended(&self, ended: &Ended, reasons: &[String]) {
        let outcome = match &ended.outcome {
            Outcome::WentOn => "went-on",
            Outcome::Refused => "refused",
            Outcome::Carried => "carried",
            Outcome::Broken(_) => "broken",
            Outcome::Cancelled => "cancelled",
            _ => "other",
        };
        let mut members = json!({
            "outcome": outcome,
            "vm": ended.whereabouts.name(),
            "bytes": ended.passed,
            "beside": ended.beside,
        });
        if let (Outcome::Broken(error), Some(members)) = (&ended.outcome, members.as_object_mut()) {
            members.insert("error".to_owned(), error.with_its_hint().into());
        }
        if let (false, Some(members)) = (reasons.is_empty(), members.as_object_mut()) {
            members.insert("not_begun".to_owned(), reasons.into());
        }
        self.line(
            "ended",
            format_args!(
                "ended: {outcome}; {} bytes, and {} beside; the VM is {}",
                ended.passed, ended.beside, ended.whereabouts
            ),
            members,
        );
    }

    fn moving(&self) -> std::sync::MutexGuard<'_, Moving> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moves(&self, phase: Phase, bytes: u64) {
        let mut moving = self.moving();
        let now = Instant::now();
        let (since, before) = *moving.told.get_or_insert((now, bytes));
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds >= 0.5 {
            #[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
            let rate = (bytes.saturating_sub(before)) as f64 / seconds / f64::from(1 << 20);
            moving.told = Some((now, bytes));
            moving.line.tell_rate(phase, bytes, rate);
        }
    }

    /// One line: text for people, or an object.
    fn line(&self, event: &str, text: std::fmt::Arguments<'_>, members: Value) {
        self.moving().line.end();
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
    fn hear(&self, event: &Event<'_>) {
        let name = event.name();
        match event {
            Event::Connected { channel, number } => self.line(
                name,
                format_args!("connection {number}: {}", channel.name()),
                json!({ "channel": channel.name(), "number": number }),
            ),
            Event::TurnedAway { channel, why } => self.line(
                name,
                format_args!("a connection was turned away ({}): {why}", channel.name()),
                json!({ "channel": channel.name(), "why": why }),
            ),
            Event::Outline(outline) => {
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
            Event::Passed {
                phase,
                bytes,
                beside,
            } => self.moves(*phase, bytes + beside),
            Event::Held { bytes, is_package } => {
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
            Event::WentOn {
                bytes,
                early,
                microseconds,
            } => self.line(
                name,
                format_args!(
                    "{bytes} bytes of device state went on; the first vCPU {microseconds} us \
                     after the last had come"
                ),
                json!({ "bytes": bytes, "early": early, "microseconds": microseconds }),
            ),
            Event::Answered(value) => self.line(
                name,
                format_args!(
                    "the destination says that it {}",
                    if *value == 0 {
                        "has loaded the VM"
                    } else {
                        "has failed"
                    }
                ),
                json!({ "shut": value }),
            ),
            Event::Refused(whereabouts) => self.line(
                name,
                format_args!("refused; the VM is {whereabouts}"),
                json!({ "vm": whereabouts.name() }),
            ),
            _ => {}
        }
    }
}
