//! What cpreg makes of each pair: once as it is, once with each kind of consent. It runs on this machine, before anything boots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cpreg_report::check::model::CheckReport;
use cpreg_report::names::{Decision, Verdict};
use e2e_framework::{Result, report, tool};

/// What the user consents to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Consent {
    None,
    /// `--accept low`.
    Low,
    /// All that is proposed: `--accept high`.
    AllProposed,
}

impl Consent {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Low, Self::AllProposed];

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Low => &["--accept", "low"],
            Self::AllProposed => &["--accept", "high"],
        }
    }

    /// Its name in results and file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::AllProposed => "all",
        }
    }
}

/// What came of `cpreg convert`.
#[derive(Clone, Debug)]
pub(crate) struct Conversion {
    /// `loads`, `converts`, `refused` or `unknown`.
    pub(crate) verdict: String,
    /// What stands in the way, a line for each register or extension: name, both values, why.
    pub(crate) reasons: Vec<String>,
    /// The new stream, if there is one.
    pub(crate) stream: Option<PathBuf>,
}

/// Converts `source` for `destination`, a name or file that cpreg takes, whose QEMU is of that series.
///
/// # Errors
/// If cpreg says neither yes nor no.
pub(crate) fn convert(
    cpreg: &Path,
    source: &Path,
    destination: &str,
    series: &str,
    consent: Consent,
    output: &Path,
) -> Result<Conversion> {
    let mut command = Command::new(cpreg);
    command
        .arg("convert")
        .arg(source)
        .args(["--to", destination, "--loader", &format!("qemu-{series}")])
        .args(consent.arguments())
        .args(["--format", "json", "--force", "-o"])
        .arg(output);
    let done = command
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", tool::format_command(&command)))?;
    let said: CheckReport = report::parse(&done.stdout).map_err(|error| {
        let said = String::from_utf8_lossy(&done.stderr);
        format!(
            "`{}`: {error}\n{}",
            tool::format_command(&command),
            said.trim_end()
        )
    })?;
    let verdict = &said.verdict;
    let written = [Verdict::LOADS, Verdict::CONVERTS].contains(verdict);
    if written != done.status.success() || (written && !fs::exists(output)?) {
        return Err(format!(
            "`{}`: {verdict}, and {}",
            tool::format_command(&command),
            done.status
        )
        .into());
    }
    Ok(Conversion {
        verdict: verdict.name().to_owned(),
        reasons: reasons(&said)?,
        stream: written.then(|| output.to_owned()),
    })
}

/// What a report says stands in the way.
fn reasons(report: &CheckReport) -> Result<Vec<String>> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let registers = report.decisions.iter().map(|it| {
        let values = (text(&it.source), text(&it.destination));
        (&it.decision, &it.name, values, &it.reason)
    });
    let extensions = report.extensions.iter().map(|it| {
        let values = (text(&it.source), text(&it.destination));
        (&it.decision, &it.name, values, &it.reason)
    });
    let mut reasons: Vec<_> = registers
        .chain(extensions)
        .filter(|(decision, ..)| [Decision::REFUSE, Decision::UNKNOWN].contains(decision))
        .map(|(_, name, (source, host), reason)| format!("{name} {source}, there {host}: {reason}"))
        .collect();
    for difference in &report.shape {
        reasons.push(serde_json::to_value(difference)?.to_string());
    }
    Ok(reasons)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reasons_are_what_is_not_taken() {
        let end = json!({"name": "", "accelerator": null, "vcpus": 1});
        let [mut source, mut destination] = [end.clone(), end];
        for name in ["machine", "run_state"] {
            source[name] = json!(null);
        }
        source["open_method"] = json!("");
        destination["provenance"] = json!("");
        destination["loader"] = json!(null);
        let decision = |name: &str, host: Option<&str>, decision: &str, reason: &str| {
            json!({
                "vcpus": "0", "id": "0x6030000000138001", "name": name, "source": "0x1", "destination": host,
                "listed": true, "decision": decision, "confidence": "proven", "tolerance": null,
                "reason": reason, "advice": null,
            })
        };
        let report = json!({
            "schema": "cpreg.check/2", "verdict": "refused", "scope": "", "source": source,
            "destination": destination,
            "shape": [{"kind": "RAM", "source": "1", "destination": null, "blocks": true}],
            "decisions": [
                decision("A", Some("0x2"), "copy", "fine"),
                decision("B", None, "refuse", "not there"),
            ],
            "extensions": [], "visible_changes": [],
            "adjustments": {"accepted": [], "proposed": [], "verdict_with_all": "refused"},
            "next_steps": [], "loaders": [], "dry_run": null,
        });
        let report = report::parse(report.to_string().as_bytes()).unwrap();
        assert_eq!(
            reasons(&report).unwrap(),
            [
                "B 0x1, there -: not there",
                r#"{"destination":null,"blocks":true,"source":"1","kind":"RAM"}"#
            ]
        );
    }
}
