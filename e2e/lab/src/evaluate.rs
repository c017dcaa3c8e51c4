//! [`evaluate`]: how a move of the example VMM's guest went, by what the VMM said at both ends, line by line, and its exit statuses.

use std::fs;
use std::path::Path;

use e2e_framework::Result;

/// What one end said, and its exit status.
#[derive(Clone, Debug)]
pub(crate) struct VmmOutput {
    pub(crate) text: String,
    pub(crate) status: String,
}

/// How a move went, when it went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MoveOutcome {
    /// The guest goes on at the destination, its registers intact.
    Moved {
        /// What it took, in the VMM's words.
        figures: String,
    },
    /// It was refused before anything was touched, and goes on at the source.
    Refused {
        /// All reasons, in the VMM's words.
        reasons: Vec<String>,
    },
}

/// What the guest was seen to have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestProgress {
    pub(crate) rounds: u64,
    pub(crate) virtual_ticks: u64,
    pub(crate) physical_ticks: u64,
    pub(crate) is_intact: bool,
}

/// What the VMM says when a guest has come.
const ARRIVED_LINE: &str = "the guest runs here";
/// What it says when it stays.
const STAYED_LINE: &str = "the guest goes on at the source";

impl VmmOutput {
    /// Reads what an end left in its results.
    ///
    /// # Errors
    /// If it left none, because it did not get that far.
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

    /// What it said after the guest had come.
    pub(crate) fn after_arrival(&self) -> Self {
        let (_, after) = self.text.split_once(ARRIVED_LINE).unwrap_or_default();
        Self {
            text: after.to_owned(),
            status: self.status.clone(),
        }
    }

    /// Whether the guest ever ran there, having come.
    pub(crate) fn has_run(&self) -> bool {
        self.text.lines().any(|line| line == ARRIVED_LINE)
    }

    fn lines(&self, start: &str) -> Vec<String> {
        let found = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix(start));
        found.map(str::to_owned).collect()
    }

    /// Its exit status and its lines, for a message.
    pub(crate) fn indented(&self) -> String {
        let lines = self.text.lines();
        lines.fold(format!("({})\n", self.status), |all, line| {
            all + "    " + line + "\n"
        })
    }

    /// Whether a guest that stayed goes on: it did more after that was said.
    ///
    /// # Errors
    /// What it says if it does not, or lost something.
    pub(crate) fn check_guest_continues(&self) -> std::result::Result<(), String> {
        let (before, after) = self
            .text
            .split_once(STAYED_LINE)
            .ok_or("no word that it stays")?;
        let (before, after) = (parse_progress(before), parse_progress(after));
        match (before.last(), after.last()) {
            (Some(before), Some(after)) => after.check_advanced_since(*before),
            _ => Err("it was not seen on both sides of that".to_owned()),
        }
    }
}

impl GuestProgress {
    fn check_advanced_since(self, before: Self) -> std::result::Result<(), String> {
        let physical = before.physical_ticks == 0 || self.physical_ticks > before.physical_ticks;
        if !(self.is_intact && before.is_intact) {
            Err("the guest lost something".to_owned())
        } else if self.rounds <= before.rounds {
            Err("the guest counts no further".to_owned())
        } else if self.virtual_ticks <= before.virtual_ticks {
            Err("CNTV fires no more".to_owned())
        } else if !physical {
            Err("CNTP fires no more".to_owned())
        } else {
            Ok(())
        }
    }
}

/// The lines `guest: 1234 rounds, timers v 56 p 56, registers intact`.
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

/// Whether both ends agree on how it went, and the guest is well where it is.
///
/// # Errors
/// What is wrong, and all that both said.
pub(crate) fn evaluate(source: &VmmOutput, destination: &VmmOutput) -> Result<MoveOutcome> {
    let wrong = |why: &str| {
        format!(
            "{why}\n  source {}  destination {}",
            source.indented(),
            destination.indented()
        )
    };
    let refused = source.lines("refused: ");
    if source.status == "0" && source.text.contains("migrated: ") && destination.has_run() {
        if !matches!(destination.status.as_str(), "0" | "1") {
            return Err(wrong("the guest moved, and then").into());
        }
        let (before, after) = (
            parse_progress(&source.text),
            parse_progress(&destination.after_arrival().text),
        );
        let (Some(before), Some(after)) = (before.last(), after.last()) else {
            return Err(wrong("the guest was not seen at both ends").into());
        };
        after
            .check_advanced_since(*before)
            .map_err(|why| wrong(&why))?;
        let figures = source.lines("migrated: ").join("; ");
        Ok(MoveOutcome::Moved { figures })
    } else if [source, destination].iter().all(|end| end.status == "1")
        && !destination.has_run()
        && !refused.is_empty()
    {
        source.check_guest_continues().map_err(|why| wrong(&why))?;
        if source.text.contains("pre-copy: ") {
            return Err(wrong("it was refused when it was under way already").into());
        }
        Ok(MoveOutcome::Refused { reasons: refused })
    } else {
        Err(wrong("neither moved nor refused").into())
    }
}

impl MoveOutcome {
    /// The registers that stood in the way, or what else did: the first word of a reason. What is proposed is no reason.
    pub(crate) fn blockers(&self) -> Vec<String> {
        let Self::Refused { reasons } = self else {
            return Vec::new();
        };
        let mut names: Vec<String> = Vec::new();
        let is_proposal = |reason: &str| reason.starts_with("with ") || reason.starts_with("even ");
        for reason in reasons.iter().filter(|reason| !is_proposal(reason)) {
            let about = match reason.split_once(": ") {
                Some((vcpus, about)) if vcpus.starts_with("vCPU") => about,
                _ => reason,
            };
            let about = about.strip_prefix("the ").unwrap_or(about);
            let end = about.find([' ', ':', ',']).unwrap_or(about.len());
            let name = about.get(..end).unwrap_or(about).to_owned();
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
    fn a_move_is_judged_by_both_ends() {
        let source = output(&format!("{THREE}migrated: pre-copied 3 pages\n"), "0");
        let comes = |line: &str| output(&format!("{ARRIVED_LINE}\n{line}"), "0");
        let moved = evaluate(&source, &comes(FIVE)).unwrap();
        assert!(matches!(moved, MoveOutcome::Moved { .. }));
        // One that does not count, or whose timer is silent, or lost something, is not well.
        assert!(evaluate(&source, &comes(THREE)).is_err());
        for wrong in ["v 5 p 3", "v 3 p 5"] {
            let line = FIVE.replace("v 5 p 5", wrong);
            assert!(evaluate(&source, &comes(&line)).is_err(), "{line}");
        }
        assert!(evaluate(&source, &comes(&FIVE.replace("intact", "lost"))).is_err());
        assert!(evaluate(&source, &output(FIVE, "0")).is_err());
        assert!(evaluate(&source, &output("", "2")).is_err());
    }

    #[test]
    fn a_refusal_leaves_the_guest_where_it_was() {
        let reason = "vCPU 0: PSCI_VERSION is 0x10003, here 0x10001: no; do something";
        let proposal = "with --accept PSCI_VERSION on the receiver 0x10003 would become 0x10001";
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
    fn what_came_may_go_back() {
        let there = output(&format!("{ARRIVED_LINE}\n{FIVE}migrated: x\n"), "0");
        let home = output(&format!("{ARRIVED_LINE}\n{}", FIVE.replace('5', "7")), "0");
        assert!(evaluate(&there.after_arrival(), &home).is_ok());
    }
}
