//! Outcomes of moves of the example VMM's guest, kept in files: `vmm-matrix/CPU.jsonl` has a line
//! for each source and destination, and `vmm-matrix.md` is rendered from all these files.

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

/// Outcomes of all attempts from one kernel to another.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    source: String,
    destination: String,
    value: Value,
}

/// Lines of one CPU model.
#[derive(Debug)]
pub(crate) struct MoveTable {
    cpu: String,
    lines: BTreeMap<(Vec<u32>, Vec<u32>), Line>,
}

/// Parses a version into numbers, so that 6.9 sorts before 6.12.
fn parse_version(version: &str) -> Vec<u32> {
    let numbers = version.split('.').map(|number| number.parse().ok());
    numbers.map(Option::unwrap_or_default).collect()
}

impl Line {
    pub(crate) fn new(from: &Kernel, to: &Kernel, serial: bool, attempts: &[MoveAttempt]) -> Self {
        let tries: Vec<_> = attempts
            .iter()
            .map(|attempt| match &attempt.outbound {
                MoveOutcome::Moved { .. } => {
                    json!({ "consent": attempt.consent, "outcome": "moved" })
                }
                MoveOutcome::Refused { reasons } => json!({
                    "consent": attempt.consent,
                    "outcome": "refused",
                    "blockers": attempt.outbound.blockers(),
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
        let text_of = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        Some(Self {
            source: text_of("source")?,
            destination: text_of("destination")?,
            value,
        })
    }

    fn attempts(&self) -> &[Value] {
        let tries = self.value.get("tries").and_then(Value::as_array);
        tries.map_or(&[], Vec::as_slice)
    }

    /// Returns `moves`, `low` or `refused`, with a suffix `s` for a move over the serial line.
    fn cell_text(&self) -> String {
        let last = self.attempts().last();
        let member = |name: &str| last.and_then(|last| last.get(name)?.as_str());
        let word = match (member("outcome"), member("consent")) {
            (Some("moved"), None) => "moves",
            (Some("moved"), Some(consent)) => consent,
            _ => "refused",
        };
        let is_serial = self.value.get("wire").and_then(Value::as_str) == Some("serial");
        format!("{word}{}", if is_serial { " s" } else { "" })
    }

    /// Returns the blockers of the first attempt, and the blockers with `--accept low`.
    ///
    /// They follow from the recorded reasons. The member `blockers` is for other readers, and an
    /// older version of this program may have written it.
    fn blockers(&self) -> Option<(String, String)> {
        let blocker_names = |attempt: &Value| -> Option<String> {
            let reasons = attempt.get("reasons")?.as_array()?.iter();
            let reasons = reasons.filter_map(Value::as_str).map(str::to_owned);
            let outcome = MoveOutcome::Refused {
                reasons: reasons.collect(),
            };
            Some(outcome.blockers().join(", "))
        };
        let first = blocker_names(self.attempts().first()?)?;
        let with_low = self.attempts().get(1).and_then(blocker_names);
        Some((first, with_low.unwrap_or_else(|| "–".to_owned())))
    }
}

impl MoveTable {
    /// Reads the kept lines of a CPU model.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or a line is malformed.
    pub(crate) fn open(folder: &Path, cpu: &Cpu) -> Result<Self> {
        Self::read(folder, &cpu.to_string())
    }

    fn read(folder: &Path, cpu: &str) -> Result<Self> {
        let mut table = Self {
            cpu: cpu.to_owned(),
            lines: BTreeMap::new(),
        };
        let path = folder.join("vmm-matrix").join(format!("{cpu}.jsonl"));
        if path.exists() {
            for line in fs::read_to_string(&path)?.lines() {
                let error = || format!("{}: not a line of this table: {line}", path.display());
                table.add([Line::parse(line).ok_or_else(error)?]);
            }
        }
        Ok(table)
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

    /// Writes the lines, and renders the tables of all CPU models.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let data = folder.join("vmm-matrix");
        fs::create_dir_all(&data)?;
        let lines = self.lines.values();
        let text = lines.fold(String::new(), |all, line| {
            all + &line.value.to_string() + "\n"
        });
        fs::write(data.join(format!("{}.jsonl", self.cpu)), text)?;
        fs::write(folder.join("vmm-matrix.md"), Self::render(folder)?)?;
        Ok(())
    }

    /// Returns the tables of all CPU models whose lines are kept, as one page.
    fn render(folder: &Path) -> Result<String> {
        let data = folder.join("vmm-matrix");
        let mut names: Vec<_> = fs::read_dir(&data)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".jsonl").map(str::to_owned))
            .collect();
        names.sort();
        let mut page = PREFACE.to_owned();
        for name in names {
            page += &Self::read(folder, &name)?.to_markdown();
        }
        Ok(page)
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
        let headings: Vec<_> = versions.values().copied().collect();
        let _ = writeln!(text, "| from \\ to | {} |", headings.join(" | "));
        let _ = writeln!(text, "|---{}|", "|---".repeat(headings.len()));
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
            if let Some(blockers) = line.blockers() {
                let pair = format!("{} → {}", line.source, line.destination);
                reasons.entry(blockers).or_default().push(pair);
            }
        }
        if !reasons.is_empty() {
            text += "\n| blockers | blockers with `--accept low` | pairs |\n|---|---|---|\n";
            for ((first, with_low), pairs) in reasons {
                let _ = writeln!(text, "| {first} | {with_low} | {} |", pairs.join(", "));
            }
        }
        text
    }
}

const PREFACE: &str = "\
# Where the example VMM's guest moves

Generated by `cargo xtask lab migrate` ([e2e/lab/README.md](../e2e/lab/README.md#migrate)); do not
edit. `vmm-matrix/*.jsonl` has all reasons, as the VMM prints them.

The guest of the [example VMM](vmm-tutorial.md) moves live between two hosts with real kernels and
real KVM. Every host has the emulated CPU model of the heading, so the tables compare kernels, not
machines. A row is the kernel of the source, and a column that of the destination.

| | |
|---|---|
| moves | moved without consent: the guest runs, with intact registers and firing timers |
| low | refused without consent, moved with `--accept low` |
| refused | also refused with `--accept low`; the guest continued at the source, unchanged |
| s | moved over a serial line, because a kernel has no network driver available; others over TCP |
| no entry | not tried |

If a kernel before 6.4 is at either end, the guest is started with
`--no-physical-timer --gic-revision 2`.
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
    fn kept_lines_are_rendered_as_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let moved = r#"{"consent":null,"outcome":"moved"}"#;
        let refused = r#"{"consent":null,"outcome":"refused","reasons":["the GIC of the VM is new","vCPU 0: PSCI_VERSION is 1, here 0","with --accept PSCI_VERSION 1 becomes 0"]}"#;
        let with_low = r#"{"consent":"low","outcome":"moved"}"#;
        let cpu = Cpu::parse("max").unwrap();
        let mut table = MoveTable::open(folder.path(), &cpu).unwrap();
        table.add([
            line("6.9", "6.12", moved),
            line("6.12", "6.9", &format!("{refused},{with_low}")),
        ]);
        table.write(folder.path()).unwrap();
        let reopened = MoveTable::open(folder.path(), &cpu).unwrap();
        assert!(reopened.has("6.9", "6.12") && !reopened.has("6.12", "7.0"));
        let page = fs::read_to_string(folder.path().join("vmm-matrix.md")).unwrap();
        for row in [
            "## max",
            "| from \\ to | 6.9 | 6.12 |",
            "| **6.9** |  | moves |",
            "| **6.12** | low |  |",
            "| GIC, PSCI_VERSION | – | 6.12 → 6.9 |",
        ] {
            assert!(page.contains(row), "{row} in {page}");
        }
        fs::write(folder.path().join("vmm-matrix/max.jsonl"), "malformed\n").unwrap();
        assert!(MoveTable::open(folder.path(), &cpu).is_err());
    }

    /// Checks that the checked-in page is rendered from the checked-in lines.
    #[test]
    fn docs_vmm_matrix_is_current() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        let page = MoveTable::render(&docs).unwrap();
        let path = docs.join("vmm-matrix.md");
        if std::env::var_os("BLESS").is_some() {
            fs::write(path, page).unwrap();
            return;
        }
        assert!(
            fs::read_to_string(path).unwrap() == page,
            "docs/vmm-matrix.md does not show docs/vmm-matrix: cargo xtask bless"
        );
    }
}
