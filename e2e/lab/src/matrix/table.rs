//! The results of the matrix: `kvm-matrix/CPU.jsonl`, a line for each pair, and `kvm-matrix.md`, made of all such files in the folder.
//!
//! A line has `cpu`, `source`, `destination` (kernels), `qemu` (at both ends), `destination_spec` (the destination as cpreg was told), `as_is` (the load without cpreg)
//! and `cpreg`, by consent (`none`, `low`, `all`): `verdict`, `reasons`, and `load` where there was something to load.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::convert::Consent;
use super::outcome::GuestOutcome;
use super::pair::Pair;
use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::kernels::Kernel;

/// How many reasons of a refusal are written out.
const MAX_REASONS: usize = 6;

/// Writes the results of one CPU, and the document anew.
///
/// # Errors
/// If a file cannot be written, or a pair that QEMU loads is refused without a reason, or what cpreg wrote does not run; both files are written first.
pub(crate) fn write(
    folder: &Path,
    cpu: &Cpu,
    kernels: &[Kernel],
    series: &[&str],
    pairs: &[Pair],
) -> Result<()> {
    let data = folder.join("kvm-matrix");
    fs::create_dir_all(&data)?;
    let mut lines = String::new();
    // In the order of the table, whatever came first.
    for series in series {
        for source in kernels {
            for destination in kernels {
                let found = pairs.iter().find(|pair| {
                    pair.series == *series
                        && pair.source == source.version
                        && pair.destination == destination.version
                });
                if let Some(pair) = found {
                    writeln!(lines, "{}", to_json(pair))?;
                }
            }
        }
    }
    fs::write(data.join(format!("{cpu}.jsonl")), lines)?;

    let mut files: Vec<_> = fs::read_dir(&data)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    files.sort();
    let mut text = HEAD.to_owned();
    let mut wrong = Vec::new();
    for file in files {
        let lines = fs::read_to_string(&file)?;
        let rows: std::result::Result<Vec<Value>, _> =
            lines.lines().map(serde_json::from_str).collect();
        let rows = rows.map_err(|error| format!("{}: {error}", file.display()))?;
        let rows: Vec<PairRow> = rows.iter().filter_map(PairRow::read).collect();
        section(&mut text, &rows, &mut wrong)?;
    }
    fs::write(folder.join("kvm-matrix.md"), text)?;
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}

const HEAD: &str = "\
# Which guests move between which kernels

Made by `cargo xtask lab matrix`; not edited by hand. Debian's QEMU under real KVM of Debian's arm64 kernels, on a host that QEMU 11.1 emulates; the guest
is `e2e/lab/guest/aarch64.s` on `virt-10.0`, one vCPU, `-cpu host`. It is saved while it runs. What a load is worth the guest says itself: *runs* means that it went on at the
destination, compared its registers with what it had left in them, and waited for its timers. The same QEMU is at both ends. The data is in `kvm-matrix/`.

Some registers change even where a guest moves to the very same kernel, since that kernel does not list them or writing one of a pair undoes the other. Such are listed once
for each kernel; a load is marked `~` only where others changed as well.

In the tables a row is a source kernel, a column a destination. *Alone*: `+` runs, `~` runs and registers changed, `.` does not run. *With cpreg*: `+` it runs after `cpreg convert` without
any consent, `l` with `--accept low`, `a` with all that is proposed, `-` refused whatever is accepted, `?` unknown, `~` it runs and registers changed, `!` cpreg wrote it and it does not run.
";

fn to_json(pair: &Pair) -> Value {
    let mut by_consent = serde_json::Map::new();
    for (consent, made, loaded) in &pair.converted {
        by_consent.insert(
            consent.name().to_owned(),
            json!({
                "verdict": made.verdict,
                "reasons": made.reasons,
                "load": loaded.as_ref().map(GuestOutcome::to_json),
            }),
        );
    }
    json!({
        "cpu": pair.cpu,
        "source": pair.source,
        "destination": pair.destination,
        "qemu": pair.series,
        "destination_spec": pair.destination_spec,
        "as_is": pair.as_is.to_json(),
        "cpreg": by_consent,
    })
}

/// A line of the data, as far as the document needs it.
struct PairRow<'a> {
    cpu: &'a str,
    source: &'a str,
    destination: &'a str,
    qemu: &'a str,
    runs_as_is: bool,
    cpreg: &'a Value,
    as_is: &'a Value,
}

