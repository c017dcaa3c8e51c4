//! [`evaluate`]: determines the outcome of a move of the example VMM's guest. The evidence is the
//! output and the exit status of the VMM at the source and at the destination, the two ends.

use std::fs;
use std::path::Path;

use e2e_framework::Result;

/// Output and exit status of the VMM at one end.
#[derive(Clone, Debug)]
pub(crate) struct VmmOutput {
    pub(crate) text: String,
    pub(crate) status: String,
}

/// Outcome of a successful or refused move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MoveOutcome {
    /// The guest runs at the destination with intact registers.
    Moved {
        /// Figures of the move, as the VMM prints them.
        figures: String,
    },
    /// The VMM refused the guest and changed nothing. The guest continues at the source.
    Refused {
        /// All reasons, as the VMM prints them.
        reasons: Vec<String>,
    },
}

/// Progress of a guest, as one of its lines reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestProgress {
    pub(crate) rounds: u64,
    pub(crate) virtual_ticks: u64,
    pub(crate) physical_ticks: u64,
    pub(crate) is_intact: bool,
}

/// Line that the VMM prints when a guest has arrived.
const ARRIVED_LINE: &str = "the guest runs here";
/// Line that the VMM prints when the guest stays at the source.
const STAYED_LINE: &str = "the guest continues at the source";

impl VmmOutput {
    /// Reads the output that an end left in its results.
    ///
    /// # Errors
    /// Returns an error if the end left no output.
    pub(crate) fn read(results: &Path, name: &str) -> Result<Self> {
        let read = |name: &str| {
            let path = results.join(name);
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Self {
            text: read(name)?,
            status: read(&format!("{name}.status"))?.trim().to_owned(),
        })
    }

    /// Returns the output after the arrival of the guest.
    pub(crate) fn after_arrival(&self) -> Self {
        let (_, after) = self.text.split_once(ARRIVED_LINE).unwrap_or_default();
        Self {
            text: after.to_owned(),
            status: self.status.clone(),
        }
    }

    /// Returns `true` if a guest arrived and ran at this end.
    pub(crate) fn has_run(&self) -> bool {
        self.text.lines().any(|line| line == ARRIVED_LINE)
    }

    /// Returns the rest of each line that begins with `prefix`.
    fn lines_after(&self, prefix: &str) -> Vec<String> {
        let lines = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix(prefix));
        lines.map(str::to_owned).collect()
    }

    /// Returns the exit status and the lines, for a message.
    pub(crate) fn indented(&self) -> String {
        let lines = self.text.lines();
        lines.fold(format!("({})\n", self.status), |all, line| {
            all + "    " + line + "\n"
        })
    }

    /// Checks that the guest, which stayed at this end, made progress after the failed move.
    ///
    /// # Errors
    /// Returns an error with the missing progress, or with a lost register.
    pub(crate) fn check_guest_continues(&self) -> std::result::Result<(), String> {
        let (before, after) = self
            .text
            .split_once(STAYED_LINE)
            .ok_or("the source does not report that the guest stays")?;
        let (before, after) = (parse_progress(before), parse_progress(after));
        match (before.last(), after.last()) {
            (Some(before), Some(after)) => after.check_advanced_since(*before),
            _ => Err("the guest has no progress lines before or after the failed move".to_owned()),
        }
    }
}

impl GuestProgress {
    fn check_advanced_since(self, before: Self) -> std::result::Result<(), String> {
        let is_physical_advanced =
            before.physical_ticks == 0 || self.physical_ticks > before.physical_ticks;
        if !(self.is_intact && before.is_intact) {
            Err("the guest lost something".to_owned())
        } else if self.rounds <= before.rounds {
            Err("the guest's rounds do not increase".to_owned())
        } else if self.virtual_ticks <= before.virtual_ticks {
            Err("CNTV no longer fires".to_owned())
        } else if !is_physical_advanced {
            Err("CNTP no longer fires".to_owned())
        } else {
            Ok(())
        }
    }
}

/// Parses the lines `guest: 1234 rounds, timers v 56 p 56, registers intact`.
pub(crate) fn parse_progress(text: &str) -> Vec<GuestProgress> {
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("guest: ")?;
        let (rounds, rest) = rest.split_once(" rounds, timers v ")?;
        let (virtual_ticks, rest) = rest.split_once(" p ")?;
        let (physical_ticks, state) = rest.split_once(", registers ")?;
        Some(GuestProgress {
            rounds: rounds.parse().ok()?,
            virtual_ticks: virtual_ticks.parse().ok()?,
            physical_ticks: physical_ticks.parse().ok()?,
            is_intact: state == "intact",
        })
    });
    lines.collect()
}

