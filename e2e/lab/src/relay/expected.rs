//! Results of the matrix for a source and a destination (`docs/kvm-matrix/CPU.jsonl`): the load
//! without cpreg, and with each consent.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::matrix::outcome::GuestOutcome;
use crate::matrix::row::{PairRow, SameKernelChanges};
use e2e_framework::Result;

/// Consents of the matrix, from none to all proposals: name in the matrix, and cpreg's options. The
/// lines of the matrix also name the registers of high severity.
const CONSENTS: [(&str, &[&str]); 3] = [
    ("none", &[]),
    ("low", &["--accept", "low"]),
    ("all", &["--accept", "medium"]),
];

/// Expectations for one source and destination.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// Error lines of the destination's QEMU without cpreg; `None` if the guest runs without cpreg.
    pub(crate) failure: Option<Vec<String>>,
    /// Options for the smallest consent with which the guest runs.
    pub(crate) consent: Vec<String>,
    /// Changes that the guest finds with that consent: `PMCNTENSET_EL0 000000008000003f
    /// 0000000000000000`.
    pub(crate) differences: Vec<String>,
    /// Registers that changed for guests of this QEMU between two hosts with the same kernel,
    /// whichever it is. It depends on the moment at which the guest was stopped.
    pub(crate) unstable_registers: Vec<String>,
    /// Changes that the guest may find if it stays at the source. QEMU saves and writes back its
    /// registers there too, and some kernels do not keep these values.
    pub(crate) source_differences: Vec<String>,
    /// Names of the blockers without consent.
    pub(crate) blockers: Vec<String>,
}

impl Expected {
    /// Reads the lines for this source and destination.
    ///
    /// # Errors
    /// Returns an error if the matrix has no line for the pair, or the guest cannot be moved with
    /// any consent.
    pub(crate) fn read(
        folder: &Path,
        cpu: &str,
        source: &str,
        destination: &str,
        series: &str,
    ) -> Result<Self> {
        let path = folder.join(format!("{cpu}.jsonl"));
        let text = fs::read_to_string(&path).map_err(|error| {
            format!("{}: {error} (run `cargo xtask lab matrix`)", path.display())
        })?;
        let rows: Vec<Value> = text
            .lines()
            .map(serde_json::from_str)
            .collect::<std::result::Result<_, _>>()?;
        let row = |to: &str| {
            let members = [("source", source), ("destination", to), ("qemu", series)];
            let mut rows = rows.iter();
            let row = rows.find(|row| members.iter().all(|(name, value)| row[name] == *value));
            row.ok_or_else(|| {
                format!(
                    "{}: no line for QEMU {series} from {source} to {to}; run `cargo xtask lab \
                     matrix`",
                    path.display()
                )
            })
        };
        let expected = Self::from_rows(row(destination)?, row(source)?).map_err(|error| {
            format!(
                "{}: {source} to {destination}: {error} (see `lab matrix`)",
                path.display()
            )
        })?;
        let pairs = rows.iter().filter_map(PairRow::read);
        let pairs: Vec<_> = pairs.filter(|pair| pair.qemu == series).collect();
        let same_kernel = SameKernelChanges::from_rows(&pairs);
        // Kernels up to 6.1 lose a timer at every load, and later ones never do.
        let unstable = same_kernel
            .registers()
            .filter(|register| !register.starts_with("CNT"));
        Ok(Self {
            unstable_registers: unstable.map(str::to_owned).collect(),
            ..expected
        })
    }

    /// Builds the expectations from the line of the pair, and that of the source with itself.
    fn from_rows(row: &Value, source_row: &Value) -> std::result::Result<Self, &'static str> {
        let at_source =
            GuestOutcome::from_json(&source_row["as_is"]).ok_or("not a line of the matrix")?;
        let as_is = GuestOutcome::from_json(&row["as_is"]).ok_or("not a line of the matrix")?;
        let with_consent = |name: &str| &row["cpreg"][name];
        let smallest = CONSENTS.iter().find_map(|(name, consent)| {
            let outcome = GuestOutcome::from_json(&with_consent(name)["load"])?;
            let options = row["run"][name]["options"].as_array().map(|options| {
                let options = options.iter().filter_map(Value::as_str);
                options.map(str::to_owned).collect()
            });
            let options = options
                .unwrap_or_else(|| consent.iter().map(ToString::to_string).collect::<Vec<_>>());
            outcome
                .is_running()
                .then_some((options, outcome.differences))
        });
        let (consent, differences) =
            smallest.ok_or("the guest runs at the destination with no consent")?;
        let reasons = with_consent("none")["reasons"]
            .as_array()
            .into_iter()
            .flatten();
        Ok(Self {
            failure: (!as_is.is_running()).then_some(as_is.errors),
            consent,
            differences,
            unstable_registers: Vec::new(),
            source_differences: at_source.differences,
            blockers: reasons
                .filter_map(|reason| Some(reason.as_str()?.split(' ').next()?.to_owned()))
                .collect(),
        })
    }
}

/// Returns the first difference whose register is not in `known`. Values are not compared,
/// because a register that a kernel does not keep per guest may hold any other guest's value.
pub(crate) fn find_unknown<'a>(differences: &'a [String], known: &[String]) -> Option<&'a String> {
    let name = |difference: &String| difference.split(' ').next().map(str::to_owned);
    let known: Vec<_> = known.iter().map(name).collect();
    differences
        .iter()
        .find(|difference| !known.contains(&name(difference)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn load(runs: bool, differences: &[&str], errors: &[&str]) -> Value {
        json!({
            "resumed": runs, "goes_on": runs, "differences": differences, "counters": [],
            "silent_timers": [], "errors": errors,
        })
    }

    #[test]
    fn the_smallest_sufficient_consent_is_expected() {
        let row = json!({
            "as_is": load(false, &[], &["load of migration failed: Invalid argument"]),
            "cpreg": {
                "none": {"load": null, "reasons": ["PSCI_VERSION 0x10003, destination 0x10001: reason"]},
                "low": {"load": load(true, &["X7 1 2"], &[]), "reasons": []},
                "all": {"load": load(true, &[], &[]), "reasons": []},
            },
        });
        let source_row = json!({"as_is": load(true, &["X8 1 2"], &[])});
        let expected = Expected::from_rows(&row, &source_row).unwrap();
        assert_eq!(expected.source_differences, ["X8 1 2"]);
        assert_eq!(expected.consent, ["--accept", "low"]);
        assert_eq!(expected.differences, ["X7 1 2"]);
        assert_eq!(expected.blockers, ["PSCI_VERSION"]);
        assert_eq!(
            expected.failure.unwrap(),
            ["load of migration failed: Invalid argument"]
        );
        // A pair that never runs has no expectations.
        assert!(Expected::from_rows(&source_row, &source_row).is_err());
    }

    #[test]
    fn recorded_results_are_read() {
        let folder = e2e_framework::paths::repository().join("docs/kvm-matrix");
        let read = |source, destination| {
            Expected::read(&folder, "neoverse-n1", source, destination, "10.0").unwrap()
        };
        let forward = read("6.12.107", "7.3.4");
        let is_unstable = |name: &str| forward.unstable_registers.iter().any(|it| it == name);
        assert!(is_unstable("OSDTRRX_EL1") && !is_unstable("SCTLR_EL1"));
        assert!(forward.failure.is_some());
        assert!(
            read("7.3.4", "6.12.107")
                .blockers
                .contains(&"PSCI_VERSION".to_owned())
        );
    }
}
