//! [`Metrics`]: numbers of migrations and connections, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cpreg_relay::CancelToken;

use crate::small_file;

/// Metrics of the service.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    numbers: Numbers,
    is_changed: bool,
}

/// The numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    /// Migrations in progress.
    pub(super) active: u64,
    /// Ended migrations by outcome.
    pub(super) migrations: BTreeMap<String, u64>,
    /// Verdicts by name.
    pub(super) verdicts: BTreeMap<String, u64>,
    /// Connections that the relay forwarded unparsed.
    pub(super) forwarded: u64,
    /// Connections that the relay closed without forwarding them.
    pub(super) rejected: u64,
    /// Bytes of migrations, on all channels.
    pub(super) bytes: u64,
    /// Number of migrations whose device state was sent, and the sum of their added downtimes in
    /// microseconds.
    pub(super) downtime: (u64, u64),
}

impl Metrics {
    /// Changes the numbers.
    pub(super) fn update(&self, change: impl FnOnce(&mut Numbers)) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut inner.numbers);
        inner.is_changed = true;
    }

    /// Writes the file for the first time.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(super) fn create(path: &Path) -> io::Result<()> {
        write(path, &Numbers::default())
    }

    /// Writes the file after changes, and a last time after `end`.
    pub(super) fn write_changes(&self, path: &Path, interval: Duration, end: &CancelToken) {
        loop {
            let has_ended = end.is_cancelled();
            if let Some(numbers) = self.take_changed() {
                // A full disk must not stop migrations. The next change tries again.
                let _ = write(path, &numbers);
            }
            if has_ended {
                return;
            }
            let _ = end.wait(Some(Instant::now() + interval));
        }
    }

    fn take_changed(&self) -> Option<Numbers> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut inner.is_changed).then(|| inner.numbers.clone())
    }
}

impl std::fmt::Display for Numbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut metric = |name: &str, kind: &str, help: &str, lines: &str| {
            write!(
                f,
                "# HELP cpreg_relay_{name} {help}\n# TYPE cpreg_relay_{name} {kind}\n{lines}"
            )
        };
        let single = |name: &str, value: u64| format!("cpreg_relay_{name} {value}\n");
        let labelled = |name: &str, label: &str, values: &BTreeMap<String, u64>| {
            values
                .iter()
                .fold(String::new(), |mut lines, (key, value)| {
                    let _ = writeln!(lines, "cpreg_relay_{name}{{{label}=\"{key}\"}} {value}");
                    lines
                })
        };
        metric(
            "active_migrations",
            "gauge",
            "Migrations in progress.",
            &single("active_migrations", self.active),
        )?;
        metric(
            "migrations_total",
            "counter",
            "Ended migrations by outcome.",
            &labelled("migrations_total", "outcome", &self.migrations),
        )?;
        metric(
            "verdicts_total",
            "counter",
            "Checked VMs by verdict.",
            &labelled("verdicts_total", "verdict", &self.verdicts),
        )?;
        metric(
            "bytes_total",
            "counter",
            "Forwarded bytes of migrations.",
            &single("bytes_total", self.bytes),
        )?;
        let (count, sum) = self.downtime;
        metric(
            "added_downtime_microseconds",
            "summary",
            "Downtime that the relay added to a migration.",
            &format!(
                "cpreg_relay_added_downtime_microseconds_sum {sum}\n\
                 cpreg_relay_added_downtime_microseconds_count {count}\n"
            ),
        )?;
        metric(
            "forwarded_connections_total",
            "counter",
            "Connections that were forwarded unparsed.",
            &single("forwarded_connections_total", self.forwarded),
        )?;
        metric(
            "rejected_connections_total",
            "counter",
            "Connections that were closed.",
            &single("rejected_connections_total", self.rejected),
        )
    }
}

/// Replaces the file, which other users read.
fn write(path: &Path, numbers: &Numbers) -> io::Result<()> {
    small_file::replace(path, numbers.to_string().as_bytes(), Some(0o644))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_file_has_the_text_format_of_prometheus() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cpreg.prom");
        let metrics = Metrics::default();
        metrics.update(|numbers| {
            numbers.active = 2;
            *numbers
                .migrations
                .entry("completed".to_owned())
                .or_default() += 3;
            *numbers.verdicts.entry("converts".to_owned()).or_default() += 3;
            numbers.rejected = 5;
            numbers.downtime = (3, 1200);
        });
        let end = CancelToken::new().unwrap();
        end.cancel();
        metrics.write_changes(&path, Duration::ZERO, &end);
        let text = fs::read_to_string(&path).unwrap();
        for line in [
            "# TYPE cpreg_relay_active_migrations gauge",
            "cpreg_relay_active_migrations 2",
            "cpreg_relay_migrations_total{outcome=\"completed\"} 3",
            "cpreg_relay_verdicts_total{verdict=\"converts\"} 3",
            "cpreg_relay_rejected_connections_total 5",
            "cpreg_relay_added_downtime_microseconds_sum 1200",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        // Only the file itself is left in the folder.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
