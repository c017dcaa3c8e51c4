//! Outcome of one QEMU in an emulated host, parsed from its output and the guest's.
//!
//! `NAME.log` has QEMU's output, with QMP and errors mixed. `NAME.serial` has the guest's output,
//! whose lines `e2e/lab/guest/aarch64.s` lists. `NAME.exit` has the exit status. `NAME.saved` has
//! `yes`, `no` or `timeout`, if QEMU was asked to save the guest again.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use e2e_framework::Result;

/// Counters that some kernels cannot set for a guest. The guest then reads another time, and its
/// timers fire too early or too late.
const COUNTERS: [&str; 2] = ["CNTVCT_EL0", "CNTPCT_EL0"];

/// Outcome of a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuestOutcome {
    /// `true` if QEMU accepted the stream and resumed the guest.
    pub(crate) resumed: bool,
    /// `true` if the guest responded, and finished its comparison. In recorded results this member
    /// is `goes_on`.
    pub(crate) guest_finished: bool,
    /// Changed registers, except counters: `X7 0x1 0x2`.
    pub(crate) differences: Vec<String>,
    /// Counters that went back or leapt ahead: names of registers.
    pub(crate) counters: Vec<String>,
    /// Timers that did not fire in time: `V` (virtual), `P` (physical).
    pub(crate) silent_timers: Vec<String>,
    /// Error lines of QEMU.
    pub(crate) errors: Vec<String>,
    /// `true` if QEMU saved the guest again, `false` if it failed; `None` if QEMU was not asked, or
    /// did not finish in time.
    pub(crate) saved_again: Option<bool>,
    /// Lines of `cpreg run` and its library, without their prefix.
    pub(crate) cpreg: Vec<String>,
}

impl GuestOutcome {
    /// Returns `true` if the guest runs at the destination, even with changed registers.
    pub(crate) fn is_running(&self) -> bool {
        self.resumed && self.guest_finished
    }

    /// Returns `true` if the load need not be repeated: the guest does not run, or it is known
    /// whether QEMU can save it again.
    pub(crate) fn is_complete(&self) -> bool {
        !self.is_running() || self.saved_again.is_some()
    }

    /// Reads the output of a QEMU of `e2e/lab/inside/qemu.sh` or `live.sh` with this name.
    ///
    /// # Errors
    /// Returns an error if the results lack the output.
    pub(crate) fn read(results: &Path, name: &str) -> Result<Self> {
        let text = |kind: &str| -> Result<String> {
            let path = results.join(format!("{name}.{kind}"));
            let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
        };
        let saved = results.join(format!("{name}.saved"));
        let word = if saved.exists() {
            fs::read_to_string(&saved)?
        } else {
            String::new()
        };
        let saved_again = match word.trim() {
            "yes" => Some(true),
            "no" => Some(false),
            "timeout" | "" => None,
            other => return Err(format!("{}: {other}", saved.display()).into()),
        };
        Ok(Self {
            saved_again,
            ..Self::from_logs(&text("log")?, &text("serial")?)
        })
    }

