//! Output of the busy guest (`e2e/lab/inside/busy-init` lists its lines), and of its QEMU.

use std::fs;
use std::path::Path;

use e2e_framework::Result;

use crate::matrix::outcome::GuestOutcome;

/// Exit status of `guest-check` without a difference.
const STATUS_UNCHANGED: u8 = 0;
/// Exit status of `guest-check` that found a difference.
const STATUS_FOUND: u8 = 1;
/// Exit status in the shell of a process that SIGKILL ended.
const STATUS_KILLED: u8 = 137;

/// Output of a guest between its start in a QEMU and its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BusyOutcome {
    /// Boot log and /proc/cpuinfo, the lines that concern the CPU.
    pub(crate) boot_log: Vec<String>,
    /// Lines of the reports of `guest-check`.
    pub(crate) checks: Vec<String>,
    /// Exit status of `guest-check record`, if the guest booted.
    record_status: Option<u8>,
    /// Exit statuses of `guest-check watch` and `compare`, if the guest was moved.
    move_statuses: Option<[u8; 2]>,
    /// Number of processes that ended during the move.
    lost_processes: u32,
    /// Lines of QEMU and cpreg.
    messages: Vec<String>,
}

impl BusyOutcome {
    /// Reads the output of a QEMU with this name.
    ///
    /// # Errors
    /// Returns an error if the results lack the output.
    pub(crate) fn read(results: &Path, name: &str) -> Result<Self> {
        let path = results.join(format!("{name}.serial"));
        let serial = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut outcome = Self::from_serial(&String::from_utf8_lossy(&serial));
        let of_qemu = GuestOutcome::read(results, name)?;
        outcome.messages = of_qemu.errors.into_iter().chain(of_qemu.cpreg).collect();
        Ok(outcome)
    }

