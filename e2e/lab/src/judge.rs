//! [`judge`]: how a move of the example VMM's guest went, by what the VMM said at both ends, line by line, and its exit statuses.

use std::fs;
use std::path::Path;

use e2e_framework::Result;

/// What one end said, and its exit status.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) status: String,
}

/// How a move went, when it went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
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
pub(crate) struct Seen {
    pub(crate) rounds: u64,
    pub(crate) virtual_ticks: u64,
    pub(crate) physical_ticks: u64,
    pub(crate) is_intact: bool,
}

/// What the VMM says when a guest has come.
const HERE: &str = "the guest runs here";
/// What it says when it stays.
const STAYS: &str = "the guest goes on at the source";

impl Said {
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
    pub(crate) fn once_here(&self) -> Self {
        let (_, after) = self.text.split_once(HERE).unwrap_or_default();
        Self {
            text: after.to_owned(),
            status: self.status.clone(),
        }
    }

    /// Whether the guest ever ran there, having come.
    pub(crate) fn has_run(&self) -> bool {
        self.text.lines().any(|line| line == HERE)
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
    pub(crate) fn goes_on(&self) -> std::result::Result<(), String> {
        let (before, after) = self.text.split_once(STAYS).ok_or("no word that it stays")?;
        let (before, after) = (seen(before), seen(after));
        match (before.last(), after.last()) {
            (Some(before), Some(after)) => after.goes_on_from(*before),
            _ => Err("it was not seen on both sides of that".to_owned()),
        }
    }
}

impl Seen {
    fn goes_on_from(self, before: Self) -> std::result::Result<(), String> {
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
pub(crate) fn seen(text: &str) -> Vec<Seen> {
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("guest: ")?;
        let (rounds, rest) = rest.split_once(" rounds, timers v ")?;
        let (virtual_ticks, rest) = rest.split_once(" p ")?;
        let (physical_ticks, state) = rest.split_once(", registers ")?;
        Some(Seen {
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
pub(crate) fn judge(source: &Said, destination: &Said) -> Result<Outcome> {
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
        let (before, after) = (seen(&source.text), seen(&destination.once_here().text));
        let (Some(before), Some(after)) = (before.last(), after.last()) else {
            return Err(wrong("the guest was not seen at both ends").into());
        };
        after.goes_on_from(*before).map_err(|why| wrong(&why))?;
        let figures = source.lines("migrated: ").join("; ");
        Ok(Outcome::Moved { figures })
    } else if [source, destination].iter().all(|end| end.status == "1")
        && !destination.has_run()
        && !refused.is_empty()
    {
        source.goes_on().map_err(|why| wrong(&why))?;
        if source.text.contains("pre-copy: ") {
            return Err(wrong("it was refused when it was under way already").into());
        }
        Ok(Outcome::Refused { reasons: refused })
    } else {
        Err(wrong("neither moved nor refused").into())
    }
}

impl Outcome {
    /// The registers that stood in the way, or what else did: the first word of a reason. What is proposed is no reason.
    pub(crate) fn in_the_way(&self) -> Vec<String> {
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

    fn said(text: &str, status: &str) -> Said {
        Said {
            text: text.to_owned(),
            status: status.to_owned(),
        }
    }

    const THREE: &str = "guest: 3 rounds, timers v 3 p 3, registers intact\n";
    const FIVE: &str = "guest: 5 rounds, timers v 5 p 5, registers intact\n";

    #[test]
    fn a_move_is_judged_by_both_ends() {
        let source = said(&format!("{THREE}migrated: pre-copied 3 pages\n"), "0");
        let comes = |line: &str| said(&format!("{HERE}\n{line}"), "0");
        let moved = judge(&source, &comes(FIVE)).unwrap();
        assert!(matches!(moved, Outcome::Moved { .. }));
        // One that does not count, or whose timer is silent, or lost something, is not well.
        assert!(judge(&source, &comes(THREE)).is_err());
        for wrong in ["v 5 p 3", "v 3 p 5"] {
            let line = FIVE.replace("v 5 p 5", wrong);
            assert!(judge(&source, &comes(&line)).is_err(), "{line}");
        }
        assert!(judge(&source, &comes(&FIVE.replace("intact", "lost"))).is_err());
        assert!(judge(&source, &said(FIVE, "0")).is_err());
        assert!(judge(&source, &said("", "2")).is_err());
    }

    #[test]
    fn a_refusal_leaves_the_guest_where_it_was() {
        let reason = "vCPU 0: PSCI_VERSION is 0x10003, here 0x10001: no; do something";
        let proposal = "with --accept PSCI_VERSION on the receiver 0x10003 would become 0x10001";
        let source = said(
            &format!("{THREE}refused: {reason}\nrefused: {proposal}\n{STAYS}\n{FIVE}"),
            "1",
        );
        let destination = said(&format!("refused: {reason}\n"), "1");
        let refused = judge(&source, &destination).unwrap();
        assert_eq!(refused.in_the_way(), ["PSCI_VERSION"]);
        assert!(judge(&source, &said(HERE, "1")).is_err());
        assert!(judge(&source, &said("", "0")).is_err());
        let silent = said(&source.text.replace(FIVE, ""), "1");
        assert!(judge(&silent, &destination).is_err());
        let late = source
            .text
            .replace(STAYS, &format!("pre-copy: round 1\n{STAYS}"));
        assert!(judge(&said(&late, "1"), &destination).is_err());
    }

    #[test]
    fn what_came_may_go_back() {
        let there = said(&format!("{HERE}\n{FIVE}migrated: x\n"), "0");
        let home = said(&format!("{HERE}\n{}", FIVE.replace('5', "7")), "0");
        assert!(judge(&there.once_here(), &home).is_ok());
    }
}
