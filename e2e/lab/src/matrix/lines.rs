//! Lines of `CPU.jsonl`: a JSON object for each pair, in the order of the tables.
//!
//! A run replaces the lines of its pairs, and keeps all others.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::outcome::GuestOutcome;
use super::pair::Pair;
use e2e_framework::Result;

/// Place of a line: QEMU, source, destination.
type LineKey = (Vec<u64>, Vec<u64>, Vec<u64>, [String; 3]);

/// Reads the lines of a file; none if the file is missing.
///
/// # Errors
/// Returns an error if the file cannot be read, or a line is not JSON.
pub(crate) fn read(file: &Path) -> Result<Vec<Value>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(file)?;
    let lines: std::result::Result<Vec<Value>, _> =
        text.lines().map(serde_json::from_str).collect();
    lines.map_err(|error| format!("{}: {error}", file.display()).into())
}

/// Replaces the lines of these pairs in a file of the matrix. A pair without an unconverted load
/// only gets its loads through `cpreg run`.
///
/// # Errors
/// Returns an error if the file cannot be read or written, or has no line for such a pair.
pub(crate) fn update(file: &Path, pairs: &[Pair]) -> Result<()> {
    let old = read(file)?;
    let mut lines = Vec::new();
    for pair in pairs {
        let mut new = to_json(pair);
        if pair.as_is.is_none() {
            let key = line_key(&new);
            let line = old.iter().find(|line| line_key(line) == key);
            let mut line = line.cloned().ok_or_else(|| {
                format!(
                    "{}: no line for QEMU {} from {} to {}; run `lab matrix` without --only-run",
                    file.display(),
                    pair.series,
                    pair.source,
                    pair.destination
                )
            })?;
            line["run"] = new["run"].take();
            new = line;
        }
        lines.push(new);
    }
    replace(file, lines)
}

/// Replaces the lines of the same pairs in a file, and keeps all others.
///
/// # Errors
/// Returns an error if the file cannot be read or written.
pub(crate) fn replace(file: &Path, new: Vec<Value>) -> Result<()> {
    let lines = read(file)?.into_iter().chain(new);
    let lines: BTreeMap<LineKey, Value> = lines.map(|line| (line_key(&line), line)).collect();
    let mut text = String::new();
    for line in lines.values() {
        writeln!(text, "{line}")?;
    }
    fs::write(file, text)?;
    Ok(())
}

fn line_key(line: &Value) -> LineKey {
    let names = ["qemu", "source", "destination"];
    let texts = names.map(|name| line[name].as_str().unwrap_or_default().to_owned());
    let [qemu, source, destination] = texts.each_ref().map(|text| version_numbers(text));
    (qemu, source, destination, texts)
}

/// Returns the numbers of a version. Other words come after all numbers.
fn version_numbers(version: &str) -> Vec<u64> {
    let words = version.split('.');
    words.map(|word| word.parse().unwrap_or(u64::MAX)).collect()
}

fn to_json(pair: &Pair) -> Value {
    let mut cpreg = Map::new();
    for (consent, conversion, load) in &pair.converted {
        cpreg.insert(
            consent.name().to_owned(),
            json!({
                "verdict": conversion.verdict,
                "reasons": conversion.reasons,
                "load": load.as_ref().map(GuestOutcome::to_json),
            }),
        );
    }
    let mut run = Map::new();
    for load in &pair.run {
        run.insert(
            load.consent.name().to_owned(),
            json!({
                "options": load.options,
                "blockers": load.blockers,
                "load": load.outcome.to_json(),
            }),
        );
    }
    json!({
        "cpu": pair.cpu,
        "source": pair.source,
        "destination": pair.destination,
        "qemu": pair.series,
        "known_as": pair.destination_spec,
        "as_is": pair.as_is.as_ref().map(GuestOutcome::to_json),
        "cpreg": cpreg,
        "run": run,
    })
}

#[cfg(test)]
mod tests {
    use super::super::convert::Consent;
    use super::super::pair::RunLoad;
    use super::*;

    fn pair(source: &str, as_is: Option<GuestOutcome>) -> Pair {
        Pair {
            cpu: "max".to_owned(),
            source: source.to_owned(),
            destination: "6.1.176".to_owned(),
            series: "10.0".to_owned(),
            destination_spec: String::new(),
            as_is,
            converted: Vec::new(),
            run: vec![RunLoad {
                consent: Consent::None,
                options: Vec::new(),
                blockers: Vec::new(),
                outcome: GuestOutcome::default(),
            }],
        }
    }

    #[test]
    fn a_run_keeps_the_lines_of_other_pairs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("max.jsonl");
        let whole = || Some(GuestOutcome::default());
        update(
            &file,
            &[pair("6.12.107", whole()), pair("6.1.176", whole())],
        )
        .unwrap();
        let mut lines = read(&file).unwrap();
        assert_eq!(lines[0]["source"], "6.1.176");
        // A line of before the loads through `cpreg run`.
        lines[0].as_object_mut().unwrap().remove("run");
        fs::write(&file, format!("{}\n{}\n", lines[0], lines[1])).unwrap();
        update(&file, &[pair("6.1.176", None)]).unwrap();
        let updated = read(&file).unwrap();
        assert_eq!(updated[1], lines[1]);
        assert_eq!(updated[0]["as_is"], lines[0]["as_is"]);
        assert_eq!(updated[0]["run"], lines[1]["run"]);
        assert!(update(&file, &[pair("7.3.4", None)]).is_err());
    }
}
