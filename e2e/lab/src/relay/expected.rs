//! What the matrix found of a source and a destination (`docs/kvm-matrix/CPU.jsonl`): the lab's guest as it is, and with what is consented to.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::matrix::outcome::GuestOutcome;
use e2e_framework::Result;

/// The consents of the matrix, from nothing to all that is proposed, and cpreg's argument for each.
const CONSENTS: [(&str, Option<&str>); 3] =
    [("none", None), ("low", Some("low")), ("all", Some("high"))];

/// What is to be expected of one source and destination.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// How the destination's QEMU fails with the guest as it is; nothing if it does not.
    pub(crate) failure: Option<Vec<String>>,
    /// What must be consented to for it to be taken.
    pub(crate) consent: Option<&'static str>,
    /// What the guest then finds changed: `PMCNTENSET_EL0 000000008000003f 0000000000000000`.
    pub(crate) differences: Vec<String>,
    /// What the guest may find changed where it is, having been looked at: what a QEMU reads of KVM it also writes back, and not every kernel takes that as it was.
    pub(crate) source_differences: Vec<String>,
    /// What stands in the way without any consent, by name; nothing if nothing does.
    pub(crate) blockers: Vec<String>,
}

impl Expected {
    /// Reads the line for these two.
    ///
    /// # Errors
    /// If there is none, or it says that the guest cannot be moved at all.
    pub(crate) fn read(
        folder: &Path,
        cpu: &str,
        source: &str,
        destination: &str,
        series: &str,
    ) -> Result<Self> {
        let path = folder.join(format!("{cpu}.jsonl"));
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error} (`lab matrix` makes it)", path.display()))?;
        let rows: Vec<Value> = text
            .lines()
            .map(serde_json::from_str)
            .collect::<std::result::Result<_, _>>()?;
        let row = |to: &str| {
            let wanted = [("source", source), ("destination", to), ("qemu", series)];
            let mut rows = rows.iter();
            let found = rows.find(|row| wanted.iter().all(|(name, value)| row[name] == *value));
            found.ok_or_else(|| {
                format!(
                    "{}: nothing of QEMU {series} from {source} to {to}; `cargo xtask lab \
                     matrix` finds it out",
                    path.display()
                )
            })
        };
        Self::from_rows(row(destination)?, row(source)?).map_err(|error| {
            format!(
                "{}: {source} to {destination}: {error} (see `lab matrix`)",
                path.display()
            )
            .into()
        })
    }

    /// Out of the line for the two, and that for the source alone.
    fn from_rows(row: &Value, home: &Value) -> std::result::Result<Self, &'static str> {
        let home = GuestOutcome::from_json(&home["as_is"]).ok_or("not a line of the matrix")?;
        let as_is = GuestOutcome::from_json(&row["as_is"]).ok_or("not a line of the matrix")?;
        let with = |name: &str| &row["cpreg"][name];
        let taken = CONSENTS.iter().find_map(|(name, consent)| {
            let outcome = GuestOutcome::from_json(&with(name)["load"])?;
            outcome
                .is_running()
                .then_some((*consent, outcome.differences))
        });
        let (consent, differences) = taken.ok_or("the guest runs there with no consent")?;
        let reasons = with("none")["reasons"].as_array().into_iter().flatten();
        Ok(Self {
            failure: (!as_is.is_running()).then_some(as_is.errors),
            consent,
            differences,
            source_differences: home.differences,
            blockers: reasons
                .filter_map(|reason| Some(reason.as_str()?.split(' ').next()?.to_owned()))
                .collect(),
        })
    }
}

/// The first difference that is of none of the registers in `known`. What such a register then holds is not compared: one that a kernel does not keep for its
/// guests holds what the guest before left there.
pub(crate) fn find_unknown<'a>(found: &'a [String], known: &[String]) -> Option<&'a String> {
    let name = |difference: &String| difference.split(' ').next().map(str::to_owned);
    let known: Vec<_> = known.iter().map(name).collect();
    found
        .iter()
        .find(|difference| !known.contains(&name(difference)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn load(runs: bool, differences: &[&str], errors: &[&str]) -> Value {
        json!({
            "resumed": runs, "guest_finished": runs, "differences": differences, "counters": [],
            "silent_timers": [], "errors": errors,
        })
    }

    #[test]
    fn the_least_consent_that_the_guest_runs_with() {
        let row = json!({
            "as_is": load(false, &[], &["load of migration failed: Invalid argument"]),
            "cpreg": {
                "none": {"load": null, "reasons": ["PSCI_VERSION 0x10003, there 0x10001: why"]},
                "low": {"load": load(true, &["X7 1 2"], &[]), "reasons": []},
                "all": {"load": load(true, &[], &[]), "reasons": []},
            },
        });
        let home = json!({"as_is": load(true, &["X8 1 2"], &[])});
        let expected = Expected::from_rows(&row, &home).unwrap();
        assert_eq!(expected.source_differences, ["X8 1 2"]);
        assert_eq!(expected.consent, Some("low"));
        assert_eq!(expected.differences, ["X7 1 2"]);
        assert_eq!(expected.blockers, ["PSCI_VERSION"]);
        assert_eq!(
            expected.failure.unwrap(),
            ["load of migration failed: Invalid argument"]
        );
        // Where nothing runs, nothing is expected.
        assert!(Expected::from_rows(&home, &home).is_err());
    }
}
