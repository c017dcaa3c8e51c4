//! Loads through `cpreg run` in the tables, and their comparison with `cpreg convert`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::convert::Consent;
use super::row::{
    PairRow, SameKernelChanges, describe_failure, distinct, is_stuck, register_name, texts,
};
use e2e_framework::Result;

/// Part of the reason of a blocker that the VM's ID registers hide.
const HIDDEN: &str = "hides it at the destination";

/// Load through `cpreg run` with one consent.
struct RunRow<'a> {
    consent: Consent,
    /// Names of the blockers of `cpreg convert`.
    blockers: Vec<&'a str>,
    /// Names of the blockers of `cpreg convert` that do not block `cpreg run`: QEMU fails to write
    /// a register that the VM's ID registers hide.
    hidden: Vec<&'a str>,
    load: &'a Value,
}

fn run_rows<'a>(row: &PairRow<'a>) -> Vec<RunRow<'a>> {
    let consents = Consent::ALL.into_iter();
    let loads = consents.filter_map(|consent| {
        let run = row.run.get(consent.name())?;
        let reasons = texts(&row.cpreg[consent.name()], "reasons");
        let hidden = reasons.filter(|reason| reason.contains(HIDDEN));
        Some(RunRow {
            consent,
            blockers: texts(run, "blockers").collect(),
            hidden: hidden.map(register_name).collect(),
            load: &run["load"],
        })
    });
    loads.collect()
}

impl<'a> RunRow<'a> {
    fn is_running(&self) -> bool {
        self.load["runs"] == true
    }