impl<'a> PairRow<'a> {
    fn read(line: &'a Value) -> Option<Self> {
        Some(Self {
            cpu: line["cpu"].as_str()?,
            source: line["source"].as_str()?,
            destination: line["destination"].as_str()?,
            qemu: line["qemu"].as_str()?,
            runs_as_is: line["as_is"]["runs"].as_bool()?,
            cpreg: &line["cpreg"],
            as_is: &line["as_is"],
        })
    }

    fn verdict(&self, consent: Consent) -> &str {
        self.cpreg[consent.name()]["verdict"]
            .as_str()
            .unwrap_or_default()
    }

    /// Whether it runs after that; `None` if cpreg wrote nothing.
    fn runs(&self, consent: Consent) -> Option<bool> {
        self.cpreg[consent.name()]["load"]["runs"].as_bool()
    }

    /// As one character of the table.
    fn as_is_symbol(&self, usual: &BaselineChanges<'_>) -> char {
        match self.runs_as_is {
            false => '.',
            true if usual.extra_changes(self, self.as_is).is_empty() => '+',
            true => '~',
        }
    }

    fn load(&self, consent: Consent) -> &'a Value {
        &self.cpreg[consent.name()]["load"]
    }

    /// What it takes, as one character of the table.
    fn cpreg_symbol(&self, usual: &BaselineChanges<'_>) -> char {
        for (consent, character) in Consent::ALL.into_iter().zip(['+', 'l', 'a']) {
            match self.runs(consent) {
                Some(true) if usual.extra_changes(self, self.load(consent)).is_empty() => {
                    return character;
                }
                Some(true) => return '~',
                Some(false) => return '!',
                None => {}
            }
        }
        if self.verdict(Consent::AllProposed) == "unknown" {
            '?'
        } else {
            '-'
        }
    }

    fn reasons(&self, consent: Consent) -> Vec<&str> {
        let reasons = self.cpreg[consent.name()]["reasons"].as_array();
        reasons
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    fn name(&self) -> String {
        format!(
            "{} -> {}, QEMU {}",
            self.source, self.destination, self.qemu
        )
    }
}

/// The registers that change even on the way to the same kernel, by kernel.
struct BaselineChanges<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> BaselineChanges<'a> {
    fn from_rows(rows: &[PairRow<'a>]) -> Self {
        let mut usual: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.source == row.destination) {
            let registers = usual.entry(row.source).or_default();
            registers.extend(list(row.as_is, "differences").map(register));
            registers.sort_unstable();
            registers.dedup();
        }
        Self(usual)
    }

    /// The registers that a load changed beyond those of its two kernels.
    fn extra_changes<'b>(&self, row: &PairRow<'_>, load: &'b Value) -> Vec<&'b str> {
        let is_usual = |difference: &str| {
            [row.source, row.destination].iter().any(|kernel| {
                let registers = self.0.get(*kernel);
                registers.is_some_and(|registers| registers.contains(&register(difference)))
            })
        };
        list(load, "differences")
            .filter(|difference| !is_usual(difference))
            .collect()
    }
}

/// The register of `X7 0x1 0x2`.
fn register(difference: &str) -> &str {
    difference.split(' ').next().unwrap_or(difference)
}

/// The texts of a list in a load.
fn list<'a>(load: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    let words = load[name].as_array().into_iter().flatten();
    words.filter_map(Value::as_str)
}

/// In the order in which they come first.
fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for word in words {
        if !found.contains(&word) {
            found.push(word);
        }
    }
    found
}

