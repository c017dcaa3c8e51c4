//! What came of moves of the example VMM's guest, as kept: `vmm-matrix/CPU.jsonl`, a line for each source and destination, and `vmm-matrix.md`, made of all
//! such files in the folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::evaluate::MoveOutcome;
use super::trips::MoveAttempt;
use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::kernels::Kernel;

/// What came of all tries from one kernel to another.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    source: String,
    destination: String,
    value: Value,
}

/// The lines of one CPU model.
#[derive(Debug)]
pub(crate) struct MoveTable {
    cpu: String,
    lines: BTreeMap<(Vec<u32>, Vec<u32>), Line>,
}

/// So that 6.9 is before 6.12.
fn parse_version(version: &str) -> Vec<u32> {
    let numbers = version.split('.').map(|number| number.parse().ok());
    numbers.map(Option::unwrap_or_default).collect()
}

impl Line {
    pub(crate) fn new(from: &Kernel, to: &Kernel, serial: bool, tries: &[MoveAttempt]) -> Self {
        let tries: Vec<_> = tries
            .iter()
            .map(|tried| match &tried.outbound {
                MoveOutcome::Moved { .. } => {
                    json!({ "consent": tried.consent, "outcome": "moved" })
                }
                MoveOutcome::Refused { reasons } => json!({
                    "consent": tried.consent,
                    "outcome": "refused",
                    "blockers": tried.outbound.blockers(),
                    "reasons": reasons,
                }),
            })
            .collect();
        let wire = if serial { "serial" } else { "tcp" };
        Self {
            source: from.version.clone(),
            destination: to.version.clone(),
            value: json!({
                "source": from.version,
                "destination": to.version,
                "wire": wire,
                "tries": tries,
            }),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let word = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        Some(Self {
            source: word("source")?,
            destination: word("destination")?,
            value,
        })
    }

    fn tries(&self) -> &[Value] {
        let tries = self.value.get("tries").and_then(Value::as_array);
        tries.map_or(&[], Vec::as_slice)
    }

    /// `moves`, `low` or `refused`, and `s` behind it for the serial line.
    fn cell_text(&self) -> String {
        let last = self.tries().last();
        let of_last = |name: &str| last.and_then(|last| last.get(name)?.as_str());
        let word = match (of_last("outcome"), of_last("consent")) {
            (Some("moved"), None) => "moves",
            (Some("moved"), Some(consent)) => consent,
            _ => "refused",
        };
        let is_serial = self.value.get("wire").and_then(Value::as_str) == Some("serial");
        format!("{word}{}", if is_serial { " s" } else { "" })
    }

    /// What stood in the way first.
    fn blockers(&self) -> Option<(String, String)> {
        let words = |tried: &Value| -> Option<String> {
            let names = tried.get("blockers")?.as_array()?.iter();
            Some(
                names
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .join(", "),
            )
        };
        let first = words(self.tries().first()?)?;
        let with_low = self.tries().get(1).and_then(words);
        Some((first, with_low.unwrap_or_else(|| "–".to_owned())))
    }
}

impl MoveTable {
    /// What is known in a folder of a CPU.
    ///
    /// # Errors
    /// If it cannot be read, or a line is not of this form.
    pub(crate) fn open(folder: &Path, cpu: &Cpu) -> Result<Self> {
        Self::read(folder, &cpu.to_string())
    }

    fn read(folder: &Path, cpu: &str) -> Result<Self> {
        let mut kept = Self {
            cpu: cpu.to_owned(),
            lines: BTreeMap::new(),
        };
        let path = folder.join("vmm-matrix").join(format!("{cpu}.jsonl"));
        if path.exists() {
            for line in fs::read_to_string(&path)?.lines() {
                let wrong = || format!("{}: not a line of this table: {line}", path.display());
                kept.add([Line::parse(line).ok_or_else(wrong)?]);
            }
        }
        Ok(kept)
    }

    pub(crate) fn has(&self, source: &str, destination: &str) -> bool {
        let key = (parse_version(source), parse_version(destination));
        self.lines.contains_key(&key)
    }

    pub(crate) fn add(&mut self, lines: impl IntoIterator<Item = Line>) {
        for line in lines {
            let key = (
                parse_version(&line.source),
                parse_version(&line.destination),
            );
            self.lines.insert(key, line);
        }
    }