    /// Parses the output of the guest.
    fn from_serial(serial: &str) -> Self {
        let mut outcome = Self::default();
        for line in serial.replace('\r', "").lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "BOOT" => outcome.boot_log.push(rest.to_owned()),
                "CHECK" => outcome.checks.push(rest.trim().to_owned()),
                "RECORD" => outcome.record_status = rest.parse().ok(),
                "DONE" => {
                    let mut numbers = rest.split(' ').map(str::parse);
                    if let (Some(Ok(watch)), Some(Ok(compare)), Some(Ok(lost))) =
                        (numbers.next(), numbers.next(), numbers.next())
                    {
                        outcome.move_statuses = u8::try_from(watch)
                            .ok()
                            .zip(u8::try_from(compare).ok())
                            .map(<[u8; 2]>::from);
                        outcome.lost_processes = lost;
                    }
                }
                _ => {}
            }
        }
        outcome
    }

    /// Checks that the guest booted, and that `guest-check record` found nothing.
    ///
    /// # Errors
    /// Returns an error with the reports of `guest-check` otherwise.
    pub(crate) fn ensure_booted(&self) -> Result<()> {
        if self.record_status == Some(STATUS_UNCHANGED) {
            Ok(())
        } else {
            Err(self.error("the guest did not boot, or guest-check found something"))
        }
    }

    /// Checks that the guest runs with all its processes, and that `guest-check` found nothing but
    /// differences in the `expected` checks. Returns the checks with a difference.
    ///
    /// # Errors
    /// Returns an error with the reports of `guest-check` otherwise.
    pub(crate) fn ensure_unchanged(&self, expected: &[&str]) -> Result<Vec<String>> {
        let Some(statuses) = self.move_statuses else {
            return Err(self.error("the guest did not run at the destination"));
        };
        if self.lost_processes > 0 {
            let lost = self.lost_processes;
            return Err(self.error(&format!("{lost} processes of the guest ended")));
        }
        let found = self.names_of_found();
        let is_expected = found.iter().all(|name| expected.contains(&name.as_str()));
        let has_ended = statuses
            .iter()
            .all(|status| [STATUS_UNCHANGED, STATUS_FOUND].contains(status));
        let has_names = !found.is_empty() || statuses == [STATUS_UNCHANGED; 2];
        if is_expected && has_ended && has_names {
            Ok(found)
        } else {
            Err(self.error("guest-check found something"))
        }
    }

    /// Returns the names of the checks with a difference, after a move without cpreg to a host with
    /// other hardware.
    ///
    /// # Errors
    /// Returns an error if `guest-check` did not find any, either during the watch or after it.
    pub(crate) fn found_checks(&self) -> Result<Vec<String>> {
        // Linux may end a new process that uses SVE, if the CPU lacks its vector length.
        let [watch, compare] = self.move_statuses.unwrap_or_default();
        if watch != STATUS_FOUND || ![STATUS_FOUND, STATUS_KILLED].contains(&compare) {
            return Err(self.error("guest-check did not find the other hardware"));
        }
        Ok(self.names_of_found())
    }

    /// Returns the names of the checks with a difference, from all reports.
    fn names_of_found(&self) -> Vec<String> {
        let words = self.checks.iter().map(|line| line.split_ascii_whitespace());
        let mut names: Vec<_> = words
            .filter_map(|mut words| match (words.next(), words.next()) {
                (Some("found"), Some(name)) => Some(name.to_owned()),
                _ => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn error(&self, problem: &str) -> e2e_framework::Failure {
        let lines: Vec<_> = self.messages.iter().chain(&self.checks).cloned().collect();
        format!("{problem}:\n  {}", lines.join("\n  ")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_guest_is_recognised() {
        let serial = "BOOT Linux 6.12.107\r\nRECORD 0\r\nCHECK unchanged: no check\r\nREADY\r\n";
        let outcome = BusyOutcome::from_serial(serial);
        assert_eq!(outcome.boot_log, ["Linux 6.12.107"]);
        assert_eq!(outcome.checks, ["unchanged: no check"]);
        assert!(outcome.ensure_booted().is_ok());
        assert!(outcome.ensure_unchanged(&[]).is_err());
        let moved = |line: &str| BusyOutcome::from_serial(line).ensure_unchanged(&[]);
        assert!(moved("DONE 0 0 0\nAGAIN\n").is_ok());
        for line in [
            "DONE 0 0 1\n",
            "DONE 1 0 0\n",
            "DONE 0 3 0\n",
            "DONE 0 0\n",
            "AGAIN\n",
        ] {
            assert!(moved(line).is_err(), "{line}");
        }
        assert!(
            BusyOutcome::from_serial("RECORD 1\n")
                .ensure_booted()
                .is_err()
        );
    }

    #[test]
    fn only_expected_differences_are_accepted() {
        let found = "CHECK   found      cache-type  CTR_EL0 of CPU 0\n";
        let outcome =
            |checks: &str, done: &str| BusyOutcome::from_serial(&format!("{checks}DONE {done}\n"));
        let expected = ["cache-type"];
        let accepted = outcome(found, "1 1 0").ensure_unchanged(&expected);
        assert_eq!(accepted.expect("an expected difference"), expected);
        assert!(outcome("", "0 0 0").ensure_unchanged(&expected).is_ok());
        assert!(outcome(found, "1 1 0").ensure_unchanged(&[]).is_err());
        assert!(outcome(found, "1 1 1").ensure_unchanged(&expected).is_err());
        assert!(outcome("", "1 1 0").ensure_unchanged(&expected).is_err());
        assert!(outcome(found, "1 3 0").ensure_unchanged(&expected).is_err());
        let other = format!("{found}CHECK   found  features  text\n");
        assert!(
            outcome(&other, "1 1 0")
                .ensure_unchanged(&expected)
                .is_err()
        );
    }

    #[test]
    fn found_checks_have_their_names() {
        let serial = "CHECK found: 1 of 12\nCHECK   found      clock-rate  text\n\
                      CHECK   unchanged  features  text\nCHECK   found  clock-rate  text\n\
                      DONE 1 1 0\n";
        let names = BusyOutcome::from_serial(serial).found_checks();
        assert_eq!(names.expect("a difference"), ["clock-rate"]);
        let killed = serial.replace("DONE 1 1", "DONE 1 137");
        assert!(BusyOutcome::from_serial(&killed).found_checks().is_ok());
        let half = serial.replace("DONE 1 1", "DONE 0 1");
        assert!(BusyOutcome::from_serial(&half).found_checks().is_err());
    }
}