/// One CPU.
fn section(text: &mut String, rows: &[PairRow<'_>], wrong: &mut Vec<String>) -> Result<()> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let kernels = distinct(rows.iter().map(|row| row.source));
    let destinations = distinct(rows.iter().map(|row| row.destination));
    let series = distinct(rows.iter().map(|row| row.qemu));
    let usual = BaselineChanges::from_rows(rows);
    writeln!(text, "\n## {}\n", first.cpu)?;
    writeln!(
        text,
        "{} kernels, {} pairs with each QEMU (a kernel with itself among them).\n",
        kernels.len(),
        kernels.len() * kernels.len()
    )?;
    writeln!(
        text,
        "| pairs that run | alone | cpreg | cpreg, low accepted | cpreg, all accepted |"
    )?;
    writeln!(text, "|---|---|---|---|---|")?;
    for series in &series {
        let of: Vec<_> = rows.iter().filter(|row| row.qemu == *series).collect();
        let alone = of.iter().filter(|row| row.runs_as_is).count();
        write!(text, "| QEMU {series} | {alone} |")?;
        for consent in Consent::ALL {
            let count = of
                .iter()
                .filter(|row| row.runs(consent) == Some(true))
                .count();
            write!(text, " {count} |")?;
        }
        writeln!(text)?;
    }
    for series in &series {
        for with_cpreg in [false, true] {
            let title = if with_cpreg { "with cpreg" } else { "alone" };
            let cell = |row: &PairRow<'_>| {
                if with_cpreg {
                    row.cpreg_symbol(&usual)
                } else {
                    row.as_is_symbol(&usual)
                }
            };
            writeln!(text, "\nQEMU {series} {title}:\n")?;
            writeln!(text, "| from \\ to | {} |", destinations.join(" | "))?;
            writeln!(text, "|---|{}", "---|".repeat(destinations.len()))?;
            for source in &kernels {
                write!(text, "| {source} |")?;
                for destination in &destinations {
                    let found = rows.iter().find(|row| {
                        row.qemu == *series
                            && row.source == *source
                            && row.destination == *destination
                    });
                    write!(text, " {} |", found.map_or(' ', cell))?;
                }
                writeln!(text)?;
            }
        }
    }
    write_refusals(text, rows)?;
    write_changes(text, rows, &usual)?;
    write_anomalies(text, rows, wrong)
}