/// Determines the outcome, on which both ends must agree, and checks that the guest runs.
///
/// # Errors
/// Returns an error with the contradiction, and the output of both ends.
pub(crate) fn evaluate(source: &VmmOutput, destination: &VmmOutput) -> Result<MoveOutcome> {
    let error = |reason: &str| {
        format!(
            "{reason}\n  source {}  destination {}",
            source.indented(),
            destination.indented()
        )
    };
    let refused = source.lines_after("refused: ");
    if source.status == "0" && source.text.contains("migrated: ") && destination.has_run() {
        if !matches!(destination.status.as_str(), "0" | "1") {
            return Err(error("the guest moved, but the destination failed afterwards").into());
        }
        let (before, after) = (
            parse_progress(&source.text),
            parse_progress(&destination.after_arrival().text),
        );
        let (Some(before), Some(after)) = (before.last(), after.last()) else {
            return Err(error("the guest did not report at both ends").into());
        };
        after
            .check_advanced_since(*before)
            .map_err(|reason| error(&reason))?;
        let figures = source.lines_after("migrated: ").join("; ");
        Ok(MoveOutcome::Moved { figures })
    } else if [source, destination].iter().all(|end| end.status == "1")
        && !destination.has_run()
        && !refused.is_empty()
    {
        source
            .check_guest_continues()
            .map_err(|reason| error(&reason))?;
        if source.text.contains("pre-copy: ") {
            return Err(error("the guest was refused after the migration had started").into());
        }
        Ok(MoveOutcome::Refused { reasons: refused })
    } else {
        Err(error("neither moved nor refused").into())
    }
}

impl MoveOutcome {
    /// Returns the first word of each reason: the register or other subject that blocks the move.
    /// Lines that propose adjustments are no reasons.
    pub(crate) fn blockers(&self) -> Vec<String> {
        let Self::Refused { reasons } = self else {
            return Vec::new();
        };
        let mut names: Vec<String> = Vec::new();
        let is_proposal = |reason: &str| {
            // The second word is that of lines recorded by older versions.
            ["`--accept ", "with --accept ", "all of these changes "]
                .iter()
                .any(|prefix| reason.starts_with(prefix))
        };
        for reason in reasons.iter().filter(|reason| !is_proposal(reason)) {
            let subject = match reason.split_once(": ") {
                Some((vcpus, subject)) if vcpus.starts_with("vCPU") => subject,
                _ => reason,
            };
            let subject = subject.strip_prefix("the ").unwrap_or(subject);
            let end = subject.find([' ', ':', ',']).unwrap_or(subject.len());
            let name = subject.get(..end).unwrap_or(subject).to_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str, status: &str) -> VmmOutput {
        VmmOutput {
            text: text.to_owned(),
            status: status.to_owned(),
        }
    }

    const THREE: &str = "guest: 3 rounds, timers v 3 p 3, registers intact\n";
    const FIVE: &str = "guest: 5 rounds, timers v 5 p 5, registers intact\n";

    #[test]
    fn both_ends_decide_the_outcome() {
        let source = output(&format!("{THREE}migrated: pre-copied 3 pages\n"), "0");
        let arrived = |line: &str| output(&format!("{ARRIVED_LINE}\n{line}"), "0");
        let moved = evaluate(&source, &arrived(FIVE)).unwrap();
        assert!(matches!(moved, MoveOutcome::Moved { .. }));
        // A guest without progress, with a silent timer or with lost registers is not well.
        assert!(evaluate(&source, &arrived(THREE)).is_err());
        for stalled in ["v 5 p 3", "v 3 p 5"] {
            let line = FIVE.replace("v 5 p 5", stalled);
            assert!(evaluate(&source, &arrived(&line)).is_err(), "{line}");
        }
        assert!(evaluate(&source, &arrived(&FIVE.replace("intact", "lost"))).is_err());
        assert!(evaluate(&source, &output(FIVE, "0")).is_err());
        assert!(evaluate(&source, &output("", "2")).is_err());
    }

    #[test]
    fn a_refusal_leaves_the_guest_where_it_was() {
        let reason = "vCPU 0: PSCI_VERSION is 0x10003, this host has 0x10001: no; do something";
        let proposal = "`--accept PSCI_VERSION` on the receiver changes 0x10003 to 0x10001";
        let source = output(
            &format!("{THREE}refused: {reason}\nrefused: {proposal}\n{STAYED_LINE}\n{FIVE}"),
            "1",
        );
        let destination = output(&format!("refused: {reason}\n"), "1");
        let refused = evaluate(&source, &destination).unwrap();
        assert_eq!(refused.blockers(), ["PSCI_VERSION"]);
        assert!(evaluate(&source, &output(ARRIVED_LINE, "1")).is_err());
        assert!(evaluate(&source, &output("", "0")).is_err());
        let silent = output(&source.text.replace(FIVE, ""), "1");
        assert!(evaluate(&silent, &destination).is_err());
        let late = source
            .text
            .replace(STAYED_LINE, &format!("pre-copy: round 1\n{STAYED_LINE}"));
        assert!(evaluate(&output(&late, "1"), &destination).is_err());
    }

    #[test]
    fn evaluation_of_the_return_trip_starts_at_the_arrival() {
        let outbound = output(&format!("{ARRIVED_LINE}\n{FIVE}migrated: x\n"), "0");
        let inbound = output(&format!("{ARRIVED_LINE}\n{}", FIVE.replace('5', "7")), "0");
        assert!(evaluate(&outbound.after_arrival(), &inbound).is_ok());
    }
}