    /// Writes its file, and the table of all.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let data = folder.join("vmm-matrix");
        fs::create_dir_all(&data)?;
        let lines = self.lines.values();
        let text = lines.fold(String::new(), |all, line| {
            all + &line.value.to_string() + "\n"
        });
        fs::write(data.join(format!("{}.jsonl", self.cpu)), text)?;
        let mut names: Vec<_> = fs::read_dir(&data)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".jsonl").map(str::to_owned))
            .collect();
        names.sort();
        let mut page = PREFACE.to_owned();
        for name in names {
            page += &Self::read(folder, &name)?.to_markdown();
        }
        fs::write(folder.join("vmm-matrix.md"), page)?;
        Ok(())
    }

    fn to_markdown(&self) -> String {
        let mut versions: BTreeMap<Vec<u32>, &str> = BTreeMap::new();
        for line in self.lines.values() {
            for version in [&line.source, &line.destination] {
                versions.insert(parse_version(version), version);
            }
        }
        let mut text = format!("\n## {}\n\n", self.cpu);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let words: Vec<_> = self.lines.values().map(Line::cell_text).collect();
        for word in &words {
            *counts.entry(word.trim_end_matches(" s")).or_default() += 1;
        }
        let counts: Vec<_> = counts
            .iter()
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        let _ = writeln!(text, "{} pairs: {}.\n", words.len(), counts.join(", "));
        let heads: Vec<_> = versions.values().copied().collect();
        let _ = writeln!(text, "| from \\ to | {} |", heads.join(" | "));
        let _ = writeln!(text, "|---{}|", "|---".repeat(heads.len()));
        for (from, name) in &versions {
            let cells = versions.keys().map(|to| {
                let line = self.lines.get(&(from.clone(), to.clone()));
                line.map_or_else(String::new, Line::cell_text)
            });
            let cells: Vec<_> = cells.collect();
            let _ = writeln!(text, "| **{name}** | {} |", cells.join(" | "));
        }
        let mut reasons: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for line in self.lines.values() {
            if let Some(why) = line.blockers() {
                let pair = format!("{} → {}", line.source, line.destination);
                reasons.entry(why).or_default().push(pair);
            }
        }
        if !reasons.is_empty() {
            text += "\n| in the way | with `--accept low` still | of |\n|---|---|---|\n";
            for ((first, then), pairs) in reasons {
                let _ = writeln!(text, "| {first} | {then} | {} |", pairs.join(", "));
            }
        }
        text
    }
}

const PREFACE: &str = "\
# The example VMM's guest between kernels

Made by `cargo xtask lab migrate` ([e2e/lab/README.md](../e2e/lab/README.md#migrate)): the guest of the [example VMM](vmm-tutorial.md) moves live between two hosts with real
kernels and real KVM under an emulating QEMU, the row's to the column's. Every host has the CPU model of the heading, emulated, so that kernels are compared, not
machines.

| | |
|---|---|
| moves | with nothing consented to: the guest goes on there, its registers intact, its timers firing |
| low | refused, and then moved with `--accept low` |
| refused | refused with that as well; the guest went on where it was, and nothing was touched |
| s | over a serial line, where a kernel has no network driver at hand; all others over TCP |

To or from a kernel before 6.4 the guest is started with `--no-physical-timer --gic-revision 2`. All reasons, in the VMM's words, are in `vmm-matrix/*.jsonl`.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn line(from: &str, to: &str, tries: &str) -> Line {
        let text =
            format!(r#"{{"source":"{from}","destination":"{to}","wire":"tcp","tries":[{tries}]}}"#);
        Line::parse(&text).unwrap()
    }

    #[test]
    fn what_was_kept_is_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let moved = r#"{"consent":null,"outcome":"moved"}"#;
        let refused = r#"{"consent":null,"outcome":"refused","blockers":["PSCI_VERSION"]}"#;
        let with = r#"{"consent":"low","outcome":"moved"}"#;
        let cpu = Cpu::parse("max").unwrap();
        let mut kept = MoveTable::open(folder.path(), &cpu).unwrap();
        kept.add([
            line("6.9", "6.12", moved),
            line("6.12", "6.9", &format!("{refused},{with}")),
        ]);
        kept.write(folder.path()).unwrap();
        let again = MoveTable::open(folder.path(), &cpu).unwrap();
        assert!(again.has("6.9", "6.12") && !again.has("6.12", "7.0"));
        let page = fs::read_to_string(folder.path().join("vmm-matrix.md")).unwrap();
        for row in [
            "## max",
            "| from \\ to | 6.9 | 6.12 |",
            "| **6.9** |  | moves |",
            "| **6.12** | low |  |",
            "| PSCI_VERSION | – | 6.12 → 6.9 |",
        ] {
            assert!(page.contains(row), "{row} in {page}");
        }
        fs::write(folder.path().join("vmm-matrix/max.jsonl"), "odd\n").unwrap();
        assert!(MoveTable::open(folder.path(), &cpu).is_err());
    }
}
