//! Conversion of the stream of each pair by cpreg: without consent, and with each kind of consent.
//! The conversion runs on this machine and needs no boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use cpreg_report::check::model::CheckReport;
use cpreg_report::names::{Decision, Verdict};
use e2e_framework::{Result, report, tool};

/// Consent of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Consent {
    None,
    /// `--accept low`.
    Low,
    /// All proposed adjustments: `--accept medium`, and by name those of high severity.
    AllProposed,
}

impl Consent {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Low, Self::AllProposed];

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Low => &["--accept", "low"],
            Self::AllProposed => &["--accept", "medium"],
        }
    }

    /// Returns the name of the consent in results and file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::AllProposed => "all",
        }
    }
}

/// Result of `cpreg convert`.
#[derive(Clone, Debug)]
pub(crate) struct Conversion {
    /// `loads`, `converts`, `refused` or `unknown`.
    pub(crate) verdict: String,
    /// Blockers, a line for each register or extension: name, both values, reason.
    pub(crate) reasons: Vec<String>,
    /// Names of the blockers.
    pub(crate) blockers: Vec<String>,
    /// Options that give the consent.
    pub(crate) options: Vec<String>,
    /// Path of the converted stream; `None` if cpreg wrote no stream.
    pub(crate) stream: Option<PathBuf>,
}

/// Converts `source` for `destination`, a name or file that cpreg accepts. The destination's QEMU
/// is of that series.
///
/// # Errors
/// Returns an error if cpreg neither converts nor refuses the stream.
pub(crate) fn convert(
    cpreg: &Path,
    source: &Path,
    destination: &str,
    series: &str,
    consent: Consent,
    output: &Path,
) -> Result<Conversion> {
    let run = |options: &[String]| {
        let mut command = Command::new(cpreg);
        command
            .arg("convert")
            .arg(source)
            .args([destination, "--loader", &format!("qemu-{series}")])
            .args(options)
            .args(["--format", "json", "--force", "-o"])
            .arg(output);
        run_convert(command)
    };
    let mut options: Vec<String> = consent
        .arguments()
        .iter()
        .map(ToString::to_string)
        .collect();
    let (mut check_report, mut status) = run(&options)?;
    let proposed = &check_report.adjustments.proposed;
    if consent == Consent::AllProposed && !proposed.is_empty() {
        let words = proposed.iter().flat_map(|one| one.consent.split(' '));
        options.extend(words.map(str::to_owned));
        (check_report, status) = run(&options)?;
    }
    let verdict = &check_report.verdict;
    let should_write = [Verdict::LOADS, Verdict::CONVERTS].contains(verdict);
    if should_write != status.success() || (should_write && !fs::exists(output)?) {
        return Err(format!(
            "cpreg convert {} {destination}: verdict {verdict}, but {status}",
            source.display()
        )
        .into());
    }
    Ok(Conversion {
        verdict: verdict.name().to_owned(),
        reasons: reasons(&check_report)?,
        blockers: blockers(&check_report),
        options,
        stream: should_write.then(|| output.to_owned()),
    })
}

/// Runs `cpreg convert`, and returns its report and exit status.
fn run_convert(mut command: Command) -> Result<(CheckReport, ExitStatus)> {
    let process = command
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", tool::format_command(&command)))?;
    let check_report = report::parse(&process.stdout).map_err(|error| {
        let stderr = String::from_utf8_lossy(&process.stderr);
        format!(
            "`{}`: {error}\n{}",
            tool::format_command(&command),
            stderr.trim_end()
        )
    })?;
    Ok((check_report, process.status))
}

/// Returns the names of the registers and extensions that block the load.
fn blockers(report: &CheckReport) -> Vec<String> {
    let registers = report.decisions.iter();
    let registers = registers.map(|decision| (&decision.decision, &decision.name));
    let extensions = report.extensions.iter();
    let extensions = extensions.map(|decision| (&decision.decision, &decision.name));
    registers
        .chain(extensions)
        .filter(|(decision, _)| [Decision::REFUSE, Decision::UNKNOWN].contains(decision))
        .map(|(_, name)| name.clone())
        .collect()
}

/// Returns the blockers in a report.
fn reasons(report: &CheckReport) -> Result<Vec<String>> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let registers = report.decisions.iter().map(|decision| {
        let values = (text(&decision.source), text(&decision.destination));
        (&decision.decision, &decision.name, values, &decision.reason)
    });
    let extensions = report.extensions.iter().map(|decision| {
        let values = (text(&decision.source), text(&decision.destination));
        (&decision.decision, &decision.name, values, &decision.reason)
    });
    let mut reasons: Vec<_> = registers
        .chain(extensions)
        .filter(|(decision, ..)| [Decision::REFUSE, Decision::UNKNOWN].contains(decision))
        .map(|(_, name, (source, destination), reason)| {
            format!("{name} {source}, destination {destination}: {reason}")
        })
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
    fn reasons_are_the_blockers() {
        let end = json!({"name": "", "accelerator": null, "vcpus": 1});
        let [mut source, mut destination] = [end.clone(), end];
        for name in ["machine", "run_state"] {
            source[name] = json!(null);
        }
        source["open_method"] = json!("");
        destination["provenance"] = json!("");
        destination["loader"] = json!(null);
        let decision = |name: &str, value: Option<&str>, decision: &str, reason: &str| {
            json!({
                "vcpus": "0", "id": "0x6030000000138001", "name": name, "source": "0x1", "destination": value,
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
            "blockers": [], "written": null, "cpreg_version": "", "next_command": null,
            "next_steps": [], "loaders": [], "missing_facts": [], "dry_run": null, "hardware": [],
        });
        let report = report::parse(report.to_string().as_bytes()).unwrap();
        assert_eq!(blockers(&report), ["B"]);
        assert_eq!(
            reasons(&report).unwrap(),
            [
                "B 0x1, destination -: not there",
                r#"{"blocks":true,"destination":null,"kind":"RAM","source":"1"}"#
            ]
        );
    }
}