/// The pairs that are refused whatever is accepted, by reason.
fn write_refusals(text: &mut String, rows: &[PairRow<'_>]) -> Result<()> {
    let mut by_reason: BTreeMap<Vec<&str>, Vec<String>> = BTreeMap::new();
    for row in rows {
        if row.runs(Consent::AllProposed).is_none() {
            by_reason
                .entry(row.reasons(Consent::AllProposed))
                .or_default()
                .push(row.name());
        }
    }
    if by_reason.is_empty() {
        writeln!(
            text,
            "\nNo pair is refused once all that is proposed is accepted."
        )?;
        return Ok(());
    }
    writeln!(text, "\nRefused whatever is accepted:\n")?;
    for (reasons, pairs) in by_reason {
        writeln!(text, "* {}", pairs.join("; "))?;
        for reason in reasons.iter().take(MAX_REASONS) {
            writeln!(text, "  * {reason}")?;
        }
        if reasons.len() > MAX_REASONS {
            writeln!(
                text,
                "  * and {} registers more",
                reasons.len() - MAX_REASONS
            )?;
        }
    }
    Ok(())
}

/// Registers that changed: on the way to the same kernel, and beyond that.
fn write_changes(
    text: &mut String,
    rows: &[PairRow<'_>],
    usual: &BaselineChanges<'_>,
) -> Result<()> {
    let mut kernels: BTreeMap<&[&str], Vec<&str>> = BTreeMap::new();
    for (kernel, registers) in usual
        .0
        .iter()
        .filter(|(_, registers)| !registers.is_empty())
    {
        kernels.entry(registers).or_default().push(kernel);
    }
    if !kernels.is_empty() {
        writeln!(
            text,
            "\nChange on the way to the same kernel, without cpreg:\n"
        )?;
        for (registers, kernels) in kernels {
            writeln!(text, "* {}: {}", kernels.join(", "), registers.join(", "))?;
        }
    }
    let mut lines: BTreeMap<Vec<&str>, Vec<String>> = BTreeMap::new();
    for row in rows {
        let mut add = |how: &str, load| {
            let lost = usual.extra_changes(row, load);
            let names: Vec<_> = lost.into_iter().map(register).collect();
            if !names.is_empty() {
                lines
                    .entry(names)
                    .or_default()
                    .push(format!("{} ({how})", row.name()));
            }
        };
        add("alone", row.as_is);
        if let Some(consent) = Consent::ALL
            .into_iter()
            .find(|consent| row.runs(*consent).is_some())
        {
            add(&format!("cpreg, {}", consent.name()), row.load(consent));
        }
    }
    if !lines.is_empty() {
        writeln!(text, "\nChanged besides those:\n")?;
        for (registers, loads) in lines {
            writeln!(text, "* {}: {}", registers.join(", "), loads.join("; "))?;
        }
    }
    Ok(())
}

/// What cpreg refuses and QEMU takes; what cpreg writes and QEMU does not take; guests whose time changed.
fn write_anomalies(text: &mut String, rows: &[PairRow<'_>], wrong: &mut Vec<String>) -> Result<()> {
    let stricter: Vec<_> = rows
        .iter()
        .filter(|row| row.runs_as_is && row.runs(Consent::None).is_none())
        .collect();
    if stricter.is_empty() {
        writeln!(text, "\nNo pair that QEMU loads alone is refused.")?;
    } else {
        writeln!(
            text,
            "\nRefused without consent, though QEMU loads it alone:\n"
        )?;
        for row in stricter {
            let reasons = row.reasons(Consent::None);
            if reasons.is_empty() {
                wrong.push(format!(
                    "{}: {}: refused without a reason",
                    row.cpu,
                    row.name()
                ));
            }
            let shown = reasons
                .iter()
                .take(MAX_REASONS)
                .copied()
                .collect::<Vec<_>>();
            writeln!(text, "* {}: {}", row.name(), shown.join("; "))?;
        }
    }
    for row in rows {
        for consent in Consent::ALL {
            if row.runs(consent) == Some(false) {
                let load = &row.cpreg[consent.name()]["load"];
                wrong.push(format!(
                    "{}: {}: what cpreg wrote ({}) does not run: {}",
                    row.cpu,
                    row.name(),
                    consent.name(),
                    describe_failure(load)
                ));
            }
        }
    }
    let taken_in_vain: Vec<_> = rows
        .iter()
        .filter(|row| row.as_is["resumed"] == true && !row.runs_as_is)
        .map(|row| format!("* {}: {}", row.name(), describe_failure(row.as_is)))
        .collect();
    if !taken_in_vain.is_empty() {
        writeln!(
            text,
            "\nQEMU alone takes it, and the guest does not go on:\n\n{}",
            taken_in_vain.join("\n")
        )?;
    }
    let mut clocks: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    for row in rows {
        let mut loads = vec![row.as_is];
        loads.extend(Consent::ALL.map(|consent| &row.cpreg[consent.name()]["load"]));
        let has =
            |load: &&Value, name: &str| load[name].as_array().is_some_and(|list| !list.is_empty());
        if loads
            .iter()
            .any(|load| has(load, "counters") || has(load, "silent_timers"))
        {
            clocks.insert((row.source, row.destination), true);
        }
    }
    if !clocks.is_empty() {
        let pairs: Vec<_> = clocks
            .keys()
            .map(|(from, to)| format!("{from} -> {to}"))
            .collect();
        writeln!(
            text,
            "\nThe guest runs, but a counter of its went back or leapt, or a timer did not fire in time, with at least one QEMU: {}.",
            pairs.join(", ")
        )?;
    }
    Ok(())
}

/// What was wrong with a load.
fn describe_failure(load: &Value) -> String {
    let errors: Vec<_> = list(load, "errors").collect();
    let taken = if load["resumed"] == true {
        "the guest does not go on"
    } else {
        "QEMU does not take it"
    };
    format!("{taken}: {}", errors.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(alone: bool, none: &Value, all: &Value) -> Value {
        json!({"cpu": "max", "source": "6.1", "destination": "6.12", "qemu": "10.0",
               "as_is": {"runs": alone, "resumed": alone},
               "cpreg": {"none": none, "low": none, "all": all}})
    }

    #[test]
    fn the_document_tells_what_is_wrong() {
        let refused = json!({"verdict": "refused", "reasons": ["A 0x1, there -: why"]});
        let silent = json!({"verdict": "refused", "reasons": []});
        let runs = json!({"verdict": "converts", "load": {"runs": true, "resumed": true}});
        let fails = json!({"verdict": "converts", "load": {"runs": false, "errors": ["no"]}});
        let told = |line: &Value| {
            let (mut text, mut wrong) = (String::new(), Vec::new());
            section(&mut text, &[PairRow::read(line).unwrap()], &mut wrong).unwrap();
            (text, wrong)
        };
        let (text, wrong) = told(&row(false, &refused, &runs));
        assert!(text.contains("| QEMU 10.0 | 0 | 0 | 0 | 1 |"), "{text}");
        assert!(text.contains("| 6.1 | a |"), "{text}");
        assert!(wrong.is_empty());
        let (text, wrong) = told(&row(true, &refused, &refused));
        assert!(text.contains("though QEMU loads it alone:\n\n* 6.1 -> 6.12, QEMU 10.0: A 0x1"));
        assert!(text.contains("  * A 0x1, there -: why"));
        assert!(wrong.is_empty());
        assert_eq!(told(&row(true, &silent, &runs)).1.len(), 1);
        let wrong = told(&row(false, &runs, &fails)).1;
        assert_eq!(
            wrong,
            [
                "max: 6.1 -> 6.12, QEMU 10.0: what cpreg wrote (all) does not run: QEMU does not take it: no"
            ]
        );
    }
}
