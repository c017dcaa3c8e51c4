//! What became of one QEMU in an emulated host, read from what it and the guest said.
//!
//! `NAME.log` is QEMU's output, QMP and errors mixed; `NAME.serial` the guest's, whose lines `e2e/lab/guest/aarch64.s` lists; `NAME.exit` the exit status.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use e2e_framework::Result;

/// Counters of the host that a kernel may not be able to set: the guest then reads another time, and its timers are off by as much.
const COUNTERS: [&str; 2] = ["CNTVCT_EL0", "CNTPCT_EL0"];

/// What became of a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuestOutcome {
    /// QEMU took the stream and let the guest go on.
    pub(crate) resumed: bool,
    /// The guest answered, and finished its comparison.
    pub(crate) guest_finished: bool,
    /// Its registers that are not what they were, but for counters: `X7 0x1 0x2`.
    pub(crate) differences: Vec<String>,
    /// Counters that went back, or leapt ahead.
    pub(crate) counters: Vec<String>,
    /// Timers that did not fire in time: `V`, `P`.
    pub(crate) silent_timers: Vec<String>,
    /// What QEMU said of errors.
    pub(crate) errors: Vec<String>,
}

impl GuestOutcome {
    /// Whether the guest runs at the destination. Whether its registers are what they were is another question.
    pub(crate) fn is_running(&self) -> bool {
        self.resumed && self.guest_finished
    }

    /// Reads what a QEMU of `e2e/lab/inside/qemu.sh` or `live.sh` left under that name.
    ///
    /// # Errors
    /// If it left nothing.
    pub(crate) fn read(results: &Path, name: &str) -> Result<Self> {
        let text = |kind: &str| -> Result<String> {
            let path = results.join(format!("{name}.{kind}"));
            let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
        };
        Ok(Self::from_logs(&text("log")?, &text("serial")?))
    }

    /// Of what QEMU and the guest said.
    pub(crate) fn from_logs(log: &str, serial: &str) -> Self {
        let mut outcome = Self {
            resumed: log.contains("\"event\": \"RESUME\""),
            errors: errors(log),
            ..Self::default()
        };
        for line in serial.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "DONE" => outcome.guest_finished = true,
                "PANIC" => outcome.differences.push(line.to_owned()),
                "NOTIMER" => outcome
                    .silent_timers
                    .extend(rest.split(' ').nth(1).map(str::to_owned)),
                "DIFF" => {
                    let fields = rest.split_once(' ').map_or(rest, |(_, fields)| fields);
                    let counter = COUNTERS.iter().any(|name| fields.starts_with(name));
                    let list = if counter {
                        &mut outcome.counters
                    } else {
                        &mut outcome.differences
                    };
                    list.push(fields.to_owned());
                }
                _ => {}
            }
        }
        outcome
    }

    /// As one object of JSON.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "runs": self.is_running(),
            "resumed": self.resumed,
            "guest_finished": self.guest_finished,
            "differences": self.differences,
            "counters": self.counters,
            "silent_timers": self.silent_timers,
            "errors": self.errors,
        })
    }

    /// From what [`to_json`](Self::to_json) gave.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let list = |name: &str| -> Option<Vec<String>> {
            let words = value[name].as_array()?.iter();
            words.map(|word| Some(word.as_str()?.to_owned())).collect()
        };
        Some(Self {
            resumed: value["resumed"].as_bool()?,
            guest_finished: value["guest_finished"].as_bool()?,
            differences: list("differences")?,
            counters: list("counters")?,
            silent_timers: list("silent_timers")?,
            errors: list("errors")?,
        })
    }
}

/// QEMU's own words: the lines that are no QMP, without its name and without warnings.
pub(crate) fn errors(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| {
        !line.starts_with('{') && !line.contains("warning:") && !line.trim().is_empty()
    });
    let name = "qemu-system-aarch64: ";
    let mut errors: Vec<String> = lines
        .map(|line| line.strip_prefix(name).unwrap_or(line).to_owned())
        .collect();
    errors.dedup();
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_continues() {
        let log = "{\"QMP\": {}}\r\n{\"event\": \"RESUME\"}\n";
        let serial = "TIMER 0 V\nNOTIMER 0 P\nDIFF 0 CNTPCT_EL0 10 2\nDONE 1\n";
        let outcome = GuestOutcome::from_logs(log, serial);
        assert!(outcome.is_running());
        assert_eq!(outcome.counters, ["CNTPCT_EL0 10 2"]);
        assert_eq!(outcome.silent_timers, ["P"]);
        assert_eq!(GuestOutcome::from_json(&outcome.to_json()), Some(outcome));
    }

    #[test]
    fn a_load_that_fails_or_loses_something() {
        let log = "{\"QMP\": {}}\nqemu-system-aarch64: warning: x\nqemu-system-aarch64: load of migration failed: Invalid argument\n";
        let outcome = GuestOutcome::from_logs(log, "");
        assert!(!outcome.resumed && !outcome.is_running());
        assert_eq!(
            outcome.errors,
            ["load of migration failed: Invalid argument"]
        );
        let log = "{\"event\": \"RESUME\"}\n";
        let outcome = GuestOutcome::from_logs(log, "DIFF 0 X7 1 2\nDONE 1\n");
        assert_eq!(outcome.differences, ["X7 1 2"]);
        // It was let go on, and says nothing.
        assert!(!GuestOutcome::from_logs(log, "").is_running());
    }
}