    /// Parses the output of QEMU and of the guest.
    pub(crate) fn from_logs(log: &str, serial: &str) -> Self {
        let mut outcome = Self {
            resumed: log.contains("\"event\": \"RESUME\""),
            errors: errors(log),
            cpreg: cpreg_lines(log),
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
                    let is_counter = COUNTERS.iter().any(|name| fields.starts_with(name));
                    let list = if is_counter {
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

    /// Returns the outcome as a JSON object, with the keys of the recorded results.
    pub(crate) fn to_json(&self) -> Value {
        let mut outcome = json!({
            "runs": self.is_running(),
            "resumed": self.resumed,
            "goes_on": self.guest_finished,
            "differences": self.differences,
            "counters": self.counters,
            "silent_timers": self.silent_timers,
            "errors": self.errors,
        });
        if !self.cpreg.is_empty() {
            outcome["cpreg"] = json!(self.cpreg);
        }
        if let Some(saved_again) = self.saved_again {
            outcome["saved_again"] = json!(saved_again);
        }
        outcome
    }

    /// Parses the result of [`to_json`](Self::to_json).
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let list = |name: &str| -> Option<Vec<String>> {
            let words = value[name].as_array()?.iter();
            words.map(|word| Some(word.as_str()?.to_owned())).collect()
        };
        Some(Self {
            resumed: value["resumed"].as_bool()?,
            guest_finished: value["goes_on"].as_bool()?,
            differences: list("differences")?,
            counters: list("counters")?,
            silent_timers: list("silent_timers")?,
            errors: list("errors")?,
            cpreg: list("cpreg").unwrap_or_default(),
            saved_again: value["saved_again"].as_bool(),
        })
    }
}

/// Prefix of a message of cpreg. Further lines of the message begin with blanks.
const CPREG_PREFIX: &str = "cpreg: ";

fn is_cpreg_line(line: &str) -> bool {
    line.starts_with(CPREG_PREFIX) || line.starts_with("  ")
}

/// Returns the lines of cpreg, without its prefix.
fn cpreg_lines(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| is_cpreg_line(line));
    lines
        .map(|line| line.strip_prefix(CPREG_PREFIX).unwrap_or(line).to_owned())
        .collect()
}

/// Returns the error lines of QEMU: all lines but QMP, warnings and messages of cpreg, without the
/// program name.
fn errors(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| {
        !line.starts_with('{')
            && !line.contains("warning:")
            && !line.trim().is_empty()
            && !is_cpreg_line(line)
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
    fn a_running_guest_is_parsed() {
        let log = "{\"QMP\": {}}\r\n{\"event\": \"RESUME\"}\n";
        let serial = "TIMER 0 V\nNOTIMER 0 P\nDIFF 0 CNTPCT_EL0 10 2\nDONE 1\n";
        let outcome = GuestOutcome::from_logs(log, serial);
        assert!(outcome.is_running());
        assert_eq!(outcome.counters, ["CNTPCT_EL0 10 2"]);
        assert_eq!(outcome.silent_timers, ["P"]);
        assert_eq!(GuestOutcome::from_json(&outcome.to_json()), Some(outcome));
    }

    #[test]
    fn a_guest_runs_even_if_qemu_cannot_save_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("load0.log", "{\"event\": \"RESUME\"}\n");
        write("load0.serial", "DONE 1\n");
        for (text, saved_again) in [
            ("", None),
            ("yes\n", Some(true)),
            ("no\n", Some(false)),
            ("timeout\n", None),
        ] {
            if !text.is_empty() {
                write("load0.saved", text);
            }
            let outcome = GuestOutcome::read(folder.path(), "load0").unwrap();
            assert!(outcome.is_running());
            assert_eq!(outcome.saved_again, saved_again);
            assert_eq!(outcome.is_complete(), saved_again.is_some());
            assert_eq!(GuestOutcome::from_json(&outcome.to_json()), Some(outcome));
        }
        write("load0.saved", "perhaps");
        assert!(GuestOutcome::read(folder.path(), "load0").is_err());
    }

    #[test]
    fn messages_of_cpreg_are_apart_from_those_of_qemu() {
        let log = "cpreg: refused: 1 difference blocks the load of the VM\n  X (vCPU 0): no\n\
                   qemu-system-aarch64: Failed to put registers after init: Invalid argument\n";
        let outcome = GuestOutcome::from_logs(log, "");
        assert_eq!(
            outcome.cpreg,
            [
                "refused: 1 difference blocks the load of the VM",
                "  X (vCPU 0): no"
            ]
        );
        assert_eq!(
            outcome.errors,
            ["Failed to put registers after init: Invalid argument"]
        );
        assert_eq!(GuestOutcome::from_json(&outcome.to_json()), Some(outcome));
    }

    #[test]
    fn failures_and_losses_are_parsed() {
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
        // QEMU resumed the guest, which does not respond.
        assert!(!GuestOutcome::from_logs(log, "").is_running());
    }
}