    /// Returns the names of the registers that block the load, according to cpreg.
    fn refused(&self) -> Vec<&'a str> {
        let lines = texts(self.load, "cpreg").filter_map(|line| {
            let (name, _) = line.strip_prefix("  ")?.split_once(" (vCPU ")?;
            Some(name)
        });
        distinct(lines)
    }

    /// Returns the names of the registers that cpreg ignored or changed.
    fn changed(&self) -> Vec<&'a str> {
        let lines = texts(self.load, "cpreg").filter_map(|line| {
            let (_, lists) = line.split_once("the incoming VM loads; ignored: ")?;
            Some(lists)
        });
        let words = lines.flat_map(|lists| lists.split([' ', ',', ';', ':']));
        words.filter(|word| !word.is_empty()).collect()
    }

    /// Returns the changes, except those of registers that change on some kernel even between two
    /// hosts with that kernel. The moment of the save decides if such a register changes.
    fn changes(&self, same_kernel: &SameKernelChanges<'_>) -> impl Iterator<Item = &'a str> {
        let unkept: Vec<_> = same_kernel.registers().collect();
        let changes = texts(self.load, "differences");
        changes.filter(move |change| !unkept.contains(&register_name(change)))
    }

    /// Returns `true` if the guest must run.
    fn should_run(&self) -> bool {
        let mut blockers = self.blockers.iter();
        blockers.all(|name| self.hidden.contains(name))
    }

    /// Returns the load of a converted stream with this consent. If `cpreg convert` needs a greater
    /// one because of hidden registers, returns the load with that consent.
    ///
    /// Both loads show the changes of registers that no list holds.
    fn converted(&self, row: &PairRow<'a>) -> &'a Value {
        let consents = Consent::ALL.into_iter();
        let mut greater = consents.filter(|consent| *consent >= self.consent);
        let sufficient = greater.find(|consent| !row.load(*consent).is_null());
        row.load(sufficient.unwrap_or(self.consent))
    }

    /// Compares the load with `cpreg convert` for the same pair and consent.
    fn check(
        &self,
        row: &PairRow<'_>,
        same_kernel: &SameKernelChanges<'_>,
    ) -> std::result::Result<(), String> {
        let cpreg: Vec<_> = texts(self.load, "cpreg").collect();
        if self.should_run() {
            if !self.is_running() {
                let failure = describe_failure(self.load);
                return Err(format!("not moved: {failure}; cpreg: {}", cpreg.join(" ")));
            }
            if is_stuck(self.load) {
                return Err(describe_failure(self.load));
            }
            let converted = self.converted(row);
            let converted = texts(converted, "differences").map(register_name);
            let expected: Vec<_> = converted.chain(self.changed()).collect();
            let unexpected: Vec<_> = self
                .changes(same_kernel)
                .filter(|change| !expected.contains(&register_name(change)))
                .collect();
            return match unexpected.as_slice() {
                [] => Ok(()),
                changes => Err(format!("changes that no plan lists: {changes:?}")),
            };
        }
        if self.load["resumed"] == true {
            return Err(format!(
                "QEMU runs a VM that convert refuses for {:?}",
                self.blockers
            ));
        }
        let refused = self.refused();
        let other: Vec<_> = refused
            .iter()
            .filter(|name| !self.blockers.contains(*name))
            .collect();
        if refused.is_empty() || !other.is_empty() {
            return Err(format!(
                "refused for other reasons than {:?}: {:?}; cpreg: {}; QEMU: {}",
                self.blockers,
                other,
                cpreg.join(" "),
                describe_failure(self.load)
            ));
        }
        Ok(())
    }
}

/// Returns the symbol of the smallest sufficient consent; a blank for a pair without such loads.
pub(crate) fn symbol(row: &PairRow<'_>, same_kernel: &SameKernelChanges<'_>) -> char {
    let loads = run_rows(row);
    if loads.is_empty() {
        return ' ';
    }
    let Some(load) = loads.iter().find(|load| load.is_running()) else {
        let should_run = loads.iter().any(RunRow::should_run);
        return if should_run { '!' } else { '-' };
    };
    match load.consent {
        _ if is_stuck(load.load) => '!',
        _ if load.changes(same_kernel).next().is_some() => '~',
        Consent::None => '+',
        Consent::Low => 'l',
        Consent::AllProposed => 'a',
    }
}

/// Writes a line of the table of counts, if there are loads through `cpreg run`.
pub(crate) fn write_counts(text: &mut String, series: &str, rows: &[&PairRow<'_>]) -> Result<()> {
    let tried: Vec<_> = rows
        .iter()
        .map(|row| run_rows(row))
        .filter(|loads| !loads.is_empty())
        .collect();
    if tried.is_empty() {
        return Ok(());
    }
    write!(
        text,
        "| QEMU {series}, `cpreg run` ({} pairs) | |",
        tried.len()
    )?;
    for consent in Consent::ALL {
        // A consent that suffices is contained in the greater ones, which are not tried.
        let count = tried.iter().filter(|loads| {
            let mut loads = loads.iter();
            loads.any(|load| load.consent <= consent && load.is_running() && !is_stuck(load.load))
        });
        write!(text, " {} |", count.count())?;
    }
    writeln!(text)?;
    Ok(())
}

/// Lists the refusals of `cpreg run` that name fewer registers than `cpreg convert`.
pub(crate) fn write_refusals(text: &mut String, rows: &[PairRow<'_>]) -> Result<()> {
    let mut by_names: BTreeMap<Vec<&str>, Vec<String>> = BTreeMap::new();
    for row in rows {
        for load in run_rows(row) {
            let refused = load.refused();
            let blockers = load.blockers.iter().copied();
            let missing: Vec<_> = blockers.filter(|name| !refused.contains(name)).collect();
            if !refused.is_empty() && !missing.is_empty() {
                let name = format!("{} ({})", row.name(), load.consent.name());
                by_names.entry(missing).or_default().push(name);
            }
        }
    }
    if by_names.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "\nBlockers of `cpreg convert` that the refusal of `cpreg run` does not name:\n"
    )?;
    for (names, pairs) in by_names {
        writeln!(text, "* {}: {}", names.join(", "), pairs.join("; "))?;
    }
    Ok(())
}

/// Adds the loads that differ from `cpreg convert` to `wrong`.
pub(crate) fn check(
    rows: &[PairRow<'_>],
    same_kernel: &SameKernelChanges<'_>,
    wrong: &mut Vec<String>,
) {
    for row in rows {
        for load in run_rows(row) {
            if let Err(reason) = load.check(row, same_kernel) {
                wrong.push(format!(
                    "{}: {}: cpreg run ({}): {reason}",
                    row.cpu,
                    row.name(),
                    load.consent.name()
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(blockers: &[&str], load: &Value) -> Value {
        json!({
            "cpu": "max", "source": "6.1", "destination": "6.12", "qemu": "10.0",
            "as_is": {"runs": false},
            "cpreg": {"none": {"load": {"differences": ["X7 1 2"]}}},
            "run": {"none": {"options": [], "blockers": blockers, "load": load}},
        })
    }

    fn check_line(line: &Value) -> (char, Vec<String>) {
        let rows = [PairRow::read(line).unwrap()];
        let same_kernel = SameKernelChanges::from_rows(&rows);
        let mut wrong = Vec::new();
        check(&rows, &same_kernel, &mut wrong);
        (symbol(&rows[0], &same_kernel), wrong)
    }

    #[test]
    fn a_pair_that_convert_moves_must_run() {
        let runs = |change: &str| {
            json!({
                "runs": true, "resumed": true, "differences": [change],
                "cpreg": ["vCPU 0: the incoming VM loads; ignored: TCR2_EL1; changed: A, B"],
            })
        };
        assert_eq!(check_line(&line(&[], &runs("X7 1 2"))), ('~', vec![]));
        assert_eq!(check_line(&line(&[], &runs("B 1 2"))), ('~', vec![]));
        assert_eq!(check_line(&line(&[], &runs("X8 1 2"))).1.len(), 1);
        let intact = json!({"runs": true, "resumed": true});
        assert_eq!(check_line(&line(&[], &intact)), ('+', vec![]));
        let fails = json!({"runs": false, "errors": ["no"]});
        let (symbol, wrong) = check_line(&line(&[], &fails));
        assert_eq!((symbol, wrong.len()), ('!', 1));
        let stuck = json!({"runs": true, "resumed": true, "saved_again": false});
        let (symbol, wrong) = check_line(&line(&[], &stuck));
        assert_eq!((symbol, wrong.len()), ('!', 1));
        // A pair that convert refuses must not run, unless QEMU's writes are the only reason.
        let mut refused = line(&["A"], &intact);
        assert_eq!(check_line(&refused).1.len(), 1);
        refused["cpreg"]["none"]["reasons"] = json!([format!("A -, destination 0x0: 0 {HIDDEN}")]);
        assert_eq!(check_line(&refused), ('+', vec![]));
    }

    #[test]
    fn a_refusal_names_the_blockers_of_convert() {
        let refusal = |names: &[&str]| {
            let lines = names
                .iter()
                .map(|name| format!("  {name} (vCPU 0): the VM has 1"));
            json!({"runs": false, "resumed": false, "cpreg": lines.collect::<Vec<_>>()})
        };
        assert_eq!(
            check_line(&line(&["A", "B"], &refusal(&["A"]))),
            ('-', vec![])
        );
        for names in [&["C"][..], &["A", "C"], &[]] {
            assert_eq!(check_line(&line(&["A", "B"], &refusal(names))).1.len(), 1);
        }
        let line = line(&["A", "B"], &refusal(&["A"]));
        let mut text = String::new();
        write_refusals(&mut text, &[PairRow::read(&line).unwrap()]).unwrap();
        assert!(
            text.contains("* B: 6.1 -> 6.12, QEMU 10.0 (none)"),
            "{text}"
        );
    }
}
